"""Environments that edgepack brings: what no-code images hold today, under names that nobody else can register.

Their packages are those of the locks that edgepack ships, in the same versions. ``VERSION`` grows with every change of
them; a test holds their digests.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgepack.errors import NotFoundError, UsageError
from edgepack.names import EnvironmentRef
from packager.environments.environment import DEFAULT_PYTHON, Environment, check_environment, python_of

VERSION = 1
_ONNX, _SKLEARN, _PYTHON = "onnx-minimal", "sklearn-minimal", "python-minimal"
# What each is for, in one line.
CURATED: Mapping[str, str] = {
    _ONNX: "what serves ONNX models: onnxruntime and numpy",
    _PYTHON: "Python alone; the server's own libraries are in every image",
    _SKLEARN: "scikit-learn, for scripts that open its models themselves",
}
_SKLEARN_PARTS = ("joblib", "numpy", "scikit-learn", "scipy")


def check_not_curated(name: str) -> str:
    """``name`` when a user may register it; raises ``UsageError``."""
    if name in CURATED:
        raise UsageError(
            "is the name of an environment that edgepack brings", where=name, hint="register it under another name"
        )
    return name


def curated(ref: EnvironmentRef) -> Environment | None:
    """The curated environment of that name, None for another name; raises ``NotFoundError`` for another version."""
    if ref.name not in CURATED:
        return None
    if ref.version not in (None, VERSION):
        hint = f"this edgepack brings {ref.name}:{VERSION}"
        raise NotFoundError(f"environment {ref} not found", where="curated environments", hint=hint)
    return _made(ref.name)


def all_curated() -> tuple[Environment, ...]:
    """Every curated environment, by name."""
    return tuple(map(_made, sorted(CURATED)))


def _made(name: str) -> Environment:
    from packager.environments.pip_requirements import PipRequirements

    lines = {_ONNX: _onnx_lines, _SKLEARN: _sklearn_lines, _PYTHON: tuple}[name]()
    found = Environment(name, VERSION, python_of(DEFAULT_PYTHON), pip=PipRequirements(lines))
    return check_environment(found)


def _onnx_lines() -> tuple[str, ...]:
    from packager.wheels.locks import SHIPPED, parse_lock, shipped_lock

    text = shipped_lock(SHIPPED[0], DEFAULT_PYTHON) or ""
    return tuple(f"{pin.name}=={pin.version}" for pin in parse_lock(text, "lock of scoring"))


def _sklearn_lines() -> tuple[str, ...]:
    """Of the lock of the newest scikit-learn that models are converted with, what opens and runs one."""
    from packaging.requirements import Requirement

    from converters.software.selection import LOCKS, SERIES
    from packager.environments.pip_requirements import read_requirements

    major, minor = max(SERIES)
    path = LOCKS / f"sklearn-{major}.{minor}.txt"
    python = {"python_version": DEFAULT_PYTHON, "python_full_version": f"{DEFAULT_PYTHON}.0"}
    pins = [Requirement(line.partition(" --hash")[0]) for line in read_requirements(path).requirements]
    return tuple(
        f"{pin.name}{pin.specifier}"
        for pin in pins
        if pin.name in _SKLEARN_PARTS and (pin.marker is None or pin.marker.evaluate(python))
    )
