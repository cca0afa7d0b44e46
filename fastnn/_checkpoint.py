"""What a checkpoint of a trainer holds, as named arrays in one .safetensors or .npz file.

``param.0`` ...             the model's parameters
``layer.NAME.ATTRIBUTE``    what layers remember besides, their `state_names`
``optimizer.*``             `Optimizer.state`
``list.loss_list`` ...      the trainer's lists
``order``                   rows of the epoch in progress
``values``                  `Progress`, states of generators, counts: JSON in uint8
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

import numpy as np

from ._arrays import Array
from .errors import FileFormatError


@dataclass
class Progress:
    """Where a `fit` stands."""

    epoch: int = 0  # whole epochs done in this fit
    iteration: int = 0  # iterations done of the next
    evaluations: int = 0
    total_loss: float = 0.0  # of the iterations since the last evaluation
    loss_count: int = 0


def generator_state(rng: Any) -> dict[str, Any]:
    """The state of a `random_source`, as JSON takes it."""
    state = rng.bit_generator.state if isinstance(rng, np.random.Generator) else rng.get_state(legacy=False)
    return _plain(state)


def set_generator_state(rng: Any, state: Any) -> None:
    """Put a generator into a state of `generator_state`; a ValueError if it is none of this generator's."""
    try:
        position = {"pos": 0, "buffer_pos": 0} | state | state["state"]
        if not (0 <= position["pos"] <= 624 and 0 <= position["buffer_pos"] <= 4):  # NumPy would read beyond its arrays
            raise IndexError("position out of range")
        if isinstance(rng, np.random.Generator):
            rng.bit_generator.state = state
        else:
            rng.set_state(state)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
        kind = state.get("bit_generator") if isinstance(state, dict) else None
        raise ValueError(f"rng must be a generator {kind!r} with the state in the checkpoint: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _layers(model: Any) -> dict[str, Any]:
    layers = getattr(model, "layers", ())
    return {str(name): layer for name, layer in (layers.items() if hasattr(layers, "items") else enumerate(layers))}


def layer_arrays(model: Any) -> dict[str, Array]:
    """What layers remember between iterations besides their parameters."""
    return {
        f"{name}.{attribute}": getattr(layer, attribute)
        for name, layer in _layers(model).items()
        for attribute in getattr(layer, "state_names", ())
    }


def layer_generators(model: Any) -> dict[str, Any]:
    """The generators of layers that draw numbers."""
    return {name: layer.rng for name, layer in _layers(model).items() if getattr(layer, "rng", None) is not None}


@dataclass
class Checkpoint:
    """A checkpoint as `unpack` found it."""

    progress: Progress
    params: dict[str, Array]
    layers: dict[str, Array]
    optimizer: dict[str, Array]
    lists: dict[str, Array]
    counts: dict[str, int | None]
    order: Array
    rng: Any  # states of generators, as JSON
    layer_rngs: dict[str, Any]


def pack(arrays: Mapping[str, Array], values: dict[str, Any]) -> dict[str, Array]:
    """Named arrays for a file, with `values` as JSON among them."""
    return {**arrays, "values": np.frombuffer(json.dumps(values, default=float).encode(), np.uint8)}


def unpack(arrays: dict[str, Array], lists: Iterable[str], counts: Iterable[str], path: Any) -> Checkpoint:
    """What `pack` packed, checked to be complete; FileFormatError otherwise."""
    try:
        raw, order = arrays.pop("values"), arrays.pop("order")
        values = json.loads(raw.tobytes() if raw.dtype == np.uint8 else b"")
        groups: dict[str, dict[str, Array]] = {"param": {}, "layer": {}, "optimizer": {}, "list": {}}
        for name, a in arrays.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = a
        found = groups["list"].keys(), values["counts"].keys()
        if found != (set(lists), set(counts)) or any(a.ndim != 1 for a in (order, *groups["list"].values())):
            raise ValueError("another trainer's lists")
        if not all(n is None or (type(n) is int and n >= 0) for n in values["counts"].values()):
            raise ValueError(f"counts {values['counts']}")
        kinds = get_type_hints(Progress)
        if not isinstance(values["layer_rngs"], dict):
            raise ValueError("generators that are none")
        progress = Progress(**{name: values["progress"][name] for name in kinds})
        for name, kind in kinds.items():
            if type(getattr(progress, name)) is not kind or getattr(progress, name) < 0:
                raise ValueError(f"{name} {getattr(progress, name)!r}")
        if order.dtype.kind != "i" or not np.array_equal(np.sort(order), np.arange(len(order))):
            raise ValueError("an order of rows that is none")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"{os.fspath(path)!r}: not a checkpoint of this kind of trainer: {error}") from None
    return Checkpoint(
        progress, groups["param"], groups["layer"], groups["optimizer"], groups["list"], values["counts"],
        order.astype(np.intp), values["rng"], values["layer_rngs"],
    )  # fmt: skip


def check_alike(path: Any, what: str, live: Mapping[str, Any], saved: Mapping[str, Array]) -> None:
    """ValueError unless both have the same names, shapes and dtypes."""
    for name in [*live, *saved]:
        if name not in live or name not in saved:
            where = "checkpoint" if name not in saved else "model"
            raise ValueError(f"{os.fspath(path)!r}: the {where} has no {what} {name}")
        a, b = live[name], saved[name]
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise ValueError(
                f"{os.fspath(path)!r}: {what} {name} must be {a.dtype} of shape {a.shape}, "
                f"the checkpoint has {b.dtype} of shape {b.shape}"
            )
