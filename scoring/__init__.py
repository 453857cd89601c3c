"""The HTTP scoring server that runs inside an image: `python -m scoring --model model.onnx`.

It imports nothing of ours outside itself, so that its layer is small and its start is fast.
"""

__version__ = "0.1.0"
