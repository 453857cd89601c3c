"""The caller's side of a conversion: hand the model to the sandbox, check what comes back, put it in place."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from converters.options import Options
from converters.package import cache as caches
from converters.package import manifest, tried
from converters.sandbox import launch, response, worker
from converters.sandbox.response import Response
from converters.software import selection
from converters.software.selection import Environment
from converters.source import frameworks, model_files
from converters.source.model_files import ModelFiles
from converters.ways_out import REPORT_FAULT, SCRIPT
from edgepack.documents import parse_object
from edgepack.errors import (
    ConversionError,
    InvalidDocumentError,
    NoSpaceError,
    NotFoundError,
    UsageError,
    disk_errors,
)
from edgepack.host.files import atomic_write, make_dirs
from edgepack.host.scratch import scratch_folder
from edgepack.limits import LIMITS
from edgepack.nearness import nearest

_log = logging.getLogger(__name__)

FRAMEWORKS = tuple(worker.PACKAGES)
LITTLE_SPACE = 1 << 16
DEFAULTS = Options()


@dataclass(frozen=True)
class ParitySummary:
    """Over all outputs: rows compared, largest differences, least label agreement (None without labels).

    ``accepted`` maps outputs to the larger differences that the user allowed.
    """

    rows: int
    max_abs: float
    max_rel: float
    label_agreement: float | None
    passed: bool
    accepted: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Conversion:
    """A model as ONNX, proven equal to its original, with its manifest and report.

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
    options: Options = DEFAULTS,
    timeout: float = 600,
    memory: int = 16 << 30,
    cache: Path | None = None,
    again: bool = False,
    offline: bool = False,
) -> Conversion:
    """Convert the model ``path`` into ``output_dir`` (created if absent), with its manifest and report.

    ``framework`` is one of ``FRAMEWORKS``; ``path`` is a file, a SavedModel folder, a folder with one model file, or
    for ``options.entry`` the folder of the weights and their module. ``sample`` is short for ``options.sample``.
    ``timeout`` is seconds of wall time for the conversion, ``memory`` bytes of address space. The model is opened only
    in a process of its own (``converters.sandbox.launch``), by the software that suits it
    (``converters.software.selection``): an environment may have to be made first, below ``cache`` (the user's cache
    folder), for which ``offline`` asks no package index.

    The same bytes in give the same model, manifest and golden vectors; what was converted before, with the same
    options, software and code, comes from the cache unless ``again``. On any error ``output_dir`` holds no new
    package; a ``ConversionError`` leaves ``refusal.json`` there, which its ``report`` names. Raises ``UsageError``
    (framework, options, sample), ``NotFoundError`` (a path), ``MissingPartError`` and ``IncompatibleError`` (software
    that cannot be had), ``ConversionError`` (cannot be converted, or not faithfully), ``NoSpaceError``.
    """
    _require_framework(framework)
    options = options if sample is None else replace(options, sample=sample)
    _require_fitting(framework, options)
    if options.sample is not None and not options.sample.is_file():
        raise NotFoundError("sample file not found", where=options.sample, hint="check its path")
    files = model_files.find(path, framework, options)
    environment = selection.choose(framework, files.path, options.sample)
    kept = (cache or caches.default_cache()).absolute()
    name = caches.key(_facts(framework, files, options, environment))
    package = None if again else caches.get(kept, name)
    conversion = None if package is None else _understood(package, framework, files.digest)
    if package is None or conversion is None:
        interpreter = environment.interpreter(kept, offline=offline)
        limits = launch.Limits(seconds=timeout, memory=memory)
        package = _made(path, files, framework, options, environment, interpreter, limits, output_dir)
        conversion = _understood(package, framework, files.digest)
        if conversion is None:
            raise ConversionError("the conversion produced an invalid package", where=path.name, hint="run it again")
        caches.put(kept, name, package)
    else:
        _log.info("%s was converted before, and nothing has changed since", path.name)
    return _deliver(package, conversion, output_dir)


def _require_framework(framework: str) -> None:
    if framework == "Custom":
        raise UsageError(
            "a model without a framework cannot be converted",
            hint="export it to ONNX and register that with --framework Onnx",
        )
    if framework not in FRAMEWORKS:
        family = frameworks.family_of(framework)
        meant = nearest(framework, FRAMEWORKS) if family is None else frameworks.FRAMEWORK_OF[family]
        hint = f"give one of {', '.join(FRAMEWORKS)}"
        raise UsageError(
            f"unknown framework {framework!r}", hint=hint if meant is None else f"did you mean {meant!r}? {hint}"
        )


def _require_fitting(framework: str, options: Options) -> None:
    """Refuse options that only another framework's models have: they would be ignored silently."""
    for name, value, theirs in (("entry", options.entry, "PyTorch"), ("signature", options.signature, "TensorFlow")):
        if value is not None and framework != theirs:
            raise UsageError(
                f"a {framework} model has no {name}, only {theirs} models have", hint=f"leave out --{name}"
            )


