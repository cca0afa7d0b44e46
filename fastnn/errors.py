"""Exceptions of fastnn. Everything else raises Python's own ValueError, TypeError and OSError."""


class FileFormatError(ValueError):
    """A file is not what its name promises: damaged, truncated, of another format, or hostile.

    The message is one line that names the file, what was expected and what was found.

    Examples
    --------
    >>> raise FileFormatError("'train-images-idx3-ubyte': expected 47040016 bytes, found 9")
    Traceback (most recent call last):
    fastnn.errors.FileFormatError: 'train-images-idx3-ubyte': expected 47040016 bytes, found 9
    """


class CannotCompile(TypeError):
    """A model or an optimizer that `fastnn.compile` does not cover; the message names what stands in the way."""
