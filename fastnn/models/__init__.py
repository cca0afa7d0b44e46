"""Networks of fastnn layers, ready to train."""

from .network import Network
from .parameters import Parameters
from .two_layer_net import TwoLayerNet

__all__ = ["Network", "Parameters", "TwoLayerNet"]
