from .elementwise import Elementwise


class Silu(Elementwise):
    """Sigmoid linear unit, also called swish: x · sigmoid(x).

    S. Elfwing, E. Uchibe, K. Doya, "Sigmoid-weighted linear units", Neural Networks 107 (2018).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Silu
    >>> silu = Silu()
    >>> silu.forward(np.array([0.0, -np.log(3.0)])).round(4)
    array([ 0.    , -0.2747])
    >>> silu.backward(np.ones(2)).round(4)
    array([0.5  , 0.044])
    """

    _forward, _backward, _saves_input = "silu_forward", "silu_backward", True
