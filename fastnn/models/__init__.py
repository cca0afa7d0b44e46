"""Networks of fastnn layers, ready to train."""

from .deep_conv_net import DeepConvNet
from .multi_layer_net import MultiLayerNet
from .multi_layer_net_extend import MultiLayerNetExtend
from .network import Network
from .parameters import Parameters
from .simple_conv_net import SimpleConvNet
from .two_layer_net import TwoLayerNet

__all__ = [
    "DeepConvNet",
    "MultiLayerNet",
    "MultiLayerNetExtend",
    "Network",
    "Parameters",
    "SimpleConvNet",
    "TwoLayerNet",
]
