"""Where random numbers come from."""

from typing import Any

import numpy as np


def random_source(rng: Any) -> Any:
    """What `rng` stands for: None NumPy's global state, as in the book; an int a new Generator; else rng itself."""
    if rng is None:
        return np.random
    return np.random.default_rng(rng) if isinstance(rng, int | np.integer) else rng
