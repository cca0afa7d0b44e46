"""One operation each: a file for each family, a class for each operation, a row for each shape."""

from . import elementwise, optimizers, products, softmax

OPS = [*products.ROWS, *elementwise.ROWS, *softmax.ROWS, *optimizers.ROWS]
