"""The modules of wheels whose bytecode is not worth its bytes in an image."""

from __future__ import annotations

from packager.layers.rules import path_pattern

# Numpy and onnxruntime are imported in 0.25 s without bytecode, in 0.12 s with all of it (4.7 MB), and in
# 0.15 s with what these lists leave (1.9 MB).
_NOT_IMPORTED_AT_START = (
    "numpy/_core/defchararray.py", "numpy/_core/strings.py", "numpy/_utils/_pep440.py",
    "numpy/core/**", "numpy/ctypeslib/**", "numpy/doc/**", "numpy/fft/**", "numpy/lib/_user_array_impl.py",
    "numpy/lib/recfunctions.py", "numpy/ma/**", "numpy/matlib.py", "numpy/polynomial/**", "numpy/testing/**",
    "numpy/typing/**",
)  # fmt: skip
# Compiling them takes little time for the size of their bytecode, which repeats the docstrings.
_MOSTLY_DOCSTRINGS = (
    "numpy/_core/_add_newdocs*.py", "numpy/_core/fromnumeric.py", "numpy/_core/multiarray.py",
    "numpy/_core/numeric.py", "numpy/lib/_arraysetops_impl.py", "numpy/lib/_datasource.py",
    "numpy/lib/_histograms_impl.py", "numpy/lib/_index_tricks_impl.py", "numpy/lib/_nanfunctions_impl.py",
    "numpy/lib/_npyio_impl.py", "numpy/lib/_polynomial_impl.py", "numpy/lib/_scimath_impl.py",
    "numpy/lib/_shape_base_impl.py", "numpy/lib/_stride_tricks_impl.py", "numpy/lib/_twodim_base_impl.py",
    "numpy/lib/_type_check_impl.py", "numpy/matrixlib/defmatrix.py",
)  # fmt: skip
# Python 3.11.2 and 3.11.7 compile this one differently, and the same inputs shall give the same image on both.
_DIFFER_BETWEEN_PATCHES = ("numpy/lib/_arraypad_impl.py",)
WITHOUT_BYTECODE: tuple[str, ...] = (*_NOT_IMPORTED_AT_START, *_MOSTLY_DOCSTRINGS, *_DIFFER_BETWEEN_PATCHES)
_PATTERN = path_pattern(WITHOUT_BYTECODE)


def is_compiled(path: str) -> bool:
    """Whether the layer has bytecode for the module ``path``, which is relative to site-packages."""
    return path.endswith(".py") and _PATTERN.fullmatch(path) is None
