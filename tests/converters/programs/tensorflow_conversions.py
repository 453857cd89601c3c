"""``python tensorflow_conversions.py MODELS OUT``: convert what ``tensorflow_models.py`` wrote, all in one process.

Runs in TensorFlow's own environment, whose import takes most of a conversion's time. Writes for each model of the index
``OUT/NAME/`` with ``model.onnx``, ``manifest.json``, ``golden.json`` and ``report.json``, or ``error.json``.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Convert the models one after the other."""
    from converters.options import Options
    from converters.tensorflow.convert import convert
    from edgepack.errors import EdgepackError

    models, out = map(Path, arguments)
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
