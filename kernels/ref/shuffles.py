"""Permutations that follow on each other. Sibling: kernels/cpu/shuffles.py."""

from itertools import pairwise

import numpy as np


def shuffles(bit_generator, orders):
    random = np.random.RandomState(bit_generator)
    for before, after in pairwise(orders):
        after[...] = before
        random.shuffle(after)
