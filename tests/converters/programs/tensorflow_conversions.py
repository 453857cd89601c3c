"""``python tensorflow_conversions.py MODELS OUT NAME …``: make models by ``tensorflow_models.py``, and convert them.

Runs in TensorFlow's own environment, whose import takes most of a conversion's time: all in one process, and the models
in a fork of it. Writes for each model of the index ``OUT/NAME/`` with ``model.onnx`` and the manifest, golden vectors
and report as JSON, or ``error.json``.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import sys
from pathlib import Path

import tensorflow_models


def main(arguments: list[str]) -> int:
    """Make the models, and convert them one after the other."""
    from converters.options import Options
    from converters.tensorflow.convert import convert, quiet
    from edgepack.errors import EdgepackError

    quiet()
    import keras  # noqa: F401 - and TensorFlow with it, once for both processes

    maker = multiprocessing.get_context("fork").Process(
        target=tensorflow_models.main, args=([arguments[0], *arguments[2:]],)
    )
    maker.start()
    maker.join()
    if maker.exitcode:
        return maker.exitcode
    models, out = map(Path, arguments[:2])
    for entry in json.loads((models / "index.json").read_text()):
        folder = out / entry["name"]
        folder.mkdir(parents=True)
        try:
            converted = convert(models / entry["path"], f"sha256:{'0' * 64}", Options(**entry["options"]))
        except EdgepackError as error:
            (folder / "error.json").write_text(json.dumps({"kind": type(error).__name__, "text": str(error)}))
            continue
        (folder / "model.onnx").write_bytes(converted.model)
        for name, document in (
            ("manifest", converted.manifest),
            ("golden", converted.golden),
            ("report", converted.report),
        ):
            (folder / f"{name}.json").write_text(json.dumps(document, allow_nan=False))
    return 0


if __name__ == "__main__":
    gc.set_threshold(200_000, 20, 20)  # as the sandbox's process does
    sys.exit(main(sys.argv[1:]))
