from .over_classes import OverClasses


class Softmax(OverClasses):
    """Softmax over the last axis: positive values that sum to 1.

    y_c = exp(x_c) / sum_k exp(x_k). Book 1, section 3.5; book 2, section 1.3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Softmax
    >>> Softmax().forward(np.array([[0.0, np.log(3.0)], [1e4, -1e4]]))
    array([[0.25, 0.75],
           [1.  , 0.  ]])
    """

    _forward, _backward = "softmax_forward", "softmax_backward"
