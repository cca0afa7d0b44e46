from .elementwise import Elementwise


class Tanh(Elementwise):
    """Hyperbolic tangent: y = tanh(x); the gradient is dout · (1 - y²).

    Book 2, section 5.3 (recurrent networks).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Tanh
    >>> tanh = Tanh()
    >>> tanh.forward(np.array([0.0, -1e4, np.log(2.0)]))
    array([ 0. , -1. ,  0.6])
    >>> tanh.backward(np.ones(3))
    array([1.  , 0.  , 0.64])
    """

    _forward, _backward = "tanh_forward", "tanh_backward"
