"""From a trained model to ONNX, proven equal or refused with the reason.

``convert`` is the whole of it. It imports no framework here: the model is opened in another process.
"""

from converters.conversion import Conversion, ParitySummary, convert
from converters.options import Options

__all__ = ["Conversion", "Options", "ParitySummary", "convert"]
