from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._arrays import Array, as_batch, as_gradient, kernels_for
from .._random import random_source
from .layer import Layer


class Dropout(Layer):
    """Sets a random share of its input to 0 in training, so that a network does not rely on single units.

    Book 1, section 6.4.3; Srivastava et al., JMLR 15 (2014). Scaled as in the book: in training what is kept passes as
    it is, in inference all is multiplied by 1 - dropout_ratio. Or `inverted`, as in PyTorch. Which elements are dropped
    is a function of their place and of one random number a forward: the same for any number of threads, and nothing is
    stored.

    Parameters
    ----------
    dropout_ratio : float
        The share to drop, in [0, 1).
    rng : None, int, numpy.random.Generator or RandomState
        Where the random number comes from: None is NumPy's global state, as in the book; an int seeds a Generator.
    inverted : bool
        In training what is kept is divided by 1 - dropout_ratio; in inference all passes as it is.

    Attributes
    ----------
    rng : numpy.random.Generator or RandomState or the module numpy.random
        The generator, whose state belongs to a checkpoint.

    Raises
    ------
    ValueError
        For a ratio outside [0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Dropout
    >>> dropout = Dropout(0.5, rng=0)
    >>> dropout.forward(np.ones((2, 4)))
    array([[1., 0., 0., 1.],
           [1., 0., 0., 0.]])
    >>> dropout.backward(np.full((2, 4), 3.0))
    array([[3., 0., 0., 3.],
           [3., 0., 0., 0.]])
    >>> dropout.forward(np.ones((2, 4)), train_flg=False)
    array([[0.5, 0.5, 0.5, 0.5],
           [0.5, 0.5, 0.5, 0.5]])
    """

    def __init__(self, dropout_ratio: float = 0.5, rng: Any = None, inverted: bool = False) -> None:
        super().__init__()
        if not 0 <= dropout_ratio < 1:
            raise ValueError(f"Dropout: dropout_ratio must be in [0, 1), got {dropout_ratio!r}")
        self.dropout_ratio, self.inverted = float(dropout_ratio), inverted
        self.rng = random_source(rng, "Dropout")

    def next_seed(self) -> Any:
        """Draw what the next forward in training depends on."""
        draw = self.rng.integers if hasattr(self.rng, "integers") else self.rng.randint
        return int(draw(0, 2**63 - 1, dtype=np.int64))

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Drop, or in inference scale.

        Parameters
        ----------
        x : array_like
            Any shape, at least one element.
        train_flg : bool
            False for inference.

        Returns
        -------
        ndarray
            Of x's shape.
        """
        x = as_batch(x, "Dropout")
        out = self._outputs.empty_like(x)
        if not train_flg:
            self._saved = None
            kept = x.dtype.type(1 if self.inverted else 1 - self.dropout_ratio)
            return kernels_for(x).xp.multiply(x, kept, out=out)
        seed = self.next_seed()
        kernels_for(x).dropout_forward(x, seed, self.dropout_ratio, out)
        self._saved = seed, x.shape, x.dtype
        return self._divided(out)

    def backward(self, dout: ArrayLike) -> Array:
        """The gradient for x, from that for the output of the last forward in training, `dout`; both of x's shape."""
        seed, shape, dtype = self._from_forward()
        dout = as_gradient(dout, shape, "Dropout").astype(dtype, copy=False)
        dx = self._input_grads.empty_like(dout)
        kernels_for(dout).dropout_backward(dout, seed, self.dropout_ratio, dx)
        return self._divided(dx)

    def _divided(self, kept: Array) -> Array:
        if self.inverted:
            kept *= kept.dtype.type(1 / (1 - self.dropout_ratio))
        return kept
