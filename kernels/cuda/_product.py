"""Launching matrix products: see _product.cu.

Matrices of one dtype, each contiguous along one of its axes, out along its rows. Which kernel: the one with the largest
tiles of those that give every multiprocessor a tile.
"""

from ._launch import kernel, multiprocessors

STORE, BIAS, BIAS_RELU, BIAS_SIGMOID, RELU_GRADIENT, SIGMOID_GRADIENT = range(6)


def _tiles(M, N, side):
    return -(-M // side) * -(-N // side)


def _choice(M, N, itemsize):
    """Name of the kernel, blocks, threads of each."""
    enough = multiprocessors()
    if itemsize == 4 and (blocks := _tiles(M, N, 128)) >= enough:
        return "product_large", blocks, 256
    if (blocks := _tiles(M, N, 64)) >= enough:
        return "product_medium", blocks, 256
    return "product_small", _tiles(M, N, 32), 1024 // itemsize


def product(a, b, out, ending=STORE, vector=None, column_sums=None):
    """out = ending(a·b); column_sums = those of b. vector: the bias or y that the ending is about."""
    (M, K), N, size = a.shape, b.shape[1], a.itemsize
    if M == 0 or N == 0:
        return
    name, blocks, threads = _choice(M, N, size)
    vector_step = 0 if vector is None or vector.ndim == 1 else vector.strides[0] // size
    kernel("_product", name, scalar=a.dtype)(
        (blocks,),
        (threads,),
        (
            *(a, a.strides[0] // size, 1 if K == 1 else a.strides[1] // size),
            *(b, 1 if K == 1 else b.strides[0] // size, b.strides[1] // size),
            *(M, N, K, ending, 0 if vector is None else vector, vector_step),
            *(0 if column_sums is None else column_sums, out, out.strides[0] // size),
        ),
    )
