import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .. import serialize
from .._arrays import Array, as_array, check_one_device
from .._device import mover, xp_of
from ..gradient import numerical_gradient
from ..layers import Affine, Convolution, Relu, Sigmoid
from ..layers.layer import Layer, can_skip_input_gradient, takes_train_flg
from .parameters import Parameters

if TYPE_CHECKING:
    from typing_extensions import Self  # of typing, from Python 3.11

# Layers that compute the activation after them in the same pass; Affine also the gradient of that before it. Exactly
# these types: subclasses may have a forward or a backward of their own.
_FUSED = {Affine: (Relu, Sigmoid), Convolution: (Relu,)}


class Network:
    """Layers in order, then a loss: what the models share.

    Parameters
    ----------
    layers : mapping of str to Layer
        In the order of computation.
    loss_layer : Layer
        With ``forward(x, t)``.
    weight_decay_lambda : float
        The loss has λ/2 times the sum of the squares of all weights W besides, as in book 1, section 6.4.2.

    Attributes
    ----------
    layers, loss_layer, weight_decay_lambda
        As given; ``last_layer`` is the loss layer by the name of book 1.
    params, grads : Parameters
        Those of all layers, by index (book 2) and by name (book 1): ``W1, b1`` of the first layer that has weights,
        ``gamma1, beta1`` of the first that normalises, and so on. They are the layers' own arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Affine, SoftmaxWithLoss
    >>> from fastnn.models import Network
    >>> net = Network({"scores": Affine(np.eye(2), np.zeros(2))}, SoftmaxWithLoss())
    >>> net.predict(np.array([[1.0, 3.0]]))
    array([[1., 3.]])
    >>> net.accuracy(np.array([[1.0, 3.0], [2.0, 0.0]]), np.array([1, 1]))
    0.5
    """

    def __init__(self, layers: Mapping[str, Layer], loss_layer: Layer, weight_decay_lambda: float = 0.0) -> None:
        if not 0 <= weight_decay_lambda < math.inf:
            raise ValueError(
                f"{type(self).__name__}: weight_decay_lambda must be at least 0, got {weight_decay_lambda!r}"
            )
        self.layers = dict(layers)
        self.loss_layer = self.last_layer = loss_layer
        self.weight_decay_lambda = weight_decay_lambda
        params: dict[str, Array] = {}
        grads: dict[str, Array] = {}
        for layer, number in self._numbered():
            for name, p, g in zip(layer.param_names, layer.params, layer.grads, strict=True):
                params[f"{name}{number}"], grads[f"{name}{number}"] = p, g
        self.params, self.grads = Parameters(params), Parameters(grads)
        # Where back-propagation may end: below lies nothing that learns.
        first = next((layer for layer in self.layers.values() if layer.params), None)
        self._lowest: Any = first if first is not None and can_skip_input_gradient(first) else None
        self._gradient_options = {"input_gradient": False} if can_skip_input_gradient(self) else {}

    def _numbered(self) -> Iterator[tuple[Layer, int]]:
        """The layers with parameters, and the number that follows their names: of the layers of that kind so far."""
        counts: dict[str, int] = {}
        for layer in self.layers.values():
            if layer.params:
                kind = layer.param_names[0]
                counts[kind] = counts.get(kind, 0) + 1
                yield layer, counts[kind]

    def _adopt(self, params: Parameters, grads: Parameters) -> None:
        """Have the layers, whose parameters are the arrays of `params`, write their gradients into those of `grads`."""
        for layer, number in self._numbered():
            layer.grads = [grads[f"{name}{number}"] for name in layer.param_names]
        self.params, self.grads = params, grads

    def to(self, device: str) -> "Self":
        """Move all layers to a device, in place; layers that share a weight go on sharing it.

        Optimizers that have taken steps with it move their state along at the next one.

        Parameters
        ----------
        device : {"cpu", "cuda"}

        Returns
        -------
        Network
            Itself.

        Raises
        ------
        ValueError
            For another device.
        RuntimeError
            For "cuda" where no GPU can be used, saying why.

        Examples
        --------
        >>> from fastnn.models import TwoLayerNet
        >>> net = TwoLayerNet(2, 3, 2, rng=0)
        >>> net.to("cpu") is net
        True
        """
        move = mover(device, type(self).__name__)
        self.params, self.grads = self.params.moved(move), self.grads.moved(move)
        for layer in (*self.layers.values(), self.loss_layer):
            layer._move(move)
        return self

    def predict(self, x: ArrayLike, train_flg: bool = False) -> Any:
        """Scores of the classes: the output of the last layer before the loss.

        Parameters
        ----------
        x : array_like
            Batch.
        train_flg : bool
            True where dropout and batch normalisation are to do what they do in training.
        """
        out: Any = x
        layers: list[Any] = list(reversed(self.layers.values()))
        while layers:
            layer = layers.pop()
            if layers and type(layers[-1]) in _FUSED.get(type(layer), ()):
                out = layer.forward_activated(out, layers.pop())
            elif takes_train_flg(layer.__class__):
                out = layer.forward(out, train_flg)
            else:
                out = layer.forward(out)
        return out

    def forward(self, x: ArrayLike, t: ArrayLike, train_flg: bool = True) -> Any:
        """The mean loss of a batch `x` with labels `t`, in training; what ``backward`` needs is kept."""
        loss = self.loss_layer.forward(self.predict(x, train_flg), t)
        if self.weight_decay_lambda:
            squares = sum((W.astype(np.float64) ** 2).sum() for W, _ in self._decaying())
            loss = loss + 0.5 * self.weight_decay_lambda * squares
        return loss

    def loss(self, x: ArrayLike, t: ArrayLike, train_flg: bool = False) -> Any:
        """The mean loss, by the name of book 1: in inference, unless told otherwise."""
        return self.forward(x, t, train_flg)

    def _decaying(self) -> Iterator[tuple[Array, Array]]:
        """The weights that decay, and their gradients."""
        return ((p, self.grads[name]) for name, p in self.params.items() if name.startswith("W"))

    def backward(self, dout: float = 1.0, input_gradient: bool = True) -> Any:
        """Write the gradients of the last ``forward`` into ``grads``.

        Parameters
        ----------
        dout : float
            Gradient for the loss.
        input_gradient : bool
            False where only ``grads`` is wanted: that saves up to a third of a training step.

        Returns
        -------
        ndarray
            The gradient for x. None without `input_gradient`.
        """
        grad = self._propagate(self.loss_layer.backward(dout), input_gradient)
        if self.weight_decay_lambda:
            for W, dW in self._decaying():
                dW += (dout * self.weight_decay_lambda) * W
        return grad

    def _propagate(self, grad: Any, input_gradient: bool) -> Any:
        """The gradient for scores through all layers."""
        layers: list[Any] = list(self.layers.values())
        while layers:
            layer = layers.pop()
            if layer is self._lowest and not input_gradient:
                return layer.backward(grad, input_gradient=False)
            if layers and type(layer) is Affine and type(layers[-1]) in _FUSED[Affine] and layer.follows(layers[-1]):
                grad = layer.backward_activated(grad, layers.pop())
            else:
                grad = layer.backward(grad)
        return grad if input_gradient else None

    def accuracy(self, x: ArrayLike, t: ArrayLike, batch_size: int = 100) -> float:
        """The share of samples whose largest score is the label's.

        Parameters
        ----------
        x : array_like
            Batch.
        t : array_like
            Class indices (N,), or label rows (N, C), of which the largest counts.
        batch_size : int
            So many samples are predicted at a time: what layers keep takes memory.
        """
        who = f"{type(self).__name__}.accuracy"
        labels, samples = as_array(t, who, "t"), as_array(x, who, "x")
        if labels.ndim and labels.shape[0] == samples.shape[0] > batch_size:
            scores = xp_of(samples).concatenate(
                [self.predict(samples[i : i + batch_size]) for i in range(0, len(samples), batch_size)]
            )
        else:
            scores = self.predict(samples)
        if labels.shape == scores.shape:
            labels = labels.argmax(axis=-1)
        if labels.shape != scores.shape[:-1]:
            raise ValueError(f"{who}: t must have shape {scores.shape[:-1]} or {scores.shape}, got {labels.shape}")
        check_one_device(scores, labels)
        return float((scores.argmax(axis=-1) == labels).mean())

    def gradient(self, x: ArrayLike, t: ArrayLike) -> Parameters:
        """The gradients of the loss, by back-propagation: ``grads`` itself, which the next call overwrites."""
        self.forward(x, t)
        self.backward(**self._gradient_options)
        return self.grads

    def numerical_gradient(self, x: ArrayLike, t: ArrayLike) -> Parameters:
        """The gradients of the loss, by central differences: slow, to check ``gradient`` with."""
        return Parameters(
            {name: numerical_gradient(lambda _: self.forward(x, t), p) for name, p in self.params.items()}
        )

    def save_params(self, path: str | os.PathLike[str], dtype: str | None = "float16") -> None:
        """Write the parameters to a ``.safetensors`` or ``.npz`` file, which a failure leaves as it was.

        The running averages of batch normalisation are written, and read, with them.

        Parameters
        ----------
        path : path-like
            The extension tells the format.
        dtype : {"float16", "float32", "float64"} or None
            float16 as the book does: half the size, three digits. None keeps the parameters' own.

        Raises
        ------
        ValueError
            For another extension, or values that `dtype` cannot hold.
        """
        serialize.save_arrays(path, self._saved_arrays(), dtype=dtype)

    def load_params(self, path: str | os.PathLike[str]) -> None:
        """Read parameters of the same names and shapes from a ``.safetensors``, ``.npz`` or the book's ``.pkl`` file.

        Raises
        ------
        FileFormatError
            For a file that is damaged or holds anything but arrays.
        ValueError
            For arrays that do not fit; then none is changed.
        """
        serialize.load_into(self._saved_arrays(), path)

    def _saved_arrays(self) -> dict[str, Array]:
        """The parameters, and what else layers learn."""
        state = {
            f"{name}{number}": getattr(layer, name)
            for layer, number in self._numbered()
            for name in getattr(layer, "state_names", ())
        }
        return dict(self.params.items()) | state
