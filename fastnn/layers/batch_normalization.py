import math

from numpy.typing import ArrayLike

from .._arrays import Array, as_batch, as_gradient, as_operands, as_parameter, kernels_for
from .._device import xp_of
from .layer import Layer, grad, param


class BatchNormalization(Layer):
    """Normalises each feature over the batch to mean 0 and variance 1, then scales by gamma and adds beta.

    Book 1, section 6.3; Ioffe, Szegedy, arXiv:1502.03167. Images (N, C, H, W) are normalised by channel, over samples
    and places, where gamma has C values; by each value of a sample, as in the book, where it has C·H·W. Inference
    uses running averages of the means and variances seen in training. As in the book, these start at 0.

    Parameters
    ----------
    gamma, beta : array_like
        (D,) for samples of D values, (C,) or (C·H·W,) for images. float32 or float64 arrays are used as they are.
    momentum : float
        Weight of what the averages were before, in [0, 1].
    running_mean, running_var : array_like, optional
        The averages to begin with: copied.
    eps : float
        Added to variances, so that none is 0; the book's 10e-7, unless given.

    Attributes
    ----------
    gamma, beta, dgamma, dbeta : ndarray
        ``params`` and ``grads`` by the names of the book.
    running_mean, running_var : ndarray
        Of gamma's shape and dtype; written by each forward in training, saved and loaded with a network.

    Raises
    ------
    ValueError, TypeError
        Where the arrays are no vectors of one length, or momentum is outside [0, 1], or eps not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import BatchNormalization
    >>> layer = BatchNormalization(np.ones(2), np.zeros(2), momentum=0.5)
    >>> layer.forward(np.array([[1.0, 10.0], [3.0, 30.0]])).round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> layer.running_mean, layer.running_var
    (array([ 1., 10.]), array([ 0.5, 50. ]))
    >>> dx = layer.backward(np.array([[1.0, 0.0], [0.0, 0.0]]))
    >>> layer.dgamma.round(3), layer.dbeta
    (array([-1.,  0.]), array([1., 0.]))
    """

    param_names = ("gamma", "beta")
    state_names = ("running_mean", "running_var")
    gamma, beta, dgamma, dbeta = param(0), param(1), grad(0), grad(1)

    def __init__(
        self,
        gamma: ArrayLike,
        beta: ArrayLike,
        momentum: float = 0.9,
        running_mean: ArrayLike | None = None,
        running_var: ArrayLike | None = None,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self._add_param(gamma, ndim=1)
        self._add_param(beta, ndim=1)
        if not 0 <= momentum <= 1:
            raise ValueError(f"BatchNormalization: momentum must be in [0, 1], got {momentum!r}")
        if not 0 < eps < math.inf:
            raise ValueError(f"BatchNormalization: eps must be a positive number, got {eps!r}")
        self.momentum, self.eps = momentum, eps
        p = self.params[0]
        self.running_mean, self.running_var = xp_of(p).zeros_like(p), xp_of(p).zeros_like(p)
        for name, value in (("beta", self.params[1]), ("running_mean", running_mean), ("running_var", running_var)):
            if value is None:
                continue
            vector = as_parameter(value, "BatchNormalization", name, ndim=1)
            if vector.shape != p.shape:
                raise ValueError(
                    f"BatchNormalization: {name} must have the shape {p.shape} of gamma, got {vector.shape}"
                )
            if name != "beta":
                getattr(self, name)[...] = vector

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Normalise.

        Parameters
        ----------
        x : array_like
            (N, D), or images (N, C, H, W). Computed in the widest dtype of x and the parameters.
        train_flg : bool
            False for inference: with ``running_mean`` and ``running_var``.

        Returns
        -------
        ndarray
            Of x's shape.

        Raises
        ------
        ValueError
            Where x is empty or does not fit gamma.
        TypeError
            Where x does not hold real numbers.
        """
        x = as_batch(x, "BatchNormalization")
        values, gamma, beta = as_operands(self._by_channel(x), *self.params)
        k, eps = kernels_for(values), values.dtype.type(self.eps)
        out = self._outputs.empty_like(values)
        if train_flg:
            mean, var = k.xp.empty_like(gamma), k.xp.empty_like(gamma)
            k.batch_normalization_forward(values, gamma, beta, eps, out, mean, var)
            for running, of_batch in ((self.running_mean, mean), (self.running_var, var)):
                running *= self.momentum
                running += (1 - self.momentum) * of_batch
            self._saved = values, mean, var, x.shape
        else:
            _, mean, var = as_operands(values, self.running_mean, self.running_var)
            k.batch_normalization_inference(values, gamma, beta, mean, var, eps, out)
            self._saved = None
        return out if x.ndim == 2 else out.reshape(x.shape)

    def backward(self, dout: ArrayLike) -> Array:
        """The gradient for x, from that for the output of the last forward in training, `dout`; both of x's shape.

        Those for gamma and beta go into ``grads``.
        """
        values, mean, var, shape = self._from_forward()
        g = as_gradient(dout, shape, "BatchNormalization").reshape(values.shape)
        g, values, gamma, mean, var = as_operands(g, values, self.params[0], mean, var)
        eps, dx = values.dtype.type(self.eps), self._input_grads.empty_like(values)
        backward = kernels_for(values).batch_normalization_backward
        self._write_grads(lambda *grads: backward(g, values, gamma, mean, var, eps, dx, *grads), values.dtype)
        return dx if dx.shape == shape else dx.reshape(shape)

    def _by_channel(self, x: Array) -> Array:
        """x as (N, C), or (N, C, P) with P places."""
        channels = self.params[0].size
        if x.ndim > 1:
            if math.prod(x.shape[1:]) == channels:
                return x.reshape(len(x), -1)
            if x.shape[1] == channels:
                return x.reshape(len(x), channels, -1)
        raise ValueError(
            f"BatchNormalization: x must have {channels} channels or values a sample to fit gamma, got shape {x.shape}"
        )
