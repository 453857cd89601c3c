"""Choose the environment in which a model is converted: what is installed beside edgepack, or one made for it.

What is installed serves when it is all there, in versions that are known to work, and for scikit-learn of the release
series that the model was trained with. Else one of the locks beside this module serves. Each of those was seen
to convert; ``python -m converters.prepare [NAME...]`` makes their environments ahead, for use without a network.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.sandbox import launch
from converters.software import environments, torch_build
from converters.source import frameworks, kinds, traces, user_modules
from edgepack.errors import ConversionError, UsageError
from edgepack.nearness import did_you_mean

LOCKS = Path(__file__).parent / "locks"
Version = tuple[int, ...]
# Distributions by other names for the same modules.
NAMES = {
    "tensorflow": ("tensorflow-cpu", "tensorflow"),
    "xgboost": ("xgboost-cpu", "xgboost"),
    "imblearn": ("imbalanced-learn",),
    "category_encoders": ("category-encoders",),
    "feature_engine": ("feature-engine",),
}
# From which version on, and below which, a part is known to work for us.
KNOWN_TO_WORK: dict[str, tuple[Version, Version]] = {
    "skl2onnx": ((1, 20), (1, 21)),
    "scikit-learn": ((1, 5), (1, 10)),
    "onnx": ((1, 18), (2,)),
    "onnxruntime": ((1, 27), (2,)),
    "numpy": ((1, 26), (3,)),
    "protobuf": ((5,), (7,)),
    "xgboost": ((3,), (4,)),
    "lightgbm": ((4,), (5,)),
    "catboost": ((1, 2), (2,)),
    "imblearn": ((0, 12), (0, 15)),
    "category_encoders": ((2, 6), (2, 12)),
    "feature_engine": ((1, 6), (1, 10)),
    "tensorflow": ((2, 20), (2, 22)),
    "keras": ((3, 13, 1), (4,)),
    "tf2onnx": ((1, 17), (1, 18)),
    "torch": torch_build.KNOWN_TO_WORK,
    "onnxscript": ((0, 7), (0, 8)),
}
PARQUET_PARTS = ("pandas", "pyarrow")
RUNTIME = ("onnx", "onnxruntime", "numpy", "protobuf")
PARTS = {
    "ScikitLearn": (*RUNTIME, "scikit-learn", "skl2onnx", "joblib", "pandas", "scipy"),
    "TensorFlow": (*RUNTIME, "tensorflow", "keras", "tf2onnx"),
    "PyTorch": (*RUNTIME, "torch", "onnxscript", "safetensors"),
    "Onnx": RUNTIME,
}
# The series that have a lock, and the newest Python that their wheels were built for.
SERIES: dict[Version, Version] = {
    (1, 2): (3, 11),
    (1, 3): (3, 12),
    (1, 4): (3, 12),
    (1, 5): (3, 13),
    (1, 6): (3, 13),
    (1, 7): (3, 14),
    (1, 8): (3, 14),
    (1, 9): (3, 14),
}


@dataclass(frozen=True)
class Environment:
    """``name`` is ``installed`` or the lock's; ``digest`` changes with every version in it.

    ``lock`` is None for what is installed beside edgepack. ``mismatch`` says in one clause that the model's own version
    could not be had, else it is None.
    """

    name: str
    digest: str
    lock: Path | None = None
    mismatch: str | None = None

    def interpreter(self, cache: Path, *, offline: bool = False) -> launch.Interpreter:
        """The Python to run, its environment made first where that is needed (see ``environments.ready``)."""
        if self.lock is None:
            return launch.installed()
        folder = environments.ready(self.lock, cache, offline=offline)
        return launch.Interpreter(folder / "bin" / "python", (environments.packages(folder),), (folder,))


def choose(framework: str, file: Path, sample: Path | None = None) -> Environment:
    """The environment for a model file or folder of ``framework``; nothing is made or opened yet.

    It has what ``sample``, a file of rows, needs to be read. Raises ``UsageError`` for a framework that has none,
    and for a pickle whose classes are of a package that has one of our names.
    """
    if framework not in PARTS:
        raise UsageError(f"unknown framework {framework!r}", hint=f"give one of {', '.join(PARTS)}")
    also = PARQUET_PARTS if sample is not None and sample.suffix.lower() == ".parquet" else ()
    if framework != "ScikitLearn":
        return _installed([*PARTS[framework], *also]) or _from_lock(framework.lower())
    native = kinds.booster_of(file)
    found = traces.Traces() if native else traces.read(file)
    user_modules.require_not_named(file, found.modules)
    boosters = (native,) if native else tuple(name for name in traces.BOOSTERS if name in found.modules)
    companions = tuple(name for name in traces.COMPANIONS if name in found.modules)
    further = [*boosters, *companions, *(("skops",) if found.skops else ()), *also]
    beside = _installed([*PARTS[framework], *further])
    if beside is not None and (_serves(found.version) or _own_modules(found.modules)):
        return beside
    minor, mismatch = _series(found.version)
    kind = "companions" if companions else "boosters" if boosters else "sklearn"
    return _from_lock(f"{kind}-{minor[0]}.{minor[1]}", mismatch)


def digest() -> str:
    """SHA-256 over all software that any model may be opened in: what is installed beside us, and every lock.

    It changes whenever ``choose`` may choose another environment for the same file, and does not read the file.
    """
    parts = {*KNOWN_TO_WORK, *PARQUET_PARTS, "skops", *(part for parts in PARTS.values() for part in parts)}
    beside = {part: installed_version(part) for part in parts}
    locks = {path.stem: environments.digest(path) for path in LOCKS.glob("*.txt")}
    return hashlib.sha256(json.dumps([sys.version, beside, locks], sort_keys=True).encode()).hexdigest()


def lock_names() -> list[str]:
    """The names of all locks."""
    return sorted(path.stem for path in LOCKS.glob("*.txt"))


def prepare(names: Sequence[str], cache: Path) -> list[Path]:
    """Make the environments of the locks ``names``, of all where none is given; their folders.

    A framework's name means all locks that it may need. Raises ``UsageError`` for an unknown name, and what
    ``environments.ready`` raises.
    """
    known = lock_names()
    chosen = []
    for name in names or known:
        wanted = frameworks.family_of(name) or name.lower()
        fitting = [lock for lock in known if wanted and wanted in (lock, lock.rpartition("-")[0])]
        if not fitting:
            hint = did_you_mean(name, [*known, *frameworks.FRAMEWORK_OF], f"give some of {', '.join(known)}")
            raise UsageError(f"unknown environment {name!r}", hint=hint)
        chosen += fitting
    return [environments.ready(LOCKS / f"{name}.txt", cache) for name in dict.fromkeys(chosen)]


def available_series() -> list[Version]:
    """The series of scikit-learn that are available for this Python, oldest first."""
    return [series for series, newest in SERIES.items() if sys.version_info[:2] <= newest]


def _series(version: str | None) -> tuple[Version, str | None]:
    """The series to read a model with, and why it is not its own, where it is not."""
    known = available_series()
    if not known:
        raise ConversionError(
            f"no supported version of scikit-learn is available for Python {sys.version.split()[0]}",
            hint="use Python 3.11",
        )
    if version is None:
        return known[-1], None
    wanted = _parsed(version)[:2]
    if wanted in known:
        return wanted, None
    first, last = (".".join(map(str, series)) for series in (known[0], known[-1]))
    mismatch = f"it was trained with scikit-learn {version}, and versions {first} to {last} can be had"
    nearest = [series for series in known if series >= wanted] or known[-1:]
    return nearest[0], mismatch


def _serves(version: str | None) -> bool:
    """Whether the scikit-learn beside us is of the series that a model was trained with, or may be."""
    found = installed_version("scikit-learn")
    return found is not None and (version is None or _parsed(found)[:2] == _parsed(version)[:2])


def _own_modules(modules: Iterable[str]) -> bool:
    """Whether a pickle needs a module that is installed beside us and in no lock: the user's own."""
    ours = {"sklearn", "numpy", "scipy", "pandas", "joblib", "skops", *traces.BOOSTERS, *traces.COMPANIONS}
    folders = [str(path) for path in launch.package_folders()]
    others = set(modules) - ours - set(sys.stdlib_module_names)
    return any(importlib.machinery.PathFinder.find_spec(name, folders) is not None for name in others)


def _installed(parts: Sequence[str]) -> Environment | None:
    """What is installed beside us, where all ``parts`` are, in versions that work."""
    found = {part: installed_version(part) for part in parts}
    for part, version in found.items():
        oldest, too_new = KNOWN_TO_WORK.get(part, ((), (sys.maxsize,)))
        if version is None or not oldest <= _parsed(version) < too_new:
            return None
    facts = json.dumps([sys.version, found], sort_keys=True)
    return Environment("installed", hashlib.sha256(facts.encode()).hexdigest())


def _from_lock(name: str, mismatch: str | None = None) -> Environment:
    lock = LOCKS / f"{name}.txt"
    return Environment(name, environments.digest(lock), lock, mismatch)


def installed_version(part: str) -> str | None:
    """The version of a distribution beside us, by any of its names; None where it is not installed."""
    for name in NAMES.get(part, (part,)):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _parsed(version: str) -> Version:
    """The numbers that a version begins with."""
    return tuple(int(word) for word in re.findall(r"\d+", re.split(r"[^\d.]", version, maxsplit=1)[0]))
