"""How pooling is launched: see _images.cuh."""

_THREADS = 256
_MOST_BLOCKS = 8192  # fill any GPU several times over; beyond, each thread has more rows


def grid_of(images):
    """Grid and block for images (.., W), of which each thread has a column of some rows."""
    width = images.shape[-1]
    across = min(_THREADS, 1 << (width - 1).bit_length())
    down = _THREADS // across
    rows = images.size // width
    return (min(-(-rows // down), _MOST_BLOCKS), -(-width // across)), (across, down)
