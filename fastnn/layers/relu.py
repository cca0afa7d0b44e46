from .elementwise import Elementwise


class Relu(Elementwise):
    """Rectified linear unit: max(x, 0).

    The gradient is 0 where x <= 0; NaN passes both ways. Book 1, section 5.5.1. Unlike the book's, `backward` leaves
    `dout` as it was.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Relu
    >>> relu = Relu()
    >>> relu.forward(np.array([[1.0, -0.5], [-2.0, 3.0]]))
    array([[1., 0.],
           [0., 3.]])
    >>> relu.backward(np.ones((2, 2)))
    array([[1., 0.],
           [0., 1.]])
    """

    _forward, _backward = "relu_forward", "relu_backward"
    after_affine, before_affine = "affine_relu_forward", "relu_affine_backward_input"
