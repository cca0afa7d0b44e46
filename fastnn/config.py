"""Settings of the whole process, as in the book (book 2, ``common/config.py``).

GPU : bool
    Compute on the GPU with CuPy arrays. Looked at when something is first computed, not at import: on a machine
    without a usable GPU that first use raises one clear error.
dtype : str
    Data type of the parameters of models that are not told another: ``"float32"`` or ``"float64"``.

Examples
--------
>>> from fastnn import config
>>> config.GPU, config.dtype
(False, 'float32')
"""

GPU: bool = False
dtype: str = "float32"
