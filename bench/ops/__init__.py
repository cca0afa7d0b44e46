"""One operation each: a file for each family, a class for each operation, a row for each shape."""

from . import elementwise, images, losses, optimizers, products, softmax

OPS = [*products.ROWS, *elementwise.ROWS, *softmax.ROWS, *losses.ROWS, *optimizers.ROWS, *images.ROWS]
