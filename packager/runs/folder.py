"""The runs of a workspace: a folder for each, with its record, its metrics and its files.

``<root>/<experiment>/<run>/`` has ``run.json``, which is replaced whole, ``metrics.jsonl``, which only grows, and
``files/``. Several processes may log to one run.
"""

from __future__ import annotations

import json
import math
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from edgepack.errors import NotFoundError, UsageError, disk_errors
from edgepack.host.files import BY_UMASK, atomic_write, locked, make_dirs, replacing
from edgepack.nearness import did_you_mean
from packager.runs.record import RunRecord, Status, check_name

_RECORD, _METRICS, _FILES = "run.json", "metrics.jsonl", "files"


def now() -> str:
    """The time in UTC, as records have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class RunFolder:
    """One run below the runs' ``root``."""

    root: Path
    experiment: str
    id: str

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.root / self.experiment / self.id

    @property
    def files(self) -> Path:
        """The folder of its files."""
        return self.path / _FILES

    def record(self) -> RunRecord:
        """What is known of it; raises ``NotFoundError``, ``InvalidDocumentError``."""
        path = self.path / _RECORD
        try:
            with disk_errors(path):
                data = path.read_bytes()
        except FileNotFoundError:
            known = [run.id for run in runs_of(self.root, self.experiment)]
            hint = did_you_mean(self.id, known, "see which there are: packager.Run.list(experiment)")
            raise NotFoundError(f"run {self.id} not found", where=f"experiment {self.experiment}", hint=hint) from None
        return RunRecord.from_bytes(data, path)

    def change(self, how: Callable[[RunRecord], RunRecord]) -> RunRecord:
        """Replace its record by ``how`` of it; nobody else changes it meanwhile."""
        with locked(self.path / ".lock"):
            changed = how(self.record())
            atomic_write(self.path / _RECORD, changed.to_bytes())
        return changed

    def end(self, status: Status, error: str | None = None) -> RunRecord:
        """Say how it ended; one that has ended stays as it is."""
        return self.change(
            lambda run: (
                run if run.status is not Status.RUNNING else replace(run, status=status, ended=now(), error=error)
            )
        )

    # Metrics

    def log(self, name: str, value: Any, kind: str = "value") -> None:
        """Add a value of the metric ``name``: a number, text, a list, or a row or table of such.

        Raises ``UsageError`` for what cannot be kept.
        """
        if not name or not name.isprintable():
            raise UsageError(f"{name!r} is not the name of a metric", hint="use printable characters")
        line = json.dumps({"name": name, "kind": kind, "value": _plain(name, value), "time": now()}) + "\n"
        path = self.path / _METRICS
        with locked(self.path / ".lock"), disk_errors(path), path.open("ab") as file:
            file.write(line.encode())

    def metrics(self) -> dict[str, Any]:
        """The metrics by name: the value, or the list of all values of one that was logged several times.

        A row or table gives a dictionary of lists, by column. A last line that was cut short is passed over.
        """
        found: dict[str, list[tuple[str, Any]]] = {}
        with suppress(FileNotFoundError), (self.path / _METRICS).open(encoding="utf-8") as lines:
            for line in lines:
                with suppress(ValueError):
                    item = json.loads(line, parse_constant=float)
                    found.setdefault(item["name"], []).append((item["kind"], item["value"]))
        return {name: _joined(values) for name, values in found.items()}

    # Files

    def names(self) -> tuple[str, ...]:
        """The names of its files."""
        return tuple(sorted(str(path.relative_to(self.files)) for path in self.files.rglob("*") if path.is_file()))

    def file(self, name: str) -> Path:
        """Where its file or folder ``name`` is; raises ``NotFoundError``, ``UsageError`` for a name out of the run."""
        path = self._place(name)
        if not path.exists():
            hint = did_you_mean(name, self.names(), "see which there are: run.get_file_names()")
            raise NotFoundError(f"has no file {name!r}", where=f"run {self.id}", hint=hint)
        return path

    def _place(self, name: str) -> Path:
        pure = PurePosixPath(name)
        if not name or pure.is_absolute() or ".." in pure.parts or "\0" in name or str(pure) == ".":
            raise UsageError(f"{name!r} is not the name of a run's file", hint="use a relative path without '..'")
        return self.files / pure

    def keep(self, name: str, source: Path | BinaryIO) -> None:
        """Keep a file under ``name``; raises ``UsageError`` where there is one, ``NotFoundError``, ``NoSpaceError``."""
        place = self._place(name)
        if place.exists():
            raise UsageError(f"has a file {name!r} already", where=f"run {self.id}", hint="give it another name")
        make_dirs(place.parent)
        try:
            with (
                source.open("rb") if isinstance(source, Path) else _given(source) as content,
                replacing(place, BY_UMASK) as file,
            ):
                shutil.copyfileobj(content, file)
        except FileNotFoundError:
            raise NotFoundError("there is no such file", where=source, hint="check the path") from None


