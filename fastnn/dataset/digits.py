"""Handwritten digits of 8x8 pixels, shipped with fastnn: real input without a network.

E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49, CC BY 4.0: the 1,797 images of its test set (see digits.LICENSE.txt).
"""

from importlib import resources

import numpy as np

from ._common import Array, Split, prepare

_TEST_PER_CLASS = 36


def load_digits(normalize: bool = True, flatten: bool = True, one_hot_label: bool = False) -> tuple[Split, Split]:
    """Load 1,437 training and 360 test images of handwritten digits.

    Parameters
    ----------
    normalize : bool
        True: float32 in 0..1. False: uint8 in 0..16.
    flatten : bool
        True: (N, 64). False: (N, 1, 8, 8).
    one_hot_label : bool
        True: labels (N, 10) float32. False: (N,) uint8.

    Returns
    -------
    (x_train, t_train), (x_test, t_test)
        A fixed split: the images in the order of ``np.random.RandomState(1998).permutation(1797)``, of which the
        first 36 of each class are for testing. Images of one writer may be on both sides.

    Notes
    -----
    E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    https://doi.org/10.24432/C50P49, licensed CC BY 4.0; here as integers 0..16 in uint8, as in the original.

    Examples
    --------
    >>> (x_train, t_train), (x_test, t_test) = load_digits()
    >>> x_train.shape, x_train.dtype, x_test.shape
    ((1437, 64), dtype('float32'), (360, 64))
    >>> np.bincount(t_test)
    array([36, 36, 36, 36, 36, 36, 36, 36, 36, 36])
    """
    with (resources.files(__package__) / "digits.npz").open("rb") as f, np.load(f, allow_pickle=False) as data:
        images, labels = data["images"], data["labels"]
    train, test = _split(labels)
    options = {"normalize": normalize, "flatten": flatten, "one_hot_label": one_hot_label}
    return (
        prepare(images[train], labels[train], 16, **options),
        prepare(images[test], labels[test], 16, **options),
    )


def _split(labels: Array) -> tuple[Array, Array]:
    """Rows for training and for testing, each in shuffled order."""
    order = np.random.RandomState(1998).permutation(len(labels))  # a stream that NumPy has frozen
    in_test = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        in_test[order[labels[order] == digit][:_TEST_PER_CLASS]] = True
    return order[~in_test[order]], order[in_test[order]]
