from collections.abc import Sequence
from typing import Any

from numpy.typing import DTypeLike

from .multi_layer_net_extend import MultiLayerNetExtend


class MultiLayerNet(MultiLayerNetExtend):
    """Any number of hidden layers, Affine and activation each; with softmax and cross-entropy as its loss.

    Book 1, chapter 6; ``common/multi_layer_net.py``. With [50, 100] and sigmoid it is the network of section 3.6, whose
    weights ``load_params("sample_weight.pkl")`` reads.

    Parameters
    ----------
    input_size, hidden_size_list, output_size, activation, weight_init_std, weight_decay_lambda, dtype, rng
        As of `MultiLayerNetExtend`.

    Raises
    ------
    ValueError
        For an unknown activation, weight_init_std or dtype, or sizes below 1.

    Examples
    --------
    >>> from fastnn.models import MultiLayerNet
    >>> net = MultiLayerNet(784, [50, 100], 10, activation="sigmoid", weight_init_std="xavier", rng=0)
    >>> list(net.layers)
    ['Affine1', 'Sigmoid1', 'Affine2', 'Sigmoid2', 'Affine3']
    """

    def __init__(
        self,
        input_size: int,
        hidden_size_list: Sequence[int],
        output_size: int,
        activation: str = "relu",
        weight_init_std: float | str = "relu",
        weight_decay_lambda: float = 0.0,
        dtype: DTypeLike | None = None,
        rng: Any = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size_list,
            output_size,
            activation,
            weight_init_std,
            weight_decay_lambda,
            dtype=dtype,
            rng=rng,
        )
