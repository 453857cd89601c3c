"""The HTTP scoring server that runs inside an image: `python -m edge_server --model model.onnx`.

It imports nothing of ours outside itself, so that its layer is small and its start is fast.
"""

import os

__version__ = "0.1.0"

# ONNX Runtime 1.29 and later start a telemetry thread, write a device id to the home folder and queue events as soon
# as they are imported; only this variable, set before, turns all of that off. A worker of a script imports it too.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
