"""Stochastic gradient descent, in NumPy. Sibling: kernels/cpu/sgd.py.

param <- param - lr · grad

Arrays of one shape, any number of axes.
"""


def sgd_update(grad, lr, param):
    param -= lr * grad
