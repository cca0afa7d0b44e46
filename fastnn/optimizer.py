"""Optimizers: ``update(params, grads)`` for lists (book 2) and for mappings by name (book 1).

The formulas are those of the book's common/optimizer.py, number for number, but that 0 takes the place of subnormal
numbers (below 1.2e-38 in float32) and of states near them: a step on such numbers takes three times as long. Beyond
them: weight decay, clipping, AdamW, and a state that can be saved.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from numbers import Real
from operator import is_
from typing import Any

import numpy as np

from ._arrays import FLOAT32, FLOAT64, Array, kernels_for
from ._device import address, is_plain, on_gpu, to_cpu, to_gpu, xp_of
from .kernels import get
from .util import clip_grads

__all__ = ["SGD", "AdaGrad", "Adam", "AdamW", "Momentum", "Nesterov", "Optimizer", "RMSprop"]

_EPSILON = 1e-7  # the book's


class Optimizer:
    """What the optimizers share: the update of all parameters in one compiled call.

    Parameters
    ----------
    lr : float
        Learning rate. It and the other settings may be changed between updates.
    weight_decay : float
        Adds weight_decay · param to each gradient: an L2 penalty.

    Attributes
    ----------
    iter : int
        Updates done.
    states : tuple of tuple of ndarray, or None
        What is remembered of each parameter, in their order; made of zeros at the first update. None starts anew.
    """

    rule = ""  # its name in the kernels
    state_names: tuple[str, ...] = ()
    _counts = False  # whether the rule's numbers depend on the iteration

    def __init__(self, lr: float, weight_decay: float) -> None:
        self.lr = lr
        self.weight_decay = weight_decay
        self.iter = 0
        self.states: tuple[tuple[Array, ...], ...] | None = None
        self._prepared: tuple[Any, ...] = (None, (), [])  # states, arrays, and the plans for them
        self._numbers: tuple[Any, ...] = (None, None, None)  # rows, their dtype, and the array

    def update(
        self,
        params: Sequence[Array] | Mapping[str, Array],
        grads: Sequence[Array] | Mapping[str, Array],
        max_grad: float | None = None,
    ) -> None:
        """Move every parameter a step, in place.

        Parameters
        ----------
        params, grads : sequence or mapping of ndarray
            Of the same length or keys, and the same shapes.
        max_grad : float, optional
            Scale all gradients down, in place, to this joint norm before (book 2, section 6.1.4). Without it they stay
            as they are.

        Raises
        ------
        ValueError
            Where lengths or shapes differ, or are not those of the state.
        TypeError
            Where one is a mapping and the other is not.
        """
        if max_grad is not None and not max_grad > 0:
            raise ValueError(f"{type(self).__name__}: max_grad must be positive or None, got {max_grad}")
        param_list, grad_list = _in_order(params, grads, type(self).__name__)
        arrays = [*param_list, *grad_list]
        states, known, plans = self._prepared
        if states is not self.states or len(known) != len(arrays) or not all(map(is_, known, arrays)):
            plans = self._prepare(param_list, grad_list)
            self._prepared = self.states, arrays, plans
        if max_grad is not None and len(plans) > 1:  # the norm is one of all of them
            clip_grads(grad_list, max_grad)
            max_grad = None
        for kernels, dtype, plan in plans:
            kernels.optimizer_update(plan, self.numbers(1, dtype)[0], float(max_grad or 0.0))
        self.iter += 1

    def _prepare(self, params: list[Array], grads: list[Array]) -> list[tuple[Any, ...]]:
        """What to call, once for all arrays that one kernel takes: (kernels, dtype, plan)."""
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            if p.shape != g.shape:
                who = type(self).__name__
                raise ValueError(f"{who}: gradient {i} must have the shape {p.shape} of its parameter, got {g.shape}")
        groups: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
        shared = _share_memory(params)
        for i, of_one in enumerate(zip(params, grads, self.states_for(params), strict=True)):
            p, g, _ = of_one
            kernels, dtype = kernels_for(p, g), p.dtype
            if not (dtype in (FLOAT32, FLOAT64) and g.dtype == dtype and is_plain(p) and is_plain(g)):
                if on_gpu(p):
                    raise ValueError(
                        f"{type(self).__name__}: parameter {i} and its gradient must be contiguous, of one dtype"
                    )
                kernels, dtype = get("ref"), FLOAT64  # transposed, strided and other arrays are left to NumPy
            groups.setdefault((kernels, dtype, shared and i), []).append(of_one)
        return [
            (kernels, dtype, kernels.optimizer_plan(self.rule, *map(list, zip(*group, strict=True))))
            for (kernels, dtype, _), group in groups.items()
        ]

    def states_for(self, params: Sequence[Array]) -> Sequence[tuple[Array, ...]]:
        """The state of each of these parameters; of shapes and dtypes that it does not fit, a ValueError."""
        if not self.state_names:
            return [()] * len(params)
        if self.states is None:
            self.states = tuple(tuple(xp_of(p).zeros(p.shape, p.dtype) for _ in self.state_names) for p in params)
        if not isinstance(self.states, tuple):  # plans hold addresses: no array of it may be exchanged
            self.states = tuple(map(tuple, self.states))
        who = type(self).__name__
        if len(params) != len(self.states):
            raise ValueError(f"{who}: params must be {len(self.states)} arrays as its state, got {len(params)}")
        for i, (p, arrays) in enumerate(zip(params, self.states, strict=True)):
            if len(arrays) != len(self.state_names) or not all(map(is_plain, arrays)):
                names = " and ".join(self.state_names)
                raise ValueError(
                    f"{who}: the state of parameter {i} must be {names}, contiguous, got {len(arrays)} arrays"
                )
            for a in arrays:
                if (p.shape, p.dtype) != (a.shape, a.dtype):
                    expected = f"{a.dtype} of shape {a.shape} as its state"
                    raise ValueError(f"{who}: parameter {i} must be {expected}, got {p.dtype} of shape {p.shape}")
        if any(on_gpu(p) != on_gpu(a) for p, arrays in zip(params, self.states, strict=True) for a in arrays):
            move = to_gpu if on_gpu(params[0]) else to_cpu
            self.states = tuple(tuple(map(move, arrays)) for arrays in self.states)
        return self.states

    def numbers(self, steps: int, dtype: np.dtype[Any]) -> Array:
        """What the kernels need to know of the next updates: a row for each, or one for all that are alike.

        See kernels/ref/optimizer.py.
        """
        steps = steps if self._counts else 1
        rows = self._row(self.iter + 1) if steps == 1 else [self._row(self.iter + i) for i in range(1, steps + 1)]
        known, known_dtype, array = self._numbers
        if rows != known or dtype is not known_dtype:  # mostly they are the last ones
            if None in rows:  # of which NumPy makes NaN
                raise TypeError(f"{type(self).__name__}: settings must be numbers, got None")
            array = np.array(rows, dtype).reshape(steps, -1)
            self._numbers = rows, dtype, array
        return array

    def _row(self, t: int) -> tuple[float, ...]:
        """The numbers of iteration t, which counts from 1."""
        raise NotImplementedError

    def state(self) -> dict[str, Array]:
        """All that the next update depends on, by name: the settings, `iter`, and ``"m.0"``, ``"m.1"``, ...; copies.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> from fastnn.optimizer import Adam
        >>> from fastnn.serialize import load_arrays, save_arrays
        >>> path = os.path.join(tempfile.mkdtemp(), "adam.safetensors")
        >>> optimizer = Adam()
        >>> optimizer.update([np.zeros(2)], [np.ones(2)])
        >>> save_arrays(path, optimizer.state(), dtype=None)
        >>> other = Adam()
        >>> other.load_state(load_arrays(path))
        >>> other.iter, [a.shape for a in other.states[0]]
        (1, [(2,), (2,)])
        """
        state = {name: np.array(value) for name, value in self._settings().items()}
        for i, arrays in enumerate(self.states or ()):
            state |= {f"{name}.{i}": to_cpu(a.copy()) for name, a in zip(self.state_names, arrays, strict=True)}
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned: for parameters of the same shapes, in the same order.

        Raises
        ------
        ValueError
            For the state of another optimizer, or a part of one; then nothing has changed.
        """
        settings = self._settings()
        count = sum(name.startswith(f"{first}.") for name in state for first in self.state_names[:1])
        names = {f"{name}.{i}" for name in self.state_names for i in range(count)}
        if wrong := sorted((settings.keys() | names) ^ state.keys()):
            what = "unexpected" if wrong[0] in state else "no"
            raise ValueError(f"{type(self).__name__}.load_state: {what} {wrong[0]!r} in the state")
        values = {name: np.asarray(state[name]).item() for name in settings}
        self.__dict__ |= values
        self.states = None
        if count:
            self.states = tuple(
                tuple(np.array(state[f"{name}.{i}"], order="C") for name in self.state_names) for i in range(count)
            )

    def _settings(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Real)}

    def __getstate__(self) -> dict[str, Any]:
        # Plans hold addresses: a copy of the optimizer must not have them.
        return vars(self) | {"_prepared": (None, (), [])}


