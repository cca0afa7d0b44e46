"""The contestants: each does a case as a good user of that library would write it.

A peer is made once a process, which fails with `ImportError` where its library is not installed. ``use(threads)`` comes
before its cases are built and before each of them is timed. A method for each kind of case (``train``, ``predict``,
``images``, ``op``) builds a `Job`; a peer without one does not take part in such cases.
"""

from .peer import Peer
from .with_fastnn import FastnnCompiled, FastnnLayers
from .with_jax import Jax
from .with_numpy import Numpy, NumpyBook
from .with_onnx import OnnxRuntime
from .with_sklearn import ScikitLearn
from .with_torch import Torch, TorchCompiled

# PyTorch first: loaded after fastnn it would share fastnn's OpenMP, and its settings, in place of its own.
PEERS: tuple[type[Peer], ...] = (
    Torch, TorchCompiled, Jax, OnnxRuntime, NumpyBook, Numpy, ScikitLearn, FastnnLayers, FastnnCompiled,
)  # fmt: skip
