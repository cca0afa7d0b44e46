from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..cases import DTYPES, LAYERS, Array, Case, check_close
from ..goals import BEST

Normal = Callable[..., Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Op(Case):
    """One operation on arrays of one shape.

    A subclass says what the inputs are, what must come out, what that costs, and how each library does it. `fastnn` and
    `numpy` take the inputs, `torch` the library and then the inputs as tensors: each returns what is timed, a function
    without arguments that returns the result, or a list of results. `jax` returns a function of the inputs, which is
    then compiled and given them. A library without a method takes no part.

    Attributes
    ----------
    shape : tuple of int
    op : str
        Its name in the tables, such as ``sigmoid forward``.
    """

    shape: tuple[int, ...]

    kind = "op"
    op = ""
    fastnn = numpy = torch = jax = None

    @property
    def name(self) -> str:
        return f"{self.op}, {' x '.join(map(str, self.shape))}"

    @property
    def moved(self) -> int:
        """Elements that must be read and written."""
        raise NotImplementedError

    @property
    def bytes(self) -> int:
        return self.moved * np.dtype(self.dtype).itemsize

    @property
    def size(self) -> int:
        """Elements of the shape."""
        return math.prod(self.shape)

    def arrays(self, rng: np.random.Generator) -> Sequence[Array]:
        """The inputs; floats are then rounded to the dtype."""
        return [rng.standard_normal(self.shape)]

    def expected(self, *inputs: Array) -> Any:
        """The result, or a list of results, of inputs in float64."""
        raise NotImplementedError

    def inputs(self) -> list[Array]:
        return [_as(self.dtype, a) for a in self.arrays(np.random.default_rng(0))]

    def check(self, data: list[Array], got: list[Array]) -> None:
        check_close(got, _expected(self), self.dtype)


@functools.lru_cache(maxsize=1)
def _expected(op: Op) -> list[Array]:
    """The result of the inputs, rounded to the dtype of `op`, in float64."""
    want = op.expected(*(_as("float64", a) for a in op.inputs()))
    return want if isinstance(want, list) else [want]


def _as(dtype: str, a: Array) -> Array:
    return a.astype(dtype) if a.dtype.kind == "f" else a


def rows(
    op: type[Op],
    *shapes: tuple[int, ...],
    goals: Sequence[float | dict[str, float] | None] = (),
    dtypes: Sequence[str] = DTYPES,
    **fields: Any,
) -> list[Op]:
    """One operation in these shapes, in each dtype; for each shape a goal, or several, in float32."""
    made = []
    for shape, goal in itertools.zip_longest(shapes, goals):
        for dtype in dtypes:
            named = goal if isinstance(goal, dict) else {BEST: goal}
            met = {LAYERS: named} if goal and dtype == "float32" else {}
            made.append(op(dtype, shape=shape, goals=met, **fields))
    return made
