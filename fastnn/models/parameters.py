from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike

from .._device import Array, xp_of

_ALIGNMENT = 64  # bytes: a vector that crosses a cache line takes two loads


class Parameters(Sequence[Array]):
    """Arrays by position, as book 2 has them in lists, and by name, as book 1 has them in dictionaries.

    The arrays stay: assigning to one copies the values into it.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        In the order of their positions.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.models import Parameters
    >>> params = Parameters({"W1": np.zeros((2, 2)), "b1": np.zeros(2)})
    >>> params["b1"] is params[1], len(params), list(params.keys())
    (True, 2, ['W1', 'b1'])
    >>> params["b1"] = [1.0, 2.0]
    >>> params[1]
    array([1., 2.])
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._by_name = dict(arrays)
        self._arrays = list(self._by_name.values())

    @classmethod
    def allocate(cls, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike) -> "Parameters":
        """Zeros of these shapes in one piece of memory, each beginning on a cache line."""
        dtype = np.dtype(dtype)
        line = _ALIGNMENT // dtype.itemsize
        sizes = [int(np.prod(shape)) for shape in shapes.values()]
        starts = np.cumsum([0] + [-(-size // line) * line for size in sizes])
        raw = np.zeros(starts[-1] + line, dtype)
        offset = -raw.ctypes.data % _ALIGNMENT // dtype.itemsize
        memory = raw[offset : offset + starts[-1]]
        parts = (
            memory[a : a + size].reshape(shape) for a, size, shape in zip(starts, sizes, shapes.values(), strict=False)
        )
        return cls(dict(zip(shapes, parts, strict=True)))

    def moved(self, move: Callable[[Array], Array]) -> "Parameters":
        """The same names, with what `move` makes of the arrays."""
        return Parameters({name: move(array) for name, array in self.items()})

    @overload
    def __getitem__(self, key: int | str) -> Array: ...
    @overload
    def __getitem__(self, key: slice) -> list[Array]: ...
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if key not in self._by_name:
                raise KeyError(f"no parameter {key!r}; there are {', '.join(self._by_name)}")
            return self._by_name[key]
        return self._arrays[key]

    def __setitem__(self, key: int | str, value: Any) -> None:
        array = self[key]
        if array is not value:  # as after params[i] -= step
            array[...] = xp_of(array).asarray(value)

    def __len__(self) -> int:
        return len(self._arrays)

    def __iter__(self) -> Iterator[Array]:
        return iter(self._arrays)

    def __contains__(self, key: object) -> bool:
        return key in self._by_name if isinstance(key, str) else any(key is a for a in self._arrays)

    def keys(self) -> Any:
        """Names, in order."""
        return self._by_name.keys()

    def values(self) -> Any:
        """Arrays, in order."""
        return self._by_name.values()

    def items(self) -> Any:
        """(name, array) pairs, in order."""
        return self._by_name.items()

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in self.items())
        return f"Parameters({shapes})"
