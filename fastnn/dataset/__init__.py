"""Data sets of the book: `spiral` and `digits` need no network, `mnist` reads, or downloads once, four files."""

from . import digits, mnist, spiral

__all__ = ["digits", "mnist", "spiral"]
