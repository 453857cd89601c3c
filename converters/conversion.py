"""The caller's side of a conversion: hand the model to the sandbox, check what comes back, put it in place."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import signal
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters import manifest, sandbox, worker
from edgepack.errors import (
    ConversionError,
    MissingPartError,
    NotFoundError,
    UsageError,
    disk_errors,
)
from edgepack.files import atomic_write, make_dirs

log = logging.getLogger(__name__)

# What each framework's recipe imports, and the endings by which its one file in a folder is known.
PARTS = {
    "ScikitLearn": ("sklearn", "skl2onnx", "onnx", "onnxruntime", "joblib"),
    "Onnx": ("onnx", "onnxruntime", "numpy"),
}
ENDINGS = {"ScikitLearn": (".pkl", ".pickle", ".joblib"), "Onnx": (".onnx",)}
NOT_YET = ("TensorFlow", "PyTorch", "Custom")
JSON_LIMIT = 64 << 20


@dataclass(frozen=True)
class ParitySummary:
    """Over all outputs: rows compared, largest differences, least label agreement (None without labels)."""

    rows: int
    max_abs: float
    max_rel: float
    label_agreement: float | None
    passed: bool


@dataclass(frozen=True)
class Conversion:
    """A model as ONNX, proven equal to its original, with its papers.

    ``report`` is the parity report (JSON, schema ``edgepack.parity/v1``). ``golden`` is None for an ONNX model
    whose inputs could not be made up, ``parity`` where nothing could be run to compare.
    """

    model: Path
    manifest: Path
    report: Path
    golden: Path | None
    framework: str
    framework_version: str
    parity: ParitySummary | None
    warnings: tuple[str, ...]


def convert(
    path: Path,
    *,
    framework: str,
    output_dir: Path,
    sample: Path | None = None,
    timeout: float = 600,
    memory: int = 16 << 30,
) -> Conversion:
    """Convert the model file ``path`` into ``output_dir`` (created if absent): the ONNX model and its papers.

    ``framework`` is ``ScikitLearn`` or ``Onnx``; ``path`` may be a folder with one such file. ``sample`` is a
    ``.csv``, ``.json``, ``.npy`` or ``.npz`` file of input rows. ``timeout`` is seconds of wall time, ``memory``
    bytes of address space. The model is opened only in a process of its own (``converters.sandbox``).

    The same bytes in give the same model, manifest and golden vectors. On any error ``output_dir`` holds no new
    package. Raises ``UsageError`` (framework, sample), ``NotFoundError`` (a path), ``MissingPartError`` (the
    framework is not installed), ``ConversionError`` (cannot be converted, or not faithfully), ``NoSpaceError``.
    """
    _require_framework(framework)
    file = _model_file(path, framework)
    if sample is not None and not sample.is_file():
        raise NotFoundError("there is no such sample file", where=sample, hint="check its path")
    given = None if sample is None else sample.resolve()
    digest = _digest(file)
    isolation = sandbox.available()
    if isolation.reason is not None:
        log.warning("the model is opened with less isolation: %s", isolation.reason)
    # A pickle is one file; an ONNX model may keep its weights in files beside it.
    readable = [file if framework == "ScikitLearn" else file.parent, *([] if given is None else [given])]
    make_dirs(output_dir.resolve())
    with (
        disk_errors(output_dir),
        tempfile.TemporaryDirectory(
            prefix=".converting-", dir=output_dir.resolve(), ignore_cleanup_errors=True
        ) as made,
    ):
        folder = Path(made)
        outcome = sandbox.run(
            "converters.worker",
            {
                "framework": framework,
                "path": str(file),
                "digest": digest,
                "sample": None if given is None else str(given),
            },
            isolation=isolation,
            readable=readable,
            folder=folder,
            limits=sandbox.Limits(seconds=timeout, memory=memory),
        )
        _require_success(outcome, folder, path, sample, timeout)
        return _deliver(folder, output_dir, framework, digest, isolation, path)


def _require_framework(framework: str) -> None:
    if framework in NOT_YET:
        raise UsageError(
            f"this version converts only scikit-learn models, not {framework}",
            hint="export the model to ONNX and register that with --framework Onnx",
        )
    if framework not in PARTS:
        known = ", ".join((*PARTS, *NOT_YET))
        raise UsageError(f"there is no framework {framework!r}", hint=f"give one of {known}")
    for part in PARTS[framework]:
        if importlib.util.find_spec(part) is None:
            raise MissingPartError(
                f"converting needs the Python package {part}, which is not installed",
                hint="install edgepack[sklearn]",
            )


def _model_file(path: Path, framework: str) -> Path:
    if path.is_dir():
        found = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in ENDINGS[framework])
        if len(found) != 1:
            raise UsageError(
                f"the folder has {len(found)} {framework} model files ({', '.join(ENDINGS[framework])}), not one",
                where=path,
                hint="name the file itself",
            )
        path = found[0]
    if not path.is_file():
        raise NotFoundError("there is no such model file", where=path, hint="check its path")
    return path.resolve()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _require_success(outcome: sandbox.Outcome, folder: Path, path: Path, sample: Path | None, timeout: float) -> None:
    if outcome.timed_out:
        raise ConversionError(
            f"the conversion took longer than {timeout:g} seconds and was ended",
            where=path.name,
            hint="allow more time if the model is large, or register an ONNX export",
        )
    if outcome.code == worker.NOT_CONFINED:
        raise ConversionError(
            f"the sandbox could not be built ({outcome.stderr})",
            where=path.name,
            hint="run where user namespaces are allowed, or where unshare is absent to go without",
        )
    response = _response(folder) if outcome.code == 0 else None
    if response is None:
        log.debug("the conversion's process ended with %s: %s", outcome.code, outcome.stderr)
        raise ConversionError(
            f"the conversion's process ended unexpectedly ({_ending(outcome)})",
            where=path.name,
            hint="raise the memory limit if the model is large, or register an ONNX export",
        )
    if response.get("ok") is True:
        return
    error = response.get("error")
    what, hint, kind = (
        (str(error.get("what")), str(error.get("hint")), error.get("kind"))
        if isinstance(error, dict)
        else ("the conversion failed", "register an ONNX export", "conversion")
    )
    if kind == "usage":
        raise UsageError(what, where=(sample or path).name, hint=hint)
    raise ConversionError(what, where=path.name, hint=hint)


def _response(folder: Path) -> Mapping[str, Any] | None:
    try:
        response = json.loads(_read(folder / worker.RESPONSE_FILE, JSON_LIMIT))
    except (OSError, ValueError, ConversionError):
        return None
    return response if isinstance(response, dict) else None


def _ending(outcome: sandbox.Outcome) -> str:
    if outcome.code < 0:
        return signal.Signals(-outcome.code).name
    last = outcome.stderr.splitlines()[-1:]
    return f"exit code {outcome.code}" + (f", {last[0][:300]}" if last else "")


def _deliver(
    folder: Path,
    output_dir: Path,
    framework: str,
    digest: str,
    isolation: sandbox.Isolation,
    path: Path,
) -> Conversion:
    """Move the package into place, the manifest last; what the sandbox wrote is data, and is checked as such."""
    try:
        papers = _read(folder / manifest.MANIFEST_FILE, JSON_LIMIT)
        document = json.loads(papers)
        report = json.loads(_read(folder / manifest.REPORT_FILE, JSON_LIMIT))
        model = _read(folder / manifest.MODEL_FILE, sandbox.Limits().file_size)
        golden = None if document["golden"] is None else _read(folder / manifest.GOLDEN_FILE, JSON_LIMIT)
        source, summary = document["source"], document["parity"]
        sound = (
            document["schema"] == manifest.SCHEMA
            and document["file"] == manifest.MODEL_FILE
            and (source["framework"], source["digest"]) == (framework, digest)
            and (golden is None or document["golden"]["file"] == manifest.GOLDEN_FILE)
            and (golden is None or document["golden"]["digest"] == f"sha256:{hashlib.sha256(golden).hexdigest()}")
        )
        version = str(source["version"])
        parity = None if summary is None else ParitySummary(**summary)
        warnings = tuple(map(str, report["warnings"]))
        sound = sound and (parity is None or parity.passed is True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConversionError("the conversion wrote no sound package", where=path.name, hint="run it again") from error
    if not sound:
        raise ConversionError("the conversion wrote no sound package", where=path.name, hint="run it again")
    report |= {"schema": manifest.REPORT_SCHEMA, "isolation": isolation.to_json()}
    target = {name: output_dir / name for name in (manifest.MODEL_FILE, manifest.REPORT_FILE, manifest.GOLDEN_FILE)}
    final = output_dir / manifest.MANIFEST_FILE
    # An older manifest must not vouch for a new model if this is interrupted.
    final.unlink(missing_ok=True)
    target[manifest.GOLDEN_FILE].unlink(missing_ok=True)
    atomic_write(target[manifest.MODEL_FILE], model)
    atomic_write(target[manifest.REPORT_FILE], manifest.to_bytes(report))
    if golden is not None:
        atomic_write(target[manifest.GOLDEN_FILE], golden)
    atomic_write(final, papers)
    return Conversion(
        model=target[manifest.MODEL_FILE],
        manifest=final,
        report=target[manifest.REPORT_FILE],
        golden=None if golden is None else target[manifest.GOLDEN_FILE],
        framework=framework,
        framework_version=version,
        parity=parity,
        warnings=warnings,
    )


def _read(path: Path, limit: int) -> bytes:
    """A regular file of the sandbox's, never through a link that it may have left."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
            raise ConversionError("the conversion left a file that is none or too large", where=path.name)
        return file.read(limit)
