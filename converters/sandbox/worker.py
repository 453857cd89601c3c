"""``python -m converters.sandbox.worker REQUEST``: confine this process, then convert one untrusted model.

The request is a JSON file with ``confinement`` (see ``converters.sandbox.jail``) and ``job``: ``framework``, ``path``,
``digest``, ``options``. The answer is ``response.json`` beside it (see ``converters.sandbox.response``), with the
package's files where it is done. Started by ``converters.conversion`` only.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.options import ANY_OUTPUT, Options
from converters.package import manifest
from converters.package.tried import Tried
from converters.sandbox import response
from converters.sandbox.jail import Confinement, JailError
from converters.sandbox.response import Response
from edgepack.errors import ConversionError, EdgepackError, UsageError
from edgepack.nearness import did_you_mean

NOT_CONFINED = 97
# The package of each framework; its ``convert`` module has the one function that converts.
PACKAGES = {"ScikitLearn": "sklearn", "TensorFlow": "tensorflow", "PyTorch": "pytorch", "Onnx": "onnx"}


def main(arguments: list[str]) -> int:
    """Answer the request in ``arguments[0]``; 97 when the process could not be confined, and then did nothing."""
    request_file = Path(arguments[0])
    request = json.loads(request_file.read_text())
    try:
        Confinement(**request["confinement"]).take()
    except JailError as error:
        sys.stderr.write(f"{error}\n")
        return NOT_CONFINED
    # Frameworks make hundreds of thousands of small objects on import and export, and hardly a cycle among them.
    gc.set_threshold(200_000, 20, 20)
    respond(request_file.parent, request["job"])
    return 0


def respond(folder: Path, job: Mapping[str, Any]) -> None:
    """Convert in this process, as it is; what comes of it is written into ``folder``."""
    answer = Response()
    try:
        _convert(folder, job)
    except EdgepackError as error:
        answer = Response(error)
    except MemoryError:
        answer = Response(
            ConversionError("the conversion ran out of its memory limit", hint="raise the limit (--memory GIB)")
        )
    (folder / response.FILE).write_bytes(answer.to_bytes())


def _convert(folder: Path, job: Mapping[str, Any]) -> None:
    # The frameworks' warnings are for training scripts; each converter collects those that matter.
    warnings.simplefilter("ignore")
    converter = importlib.import_module(f"converters.{PACKAGES[job['framework']]}.convert")
    options = Options.from_json(job["options"])
    path = Path(job["path"])
    converted: manifest.Converted = converter.convert(path, job["digest"], options, Tried(folder))
    _require_known(options, converted, path)
    if options.optimize:
        from converters.optimize import optimize

        converted = optimize(converted)
    document, golden = manifest.finish(converted.manifest, converted.golden)
    (folder / manifest.MODEL_FILE).write_bytes(converted.model)
    (folder / manifest.MANIFEST_FILE).write_bytes(document)
    if golden is not None:
        (folder / manifest.GOLDEN_FILE).write_bytes(golden)
    (folder / manifest.REPORT_FILE).write_bytes(manifest.to_bytes(converted.report))


def _require_known(options: Options, converted: manifest.Converted, path: Path) -> None:
    """Refuse a tolerance for an output that the model does not have: a misspelt name would be ignored silently."""
    names = [str(output["name"]) for output in converted.manifest["outputs"]]
    unknown = sorted(options.tolerances.keys() - {*names, ANY_OUTPUT})
    if unknown:
        raise UsageError(
            f"the model has no output {unknown[0]!r} to accept a difference of",
            where=path.name,
            hint=did_you_mean(unknown[0], names, f"give --tolerance for {', '.join(names)}, or {ANY_OUTPUT} for all"),
        )


if __name__ == "__main__":
    CODE = main(sys.argv[1:])
    sys.stderr.flush()
    # All is written. Taking a framework apart again piece by piece takes a quarter of a second, of TensorFlow more.
    os._exit(CODE)