@contextmanager
def _given(stream: BinaryIO) -> Iterator[BinaryIO]:
    yield stream


def _plain(name: str, value: Any) -> Any:
    """``value`` as JSON has it, with numpy's numbers and arrays as Python's."""
    try:
        return json.loads(json.dumps(value, default=_python_of), parse_constant=float)
    except (TypeError, ValueError):
        hint = "log a number, text, a list or a dictionary of these"
        raise UsageError(f"{type(value).__name__} is not a value of a metric", where=name, hint=hint) from None


def _python_of(value: Any) -> Any:
    for method in ("tolist", "item"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError


def _joined(values: list[tuple[str, Any]]) -> Any:
    if values[0][0] == "row":
        columns: dict[str, list[Any]] = {}
        for _, row in values:
            for key, value in row.items():
                columns.setdefault(key, []).append(value)
        single = len(values) == 1
        return {key: column[0] if single else column for key, column in columns.items()}
    if values[-1][0] in ("list", "table"):
        return values[-1][1]
    return values[0][1] if len(values) == 1 else [value for _, value in values]


# ---- All runs -------------------------------------------------------------------------------------------------------


def experiments(root: Path) -> tuple[str, ...]:
    """The names of the experiments below ``root``."""
    with suppress(FileNotFoundError):
        return tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")))
    return ()


def runs_of(root: Path, experiment: str) -> tuple[RunFolder, ...]:
    """The runs of an experiment, the newest first."""
    folders = [RunFolder(root, experiment, path.parent.name) for path in (root / experiment).glob(f"*/{_RECORD}")]
    return tuple(sorted(folders, key=lambda run: run.record().number, reverse=True))


def find_run(root: Path, run_id: str) -> RunFolder:
    """The run of that id, whatever its experiment; raises ``NotFoundError``."""
    check_name(run_id, "a run")
    for experiment in experiments(root):
        if (root / experiment / run_id / _RECORD).exists():
            return RunFolder(root, experiment, run_id)
    known = [run.id for experiment in experiments(root) for run in runs_of(root, experiment)]
    hint = did_you_mean(run_id, known, "see which there are: packager.Run.list(experiment)")
    raise NotFoundError(f"run {run_id} not found", where="runs of the workspace", hint=hint)


def start_run(
    root: Path,
    experiment: str,
    *,
    run_id: str | None = None,
    parent: str | None = None,
    display_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
) -> RunFolder:
    """Begin a run, by an id of its own where none is given; raises ``UsageError`` for one that is there."""
    check_name(experiment, "an experiment")
    chosen = check_name(
        run_id or f"{experiment[:150]}_{int(datetime.now(UTC).timestamp())}_{secrets.token_hex(4)}", "a run"
    )
    run = RunFolder(root, experiment, chosen)
    make_dirs(root / experiment)
    with locked(root / experiment / ".lock"):
        if (run.path / _RECORD).exists():
            raise UsageError(f"run {chosen} is there already", where=f"experiment {experiment}", hint="give another id")
        numbers = [other.record().number for other in runs_of(root, experiment)]
        record = RunRecord(
            experiment, chosen, max(numbers, default=0) + 1, Status.RUNNING, now(), None, display_name, parent, None,
            dict(tags or {}), dict(properties or {}),
        )  # fmt: skip
        make_dirs(run.files)
        atomic_write(run.path / _RECORD, record.to_bytes())
    return run


def best(scores: Mapping[str, float], *, maximize: bool) -> str:
    """The name with the best score, the first of several; scores that are not numbers are never best."""
    known = {name: value for name, value in scores.items() if math.isfinite(value)}
    return (max if maximize else min)(known, key=lambda name: known[name])