def software() -> str:
    """SHA-256 over our code and all software that a model may be opened in.

    While it stays, and so do the model, its options and its sample, the result of a conversion does too.
    """
    return hashlib.sha256(f"{caches.FORMAT}\n{caches.code_digest()}\n{selection.digest()}".encode()).hexdigest()


def _facts(framework: str, files: ModelFiles, options: Options, environment: Environment) -> dict[str, object]:
    """All that decides what comes out."""
    sample = options.sample
    given = options.to_json() | {"sample": sample and [sample.suffix.lower(), model_files.digest(sample)]}
    kind = files.path.suffix.lower()
    model = [kind, files.digest]
    return {"framework": framework, "model": model, "options": given, "environment": environment.digest}


def _made(
    path: Path,
    files: ModelFiles,
    framework: str,
    options: Options,
    environment: Environment,
    interpreter: launch.Interpreter,
    limits: launch.Limits,
    output_dir: Path,
) -> dict[str, bytes]:
    """The package that a conversion in the sandbox makes; a folder beside where it will go is all that it can write."""
    isolation = launch.available()
    if isolation.reason is not None:
        _log.warning("the model is opened with less isolation: %s", isolation.reason)
    given = None if options.sample is None else options.sample.resolve()
    make_dirs(output_dir.resolve())
    with (
        disk_errors(output_dir),
        scratch_folder("convert", output_dir.resolve()) as folder,
    ):
        outcome = launch.run(
            "converters.sandbox.worker",
            {
                "framework": framework,
                "path": str(files.path),
                "digest": files.digest,
                "options": options.to_json() | {"sample": None if given is None else str(given)},
            },
            interpreter=interpreter,
            isolation=isolation,
            readable=[*files.readable, *([] if given is None else [given])],
            folder=folder,
            limits=limits,
        )
        try:
            _require_success(outcome, folder, path, options.sample, limits.seconds)
        except ConversionError as error:
            refused = error if environment.mismatch is None else _by_mismatch(error, environment.mismatch)
            source = {"framework": framework, "digest": files.digest, "file": path.name}
            _write_refusal(folder, output_dir, refused, source, isolation)
            if refused is error:
                raise
            raise refused from error
        return _collected(folder, isolation, path)


def _by_mismatch(error: ConversionError, mismatch: str) -> ConversionError:
    """A refusal of a model that this machine has no environment for like that of its training."""
    return ConversionError(
        f"{error.what}; {mismatch}",
        where=error.where,
        hint=f"train it again with one of these, or {error.hint}" if error.hint else "train it again with one of these",
    )


def _write_refusal(
    folder: Path, output_dir: Path, error: ConversionError, source: Mapping[str, str], isolation: launch.Isolation
) -> None:
    """Write what was tried into ``output_dir``, and its path into the error."""
    try:
        left = _read(folder / tried.TRIED_FILE, LIMITS.conversion_document_bytes)
    except (OSError, ConversionError):  # it ended before it could try anything
        left = None
    report = output_dir / tried.REFUSAL_FILE
    atomic_write(report, manifest.to_bytes(tried.refusal(left, error, source, isolation.to_json())))
    error.report = report


def _require_success(outcome: launch.Outcome, folder: Path, path: Path, sample: Path | None, timeout: float) -> None:
    if outcome.timed_out:
        raise ConversionError(
            f"the conversion took longer than {timeout:g} seconds and was stopped",
            where=path.name,
            hint=f"allow more time if the model is large (--timeout SECONDS), or {SCRIPT}",
        )
    if outcome.code == worker.NOT_CONFINED:
        raise ConversionError(
            f"the sandbox could not be built ({outcome.stderr})",
            where=path.name,
            hint="run where user namespaces are allowed, or where unshare is absent to go without",
        )
    answer = _response(folder) if outcome.code == 0 else None
    if answer is None and _is_full(folder):
        raise NoSpaceError(
            "no space left on the disk", where=folder.parent, hint="free some space and run the same command again"
        )
    if outcome.code == 0 and answer is None:
        raise ConversionError(
            "code in the model ended the process that opened it",
            where=path.name,
            hint="save the model without such code",
        )
    if answer is None:
        _log.debug("the conversion's process ended with %s: %s", outcome.code, outcome.stderr)
        # Only a process that was ended from outside may have lacked memory; an error of its own has its own reason.
        killed = f"raise the memory limit if the model is large (--memory GIB), or {SCRIPT}"
        raise ConversionError(
            f"the conversion's process ended unexpectedly ({_ending(outcome)})",
            where=path.name,
            hint=killed if outcome.code < 0 else REPORT_FAULT,
        )
    error = answer.error
    if isinstance(error, UsageError):
        raise UsageError(error.what, where=error.where or (sample or path).name, hint=error.hint)
    if error is not None:
        raise ConversionError(error.what, where=path.name, hint=error.hint)


