"""PyTorch -> ONNX: the first export that answers as the original does, or a refusal with the reason.

Runs inside the sandbox only: loading an archive or an entry point runs what the user gave.
"""

from __future__ import annotations

import importlib.metadata
import logging
import warnings
from pathlib import Path

from converters.options import Options
from converters.package import manifest
from converters.package.tried import Tried
from converters.proof import assembly, comparison
from converters.proof.specs import Explored
from converters.pytorch import exports, finish, packed, ranges
from converters.pytorch.loading import load
from converters.pytorch.original import Original
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError

PARTS = ("torch", "onnxscript", "onnx", "onnxruntime", "numpy")


def convert(path: Path, digest: str, options: Options, tried: Tried | None = None) -> manifest.Converted:
    """Convert the PyTorch model in ``path`` (a file, or a folder with one) and prove it equal.

    Raises ``ConversionError`` or ``UsageError`` with what to do instead.
    """
    quiet()
    tried = tried or Tried()
    original = load(path, options)
    explored = ranges.explored(original, options)
    failures: list[ConversionError] = []
    for export in exports.of(original):
        tried.begin(export.recipe)
        try:
            return _package(original, explored, export, digest, options)
        except ConversionError as error:
            tried.failed(error)
            failures.append(error)
    if failures and packed.packs(original):
        raise packed.refusal(failures[-1]) from failures[-1]
    raise failures[0] if failures else ConversionError("this model cannot be exported", hint=SCRIPT)


def _package(
    original: Original, explored: Explored, export: exports.Export, digest: str, options: Options
) -> manifest.Converted:
    model = export.make()
    roles = finish.finish(model, original, explored)
    proof = comparison.prove_model(original, model, explored, options, roles)
    source = {"framework": "PyTorch", "version": original.version, "digest": digest, "recipe": export.recipe}
    versions = {part: importlib.metadata.version(part) for part in PARTS}
    return assembly.package(proof, explored, model, source, versions, original.notes, {"form": original.kind})


def quiet() -> None:
    """One thread, no gradients, no caches outside of /tmp; no warnings that are for training scripts."""
    import os

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", "/tmp/torchinductor")  # noqa: S108 - private inside the jail
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    # The fused kernel of a transformer's layers has no ONNX form; the plain one has the same answers.
    torch.backends.mha.set_fastpath_enabled(False)
    for name in ("torch", "torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
