"""One operation each: a file for each family, a class for each operation, a row for each shape."""

from . import elementwise, images, optimizers, products, softmax

OPS = [*products.ROWS, *elementwise.ROWS, *softmax.ROWS, *optimizers.ROWS, *images.ROWS]
