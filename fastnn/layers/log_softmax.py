from .over_classes import OverClasses


class LogSoftmax(OverClasses):
    """Logarithm of softmax over the last axis: finite for any finite scores.

    y_c = x_c - log sum_k exp(x_k). Of book 1's softmax (section 3.5), as PyTorch's ``LogSoftmax(dim=-1)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import LogSoftmax
    >>> LogSoftmax().forward(np.array([1e4, 0.0, -1e4]))
    array([     0., -10000., -20000.])
    """

    _forward, _backward = "log_softmax_forward", "log_softmax_backward"
