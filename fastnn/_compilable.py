"""Which models can be compiled, and what the kernels are told of them."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._arrays import (
    Array,
    as_batch,
    as_labels,
    as_labels_unread,
    as_targets,
    check_one_device,
    is_transposed,
    kernels_for,
)
from ._device import is_plain, xp_of
from .errors import CannotCompile
from .layers import Affine, MatMul, MeanSquaredError, Relu, Sigmoid, SoftmaxWithLoss, Tanh
from .optimizer import SGD, Optimizer

WHO = "fastnn.compile"
_ACTIVATIONS = {Relu: "relu", Sigmoid: "sigmoid", Tanh: "tanh"}
_LOSSES = {SoftmaxWithLoss: "softmax_with_loss", MeanSquaredError: "mean_squared_error"}


def layers_of(model: Any) -> list[Any]:
    """A model's layers in order."""
    layers = getattr(model, "layers", None)
    if not layers:
        raise CannotCompile(f"{WHO}: the model must have layers; {type(model).__name__} has none")
    return list(layers.values() if hasattr(layers, "values") else layers)


def loss_layer_of(model: Any) -> Any:
    """A model's loss layer, by one of its names; None where it has none."""
    names = ("loss_layer", "last_layer", "lastLayer")
    return next((getattr(model, name) for name in names if hasattr(model, name)), None)


