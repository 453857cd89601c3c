"""In a process that a script's process spawned, takes the place of ``azureml`` until the finder of ours has its own.

``multiprocessing`` and ``joblib`` hand a new process their ``sys.path``, and no finders.
"""

from __future__ import annotations

import importlib
import sys

from packager.sdk import azureml_names

if __name__ == "azureml":
    azureml_names.install()
    sys.modules[__name__] = importlib.import_module(__name__)
