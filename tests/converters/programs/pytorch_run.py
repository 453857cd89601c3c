"""``python pytorch_run.py FOLDER OUT NAME...``: write these models, convert them here, into ``OUT/results.json``.

The names and what is in FOLDER are those of ``pytorch_models.py``.

Run with the Python of the PyTorch environment; one process saves the seconds that importing torch takes. A result has
the ``manifest`` and ``report``, or the ``error``; ``difference`` is the largest one between the ONNX model and the
module that the case was made from, over batches of other sizes (None where the case is not of a module).
"""

from __future__ import annotations

import gc
import json
import sys
import time
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytorch_models
import pytorch_modules
import torch
from torch.onnx._internal.exporter import _registration

from converters import Options
from converters.pytorch.convert import convert
from edgepack.errors import EdgepackError

BATCHES = (1, 2, 5, 9)


def difference(name: str, model: bytes, batch: int | None) -> float:
    """The largest difference to the module ``name``, over batches of several sizes, or of the one size."""
    module = pytorch_modules.make(name)
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    largest = 0.0
    for rows in (batch,) if batch else BATCHES:
        generator = torch.Generator().manual_seed(rows)
        for sign in (1, -1):
            tensors = []
            for example in pytorch_modules.examples(name):
                places = torch.randint(0, len(example), (rows,), generator=generator)
                tensors.append(example[places] * sign if example.dtype == torch.float32 else example[places])
            with torch.no_grad():
                answer = module(*tensors)
            wanted = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, tuple) else [answer]
            names = pytorch_models.input_names(name)
            feeds = {key: tensor.numpy() for key, tensor in zip(names, tensors, strict=True)}
            for left, right in zip(wanted, session.run(None, feeds), strict=True):
                assert tuple(left.shape) == right.shape
                largest = max(largest, float(np.abs(left.numpy() - right).max()))
    return largest


def run(folder: Path, case: dict[str, Any], out: Path) -> dict[str, Any]:
    """Convert one case as the sandbox would; the model's file is ``<name>.onnx`` in ``out``."""
    options = dict(case["options"])
    if "sample" in options:
        options["sample"] = folder / options["sample"]
    before, start = list(sys.path), time.perf_counter()
    sys.modules.pop("pytorch_modules", None)  # the entry point's own copy is to be imported
    try:
        converted = convert(folder / case["path"], "sha256:0", Options(**options))
    except EdgepackError as error:
        return {"error": {"kind": type(error).__name__, "what": error.what, "hint": error.hint}}
    finally:
        sys.path[:] = before
        sys.modules["pytorch_modules"] = pytorch_modules
    seconds = time.perf_counter() - start
    (out / f"{case['name']}.onnx").write_bytes(converted.model)
    module = case["name"].split()[0]
    batch = next(iter(converted.manifest["inputs"][0]["shape"]), None)
    known = module in pytorch_modules.MODULES
    return {
        "manifest": converted.manifest,
        "report": converted.report,
        "seconds": seconds,
        "difference": difference(module, converted.model, batch) if known else None,
    }


def read_translations_once() -> None:
    """torch reads the source of its translations to ONNX at every export, for a second; for ours, at the first."""
    read = cache(_registration.ONNXRegistry.from_torchlib)

    def own_copy(opset_version: int) -> _registration.ONNXRegistry:
        found = copy(read(opset_version))
        found.functions = {target: list(functions) for target, functions in found.functions.items()}
        return found

    _registration.ONNXRegistry.from_torchlib = staticmethod(own_copy)


def main(arguments: list[str]) -> None:
    """Write, convert and compare the cases."""
    read_translations_once()
    folder, out = map(Path, arguments[:2])
    pytorch_models.main([str(folder), *arguments[2:]])
    out.mkdir(exist_ok=True)
    index = json.loads((folder / "index.json").read_text())
    results = {case["name"]: run(folder, case, out) for case in index}
    (out / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    gc.set_threshold(200_000, 20, 20)  # as the sandbox's process does
    main(sys.argv[1:])
