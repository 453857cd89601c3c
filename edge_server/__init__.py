"""The HTTP scoring server that runs inside an image: ``edge-server --model model.onnx``.

It imports none of the other rooms, so that its layer is small and its start is fast.
"""

import os
import sys
from contextlib import suppress

__version__ = "0.1.0"

# ``python -m edge_server`` puts the working folder first in sys.path, where a script may have a logging.py beside it.
# While Python looks for what -m names, sys.argv[0] is "-m".
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    with suppress(OSError):  # the working folder was removed: Python has left it out
        if sys.path[:1] == [os.getcwd()]:  # noqa: PTH109 - pathlib may be the user's
            del sys.path[0]

# ONNX Runtime 1.29 and later start a telemetry thread, write a device id to the home folder and queue events as soon
# as they are imported; only this variable, set before, turns all of that off. A worker of a script imports it too.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