class SGD(Optimizer):
    """Stochastic gradient descent: param <- param - lr · grad, in place.

    Book 1, section 6.1.2; book 2, section 1.3.6.

    Parameters
    ----------
    lr : float
        Learning rate.
    weight_decay : float
        Adds weight_decay · param to each gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optimizer import SGD
    >>> params = {"W": np.array([1.0, 2.0])}
    >>> SGD(lr=0.5).update(params, {"W": np.array([2.0, 2.0])})
    >>> params["W"]
    array([0., 1.])
    """

    rule = "sgd"

    def __init__(self, lr: float = 0.01, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay)

    def _row(self, t: int) -> tuple[float, ...]:
        return (self.weight_decay, 1.0, self.lr)


class Momentum(Optimizer):
    """v <- momentum · v - lr · grad;  param <- param + v.

    Book 1, section 6.1.4.

    Parameters
    ----------
    lr : float
        Learning rate.
    momentum : float
        How much of the velocity v stays.
    weight_decay : float
        Adds weight_decay · param to each gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optimizer import Momentum
    >>> params, optimizer = [np.array([1.0])], Momentum(lr=0.1, momentum=0.5)
    >>> for _ in range(2):
    ...     optimizer.update(params, [np.array([1.0])])
    >>> params[0]  # 1 - 0.1 - (0.05 + 0.1)
    array([0.75])
    """

    rule = "momentum"
    state_names = ("v",)

    def __init__(self, lr: float = 0.01, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay)
        self.momentum = momentum

    def _row(self, t: int) -> tuple[float, ...]:
        return (self.weight_decay, 1.0, self.lr, self.momentum)


