from .elementwise import Elementwise


class Softplus(Elementwise):
    """A smooth relu: log(1 + exp(x)), without overflow; the gradient is dout · sigmoid(x).

    X. Glorot, A. Bordes, Y. Bengio, "Deep sparse rectifier neural networks" (2011).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Softplus
    >>> softplus = Softplus()
    >>> softplus.forward(np.array([-1e4, 0.0, 1e4])).round(4)
    array([0.000e+00, 6.931e-01, 1.000e+04])
    >>> softplus.backward(np.ones(3))
    array([0. , 0.5, 1. ])
    """

    _forward, _backward = "softplus_forward", "softplus_backward"
