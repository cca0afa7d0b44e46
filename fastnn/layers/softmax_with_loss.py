import math
import operator
from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from .._arrays import Array, as_floats, as_labels_unread, as_scores, check_labels, kernels_for
from .._device import on_gpu
from .loss import Loss

_WHO = "SoftmaxWithLoss"


class SoftmaxWithLoss(Loss):
    """Mean cross-entropy of softmax(x) against labels, by log-sum-exp: finite for any finite scores.

    Book 1, section 5.6.3; book 2, section 1.3.1. The options are those of PyTorch's ``cross_entropy``.

    Parameters
    ----------
    weight : array_like, optional
        (C,): how much each class counts. With class indices, the mean is then over the weights of the samples' classes.
    ignore_index : int, optional
        Samples with this class index count for nothing: they have no gradient, and the mean is over the others (NaN,
        where there are none). Not with label rows.
    label_smoothing : float
        In [0, 1]: this share of each sample's label is spread evenly over all classes (Szegedy et al., arXiv
        1512.00567, section 7).

    Attributes
    ----------
    loss : float
        The result of the last ``forward``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import SoftmaxWithLoss
    >>> loss_layer = SoftmaxWithLoss()
    >>> x = np.array([[0.0, np.log(3.0)], [1e4, -1e4]])
    >>> round(float(loss_layer.forward(x, np.array([1, 0]))), 4)  # -log(0.75) / 2
    0.1438
    >>> loss_layer.backward()
    array([[ 0.125, -0.125],
           [ 0.   ,  0.   ]])
    >>> loss_layer.y
    array([[0.25, 0.75],
           [1.  , 0.  ]])
    >>> round(float(SoftmaxWithLoss(ignore_index=-1).forward(x, np.array([1, -1]))), 4)  # -log(0.75)
    0.2877
    """

    _kernel = "softmax_with_loss"

    def __init__(
        self, *, weight: ArrayLike | None = None, ignore_index: int | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self._weight = None if weight is None else as_floats(weight, _WHO, "weight")
        if self._weight is not None and not (self._weight.ndim == 1 and (self._weight >= 0).all()):
            raise ValueError(f"{_WHO}: weight must hold a number of at least 0 for each class, got {weight!r}")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"{_WHO}: label_smoothing must lie in [0, 1], got {label_smoothing}")
        self._ignore_index = None if ignore_index is None else operator.index(ignore_index)
        self._label_smoothing = float(label_smoothing)
        self._is_plain = not self.options

    @property
    def options(self) -> list[str]:
        """Names of the options that it was given."""
        given = {
            "weight": self._weight is not None,
            "ignore_index": self._ignore_index is not None,
            "label_smoothing": self._label_smoothing != 0,
        }
        return [name for name, is_given in given.items() if is_given]

    @property
    def y(self) -> Array | None:
        """The probabilities softmax(x) of the last ``forward``, computed when asked for, from the x it was given."""
        if self._saved is None:
            return None
        x, _ = self._saved
        y: Array = self._outputs.empty_like(x)
        kernels_for(x).softmax_forward(_rows(x), _rows(y))
        return y

    def _move(self, move: Callable[[Array], Array]) -> None:
        super()._move(move)
        self._weight = None if self._weight is None else move(self._weight)

    def forward(self, x: ArrayLike, t: ArrayLike) -> Any:
        """The mean loss over all samples.

        Parameters
        ----------
        x : array_like
            Scores (..., C).
        t : array_like
            Class indices (...) of any integer dtype, or one-hot or soft labels (..., C).

        Returns
        -------
        float
            As NumPy's float64.

        Raises
        ------
        ValueError
            For an empty batch, labels of another shape or out of range, or not finite.
        TypeError
            For class indices that are not integers.
        """
        if self._is_plain and (loss := self._forward_at_once(x, t)) is not False:
            return loss
        x = as_scores(x, _WHO)
        labels = as_labels_unread(t, x, _WHO)
        if self._weight is not None and self._weight.size != x.shape[-1]:
            raise ValueError(
                f"{_WHO}: x must have {self._weight.size} classes, as weight has, along its last axis, got {x.shape}"
            )
        if self._ignore_index is not None and labels.ndim == 2:
            raise ValueError(f"{_WHO}: t must hold class indices where there is an ignore_index, got shape {x.shape}")
        return self._forward(x, labels)

    def _loss_and_gradient(self, x: Array, t: Array, dx: Array) -> Any:
        weight = self._weight if self._weight is None else self._weight.astype(x.dtype, copy=False)
        loss = kernels_for(x, t, *([] if weight is None else [weight])).softmax_with_loss(
            _rows(x), t, weight, self._label_smoothing, self._ignore_index, _rows(dx)
        )
        if not on_gpu(x) and not math.isfinite(loss):  # what wrong labels lead to, among other things
            self.check_labels(t, x.shape[-1])
        return loss

    def check_labels(self, t: Array, classes: int) -> None:
        """Raise ValueError for a label out of range, or not finite: on a GPU `forward` does not wait to find out."""
        check_labels(t if self._ignore_index is None else t[t != self._ignore_index], classes, _WHO)


def _rows(x: Array) -> Array:
    """x as (N, C)."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