def _is_full(folder: Path) -> bool:
    """Whether no more can be written below ``folder``, which is all that the process wrote to."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < LITTLE_SPACE


def _response(folder: Path) -> Response | None:
    try:
        return response.parse(_read(folder / response.FILE, LIMITS.conversion_document_bytes))
    except (OSError, ConversionError):
        return None


def _ending(outcome: launch.Outcome) -> str:
    if outcome.code < 0:
        known = {int(number): number.name for number in signal.Signals}
        return known.get(-outcome.code, f"signal {-outcome.code}")
    last = outcome.stderr.splitlines()[-1:]
    return f"exit code {outcome.code}" + (f", {last[0][:300]}" if last else "")


def _collected(folder: Path, isolation: launch.Isolation, path: Path) -> dict[str, bytes]:
    """The files that the sandbox wrote, the report with how it was isolated; they are data, and are checked as such."""
    try:
        document = parse_object(_read(folder / manifest.MANIFEST_FILE, LIMITS.conversion_document_bytes), path)
        report = parse_object(_read(folder / manifest.REPORT_FILE, LIMITS.conversion_document_bytes), path)
        report |= {"schema": manifest.REPORT_SCHEMA, "isolation": isolation.to_json()}
        package = {
            manifest.MODEL_FILE: _read(folder / manifest.MODEL_FILE, launch.Limits().file_size),
            manifest.MANIFEST_FILE: _read(folder / manifest.MANIFEST_FILE, LIMITS.conversion_document_bytes),
            manifest.REPORT_FILE: manifest.to_bytes(report),
        }
        if document["golden"] is not None:
            package[manifest.GOLDEN_FILE] = _read(folder / manifest.GOLDEN_FILE, LIMITS.conversion_document_bytes)
    except (OSError, InvalidDocumentError, ValueError, KeyError, TypeError) as error:
        raise ConversionError(
            "the conversion produced an invalid package", where=path.name, hint="run it again"
        ) from error
    return package


def _understood(package: caches.Package, framework: str, digest: str) -> Conversion | None:
    """The conversion that a package describes, its paths still only names; None where it is not valid."""
    try:
        document = parse_object(package[manifest.MANIFEST_FILE], manifest.MANIFEST_FILE)
        report = parse_object(package[manifest.REPORT_FILE], manifest.REPORT_FILE)
        golden = package.get(manifest.GOLDEN_FILE)
        source, summary = document["source"], document["parity"]
        valid = (
            document["schema"] == manifest.SCHEMA
            and document["file"] == manifest.MODEL_FILE
            and manifest.MODEL_FILE in package
            and (source["framework"], source["digest"]) == (framework, digest)
            and (golden is None) == (document["golden"] is None)
            and (golden is None or document["golden"]["file"] == manifest.GOLDEN_FILE)
            and (golden is None or document["golden"]["digest"] == f"sha256:{hashlib.sha256(golden).hexdigest()}")
        )
        parity = None if summary is None else ParitySummary(**summary)
        if not valid or (parity is not None and parity.passed is not True):
            return None
        return Conversion(
            model=Path(manifest.MODEL_FILE),
            manifest=Path(manifest.MANIFEST_FILE),
            report=Path(manifest.REPORT_FILE),
            golden=None if golden is None else Path(manifest.GOLDEN_FILE),
            framework=framework,
            framework_version=str(source["version"]),
            parity=parity,
            warnings=tuple(map(str, report["warnings"])),
        )
    except (InvalidDocumentError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _deliver(package: caches.Package, conversion: Conversion, output_dir: Path) -> Conversion:
    """Write the package into place, the manifest last."""
    make_dirs(output_dir.resolve())
    final = output_dir / conversion.manifest
    with disk_errors(output_dir):
        # An older manifest must not vouch for a new model if this is interrupted.
        final.unlink(missing_ok=True)
        (output_dir / manifest.GOLDEN_FILE).unlink(missing_ok=True)
    for name in (manifest.MODEL_FILE, manifest.REPORT_FILE, manifest.GOLDEN_FILE, manifest.MANIFEST_FILE):
        if name in package:
            atomic_write(output_dir / name, package[name])
    (output_dir / tried.REFUSAL_FILE).unlink(missing_ok=True)
    return replace(
        conversion,
        model=output_dir / conversion.model,
        manifest=final,
        report=output_dir / conversion.report,
        golden=None if conversion.golden is None else output_dir / conversion.golden,
    )


def _read(path: Path, limit: int) -> bytes:
    """A regular file of the sandbox's, never through a link that it may have left."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
            raise ConversionError(
                "the conversion produced a file that is not a regular file or is too large", where=path.name
            )
        return file.read(limit)
