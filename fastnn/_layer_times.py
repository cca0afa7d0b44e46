"""Where the time of a training step goes, layer by layer: `layer_times`."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ._arrays import Array
from ._timing import Contestant, interleave
from .layers import Affine, MatMul


@dataclasses.dataclass(frozen=True)
class LayerTime:
    """One layer in one direction: what it takes, and what it must do at least."""

    layer: str
    direction: str
    seconds: float
    flops: float
    nbytes: float


def layer_times(
    model: Any, optimizer: Any, x: Array, t: Array, step: Callable[[], Any], rounds: int, tell: Callable[[], Any]
) -> tuple[list[LayerTime], float]:
    """Times of each layer forward and backward, of the loss and of the update, in the order of a step; and of `step`.

    Each is called by itself on what a step would give it, so that what a network does for two layers at once (an
    activation right after its product) is not seen. `tell` is called after each measurement.
    """
    rows: list[tuple[str, str, Callable[[], Any], float, float]] = []
    backward = []
    h: Any = x
    for i, (name, layer) in enumerate(model.layers.items()):
        out = layer.forward(h)
        flops, held = _flops(layer, out), sum(p.nbytes for p in layer.params)
        rows.append((name, "forward", partial(layer.forward, h), flops, h.nbytes + held + out.nbytes))
        if i == 0 and isinstance(layer, MatMul):  # no gradient for the data
            backward.append((name, layer, {"input_gradient": False}, flops, h.nbytes + held + out.nbytes))
        else:
            backward.append((name, layer, {}, 2 * flops, 2 * h.nbytes + 2 * held + out.nbytes))
        h = out
    loss = model.loss_layer
    loss.forward(h, t)
    rows.append((type(loss).__name__, "forward", partial(loss.forward, h, t), 0.0, 2 * h.nbytes))
    rows.append((type(loss).__name__, "backward", loss.backward, 0.0, 2 * h.nbytes))
    dout = np.array(loss.backward())
    for name, layer, options, flops, moved in reversed(backward):
        rows.append((name, "backward", partial(layer.backward, dout, **options), flops, moved))
        if not options:
            dout = np.array(layer.backward(dout))
    update, held = partial(optimizer.update, model.params, model.grads), sum(p.nbytes for p in model.params)
    rows.append((type(optimizer).__name__, "update", update, 0.0, 3 * held))
    contestants = [Contestant(call, team="layers") for call in (*(row[2] for row in rows), step)]
    interleave(contestants, rounds, tell)
    times = [
        LayerTime(name, direction, c.median, flops, nbytes)
        for (name, direction, _, flops, nbytes), c in zip(rows, contestants, strict=False)
    ]
    return times, contestants[-1].median


def _flops(layer: Any, out: Array) -> float:
    """Of the product in a layer's forward; 0 for layers without one."""
    return 2.0 * out.size * layer.W.shape[0] if isinstance(layer, Affine | MatMul) else 0.0