class CompilableNetwork:
    """The layers of a model as the kernels take them, followed as their arrays are exchanged."""

    def __init__(self, model: Any, optimizer: Optimizer | None) -> None:
        self._layers = layers_of(model)
        for i, layer in enumerate(self._layers):
            if type(layer) not in (Affine, MatMul, *_ACTIVATIONS):
                raise CannotCompile(
                    f"{WHO}: layer {i} of {type(model).__name__} is a {type(layer).__name__}; "
                    "Affine, MatMul, Relu, Sigmoid and Tanh can be compiled"
                )
        self.products = [layer for layer in self._layers if isinstance(layer, MatMul)]
        if not self.products:
            raise CannotCompile(f"{WHO}: {type(model).__name__} has no Affine or MatMul layer")
        self._loss = "softmax_with_loss", 1.0
        if optimizer is not None:
            loss = loss_layer_of(model)
            if type(loss) not in _LOSSES:
                raise CannotCompile(
                    f"{WHO}: the loss_layer of {type(model).__name__} must be SoftmaxWithLoss or MeanSquaredError, "
                    f"got {type(loss).__name__}"
                )
            if getattr(model, "weight_decay_lambda", 0):
                raise CannotCompile(f"{WHO}: {type(model).__name__} with weight_decay_lambda cannot be compiled")
            if isinstance(loss, SoftmaxWithLoss) and loss.options:
                raise CannotCompile(f"{WHO}: SoftmaxWithLoss with {', '.join(loss.options)} cannot be compiled")
            self._loss = _LOSSES[type(loss)], getattr(loss, "factor", 1.0)
        self._optimizer = optimizer or SGD()  # prediction asks for neither
        self.has_labels = self._loss[0] == "softmax_with_loss"
        self._describe()

    def refresh(self) -> None:
        """Take notice of exchanged parameters, and of another state of the optimizer: `plan` is another object then."""
        if self._optimizer.states is not self._states:
            self._describe()
            return
        for layer, W, b in self._watched:
            params = layer.params
            if params[0] is not W or params[-1] is not b:
                self._describe()
                return

    def _describe(self) -> None:
        params = [p for layer in self.products for p in layer.params]
        grads = [g for layer in self.products for g in layer.grads]
        dtypes = {a.dtype for a in (*params, *grads)}
        if len(dtypes) > 1:
            raise CannotCompile(f"{WHO}: parameters must be of one dtype, got {', '.join(sorted(map(str, dtypes)))}")
        if not all(is_plain(g) for g in grads):
            raise CannotCompile(f"{WHO}: gradients must be contiguous and writeable")
        features = None
        for layer in self.products:
            shapes, of_grads = [p.shape for p in layer.params], [g.shape for g in layer.grads]
            if shapes != of_grads or any(shape != shapes[0][1:] for shape in shapes[1:]):
                got = f"shapes {shapes} and {of_grads}"
                raise CannotCompile(f"{WHO}: {type(layer).__name__} must have W, b and gradients that fit, got {got}")
            if features not in (None, layer.W.shape[0]):
                raise CannotCompile(f"{WHO}: W of shape {layer.W.shape} follows a layer with {features} outputs")
            features = layer.W.shape[1]
        for i, p in enumerate(params):
            if not (is_plain(p) or (p.ndim == 2 and is_transposed(p))):
                raise CannotCompile(
                    f"{WHO}: parameters must be contiguous and writeable, got one of shape {p.shape} that is not"
                )
            if any(xp_of(p).may_share_memory(p, q) for q in params[:i]):
                raise CannotCompile(f"{WHO}: parameters of shapes {p.shape} share memory")
        self.params, self.dtype = params, params[0].dtype
        self.features, self.classes = self.products[0].W.shape[0], self.products[-1].W.shape[1]
        self.kernels = kernels_for(*params, *grads)
        states = self._optimizer.states_for(params)
        try:
            self.plan = self.kernels.mlp_plan(self._stages(), self._optimizer.rule, states, *self._loss)
        except NotImplementedError:  # of a GPU: `compile` would have taken graphs there
            raise TypeError(
                f"{WHO}: was compiled for the CPU, but the model is there no more; compile it again"
            ) from None
        # Last, so that after an error the next call describes anew.
        self._watched = [(layer, layer.params[0], layer.params[-1]) for layer in self.products]
        self._states = self._optimizer.states

    def _stages(self) -> list[tuple[Any, ...]]:
        stages: list[tuple[Any, ...]] = []
        for layer in self._layers:
            if isinstance(layer, MatMul):
                W, b = (*layer.params, None)[:2]
                dW, db = (*layer.grads, None)[:2]
                stages.append((W, b, dW, db, None))
            elif stages and stages[-1][4] is None:  # an activation is part of the product before it
                stages[-1] = (*stages[-1][:4], _ACTIVATIONS[type(layer)])
            else:
                stages.append((None, None, None, None, _ACTIVATIONS[type(layer)]))
        return stages

    def rows(self, x: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        """x as contiguous samples (N, D) in the network's dtype, and the shape of its batch axes."""
        if (  # just what the kernels take, as it mostly is
            type(x) is np.ndarray is self.kernels.xp.ndarray
            and x.dtype is self.dtype
            and x.flags.carray
            and x.ndim == 2
            and x.shape[1] == self.features
            and len(x) > 0
        ):
            return x, (len(x),)
        rows, lead = self.products[0]._as_rows(as_batch(x, WHO))
        check_one_device(rows, self.params[0])
        return rows if rows.dtype is self.dtype else rows.astype(self.dtype), lead

    def labels(self, t: ArrayLike, lead: tuple[int, ...]) -> Array:
        """Checked labels: class indices (N,) or rows (N, C); or targets (N, C)."""
        return as_labels(t, self._scores(lead), WHO) if self.has_labels else self._targets(t, lead)

    def labels_unread(self, t: ArrayLike, lead: tuple[int, ...]) -> Array:
        """The labels converted; their range, and NaN, are left to the kernel."""
        return as_labels_unread(t, self._scores(lead), WHO) if self.has_labels else self._targets(t, lead)

    def _targets(self, t: ArrayLike, lead: tuple[int, ...]) -> Array:
        return as_targets(t, self._scores(lead), WHO).reshape(-1, self.classes)

    def _scores(self, lead: tuple[int, ...]) -> Array:
        """What labels belong to; it has no memory of its own."""
        xp = self.kernels.xp
        scores: Array = xp.broadcast_to(xp.empty((), self.dtype), (*lead, self.classes))
        return scores