class Nesterov(Momentum):
    """v <- momentum · v - lr · grad;  param <- param + momentum² · v - (1 + momentum) · lr · grad.

    Nesterov's accelerated gradient as the book's common/optimizer.py has it, which takes the new v where Bengio,
    Boulanger-Lewandowski, Pascanu, ICASSP 2013 (arXiv:1212.0901), its source, takes the old.

    Parameters
    ----------
    lr, momentum, weight_decay : float
        As for `Momentum`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optimizer import Nesterov
    >>> params = [np.array([1.0])]
    >>> Nesterov(lr=0.1, momentum=0.5).update(params, [np.array([1.0])])
    >>> params[0].round(3)  # v = -0.1;  1 - 0.025 - 0.15
    array([0.825])
    """

    rule = "nesterov"

    def _row(self, t: int) -> tuple[float, ...]:
        return (
            self.weight_decay,
            1.0,
            self.lr,
            self.momentum,
            self.momentum * self.momentum,
            (1 + self.momentum) * self.lr,
        )


class AdaGrad(Optimizer):
    """h <- h + grad²;  param <- param - lr · grad / (√h + 1e-7).

    Book 1, section 6.1.5; Duchi, Hazan, Singer, JMLR 12 (2011).

    Parameters
    ----------
    lr : float
        Learning rate.
    weight_decay : float
        Adds weight_decay · param to each gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optimizer import AdaGrad
    >>> params = [np.array([1.0, 1.0])]
    >>> AdaGrad(lr=0.5).update(params, [np.array([3.0, -0.1])])
    >>> params[0].round(3)  # the first step does not depend on the size of the gradient
    array([0.5, 1.5])
    """

    rule = "adagrad"
    state_names = ("h",)

    def __init__(self, lr: float = 0.01, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay)

    def _row(self, t: int) -> tuple[float, ...]:
        return (self.weight_decay, 1.0, self.lr, _EPSILON)


