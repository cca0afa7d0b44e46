from .elementwise import Elementwise


class Sigmoid(Elementwise):
    """Logistic sigmoid: y = 1 / (1 + exp(-x)), exactly 0 and 1 far out; the gradient is dout · y · (1 - y).

    Book 1, section 5.5.2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Sigmoid
    >>> sigmoid = Sigmoid()
    >>> sigmoid.forward(np.array([0.0, -1e4, 1e4]))
    array([0.5, 0. , 1. ])
    >>> sigmoid.backward(np.ones(3))
    array([0.25, 0.  , 0.  ])
    """

    _forward, _backward = "sigmoid_forward", "sigmoid_backward"
    after_affine, before_affine = "affine_sigmoid_forward", "sigmoid_affine_backward_input"
