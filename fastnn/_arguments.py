"""What the command line takes as values: each function says in one line what it expected."""

import argparse
import math
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path


class UsageError(ValueError):
    """An option whose value turned out to be wrong only when it was used."""


def output_folder(option: str, folder: str | Path) -> Path:
    """The folder, made where there is none, in which files can be written: said before the work, not after it."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{option}: expected a directory, got the file '{folder}'")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(f"{option}: cannot write to '{folder}': {error.strerror}") from None
    return folder


def integer(least: int) -> Callable[[str], int]:
    """An integer of at least that."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected an integer of at least {least}, got {text!r}")
        return value

    return convert


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return value


def some_of(among: Sequence[str]) -> Callable[[str], list[str]]:
    """Some of these words, with commas between them."""

    def convert(text: str) -> list[str]:
        words = list(dict.fromkeys(word.strip() for word in text.split(",")))
        for word in words:
            if word not in among:
                raise argparse.ArgumentTypeError(f"expected some of {','.join(among)}, got {word!r}")
        return words

    return convert


def layer_sizes(text: str) -> tuple[int, ...]:
    """As in ``784-50-10``."""
    if not re.fullmatch(r"[1-9]\d{0,8}(-[1-9]\d{0,8})+", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"expected sizes such as 784-50-10, got {text!r}")
    return tuple(map(int, text.split("-")))


def batch_sizes(text: str) -> list[int]:
    """A list such as ``1,10,100``, in which ``1:64`` stands for the powers of two from 1 to 64.

    Examples
    --------
    >>> batch_sizes("1:8,100")
    [1, 2, 4, 8, 100]
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([1-9]\d{0,8})(?::([1-9]\d{0,8}))?", part.strip(), re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise argparse.ArgumentTypeError(f"expected batch sizes such as 1:4096 or 1,10,100, got {text!r}")
        found |= {first, last} | {2**i for i in range(30) if first <= 2**i <= last}
    return sorted(found)