class RMSprop(Optimizer):
    """h <- decay_rate · h + (1 - decay_rate) · grad²;  param <- param - lr · grad / (√h + 1e-7).

    Book 1, common/optimizer.py; Tieleman, Hinton, Coursera: Neural Networks for Machine Learning (2012), lecture 6.5.

    Parameters
    ----------
    lr : float
        Learning rate.
    decay_rate : float
        How much of h stays.
    weight_decay : float
        Adds weight_decay · param to each gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optimizer import RMSprop
    >>> params = [np.array([1.0])]
    >>> RMSprop(lr=0.1, decay_rate=0.75).update(params, [np.array([3.0])])
    >>> params[0].round(3)  # 1 - 0.1 · 3 / √(0.25 · 9)
    array([0.8])
    """

    rule = "rmsprop"
    state_names = ("h",)

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay)
        self.decay_rate = decay_rate

    def _row(self, t: int) -> tuple[float, ...]:
        return (self.weight_decay, 1.0, self.lr, self.decay_rate, 1 - self.decay_rate, _EPSILON)


class Adam(Optimizer):
    """m <- m + (1 - beta1) · (grad - m);  v <- v + (1 - beta2) · (grad² - v);  param <- param - lr_t · m / (√v + 1e-7).

    lr_t = lr · √(1 - beta2^t) / (1 - beta1^t) in iteration t. Book 1, section 6.1.6; Kingma, Ba, ICLR 2015
    (arXiv:1412.6980), in the form at the end of its section 2.

    Parameters
    ----------
    lr : float
        Learning rate.
    beta1, beta2 : float
        How much of m and v stays.
    weight_decay : float
        Adds weight_decay · param to each gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optimizer import Adam
    >>> params = [np.array([1.0, 1.0])]
    >>> Adam(lr=0.1).update(params, [np.array([3.0, -0.1])])
    >>> params[0].round(3)  # the first step does not depend on the size of the gradient
    array([0.9, 1.1])
    """

    rule = "adam"
    state_names = ("m", "v")
    _counts = True

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay)
        self.beta1 = beta1
        self.beta2 = beta2

    def _row(self, t: int) -> tuple[float, ...]:
        lr_t = self.lr * math.sqrt(1.0 - self.beta2**t) / (1.0 - self.beta1**t)
        return (self.weight_decay, 1.0, lr_t, 1 - self.beta1, 1 - self.beta2, _EPSILON)


class AdamW(Adam):
    """`Adam` with decoupled weight decay: param <- (1 - lr · weight_decay) · param, then Adam's step.

    Loshchilov, Hutter, ICLR 2019 (arXiv:1711.05101), algorithm 2; with lr · weight_decay for its η · λ, as PyTorch.

    Parameters
    ----------
    lr, beta1, beta2 : float
        As for `Adam`.
    weight_decay : float
        Does not pass through m and v, so that parameters with large gradients decay as fast as others.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optimizer import AdamW
    >>> params = [np.array([1.0])]
    >>> AdamW(lr=0.1, weight_decay=0.5).update(params, [np.array([3.0])])
    >>> params[0].round(3)  # (1 - 0.05) · 1 - 0.1
    array([0.85])
    """

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, weight_decay: float = 0.01) -> None:
        super().__init__(lr, beta1, beta2, weight_decay)

    def _row(self, t: int) -> tuple[float, ...]:
        return (0.0, 1.0 - self.lr * self.weight_decay, *super()._row(t)[2:])


def has_rule(optimizer: Any) -> bool:
    """Whether kernels can do its update: of fastnn, or a subclass with numbers but no update of its own."""
    return getattr(type(optimizer), "update", None) is Optimizer.update


def _in_order(params: Any, grads: Any, who: str) -> tuple[list[Array], list[Array]]:
    """Parameters and their gradients, in the order of the parameters."""
    named = hasattr(params, "keys")
    if named != hasattr(grads, "keys"):
        raise TypeError(f"{who}: params and grads must both be lists or both be mappings")
    if not named:
        if len(params) != len(grads):
            raise ValueError(f"{who}: params and grads must be of one length, got {len(params)} and {len(grads)}")
        return list(params), list(grads)
    keys = list(params.keys())
    if keys == list(grads.keys()):
        return list(params.values()), list(grads.values())
    if missing := [key for key in keys if key not in grads]:
        raise ValueError(f"{who}: grads has no {missing[0]!r}")
    return list(params.values()), [grads[key] for key in keys]


def _share_memory(params: list[Array]) -> bool:
    """Whether some of them overlap: then they must be updated one after the other."""
    spans = sorted((start := address(p), start + p.nbytes) for p in params if is_plain(p))
    return any(end > begin for (_, end), (begin, _) in pairwise(spans))
