"""The exceptions that are fastnn's own."""


class FileFormatError(ValueError):
    """A file is not what its name or place promises: damaged, of another format, or made to do harm."""
