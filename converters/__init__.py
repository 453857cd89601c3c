"""From a trained model to ONNX, proven equal or refused with the reason.

``convert`` is the whole of it. It imports no framework here: the model is opened in another process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converters.options import Options

if TYPE_CHECKING:
    from converters.conversion import Conversion, ParitySummary, convert

__all__ = ["Conversion", "Options", "ParitySummary", "convert"]


def __getattr__(name: str) -> Any:
    """Import the caller's side on first use: the other side, in the sandbox, does not need it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from converters import conversion

    return getattr(conversion, name)
