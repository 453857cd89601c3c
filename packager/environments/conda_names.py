"""Packages of conda by the names and versions of PyPI, where an image gets its wheels.

Most have one name in both. What follows is the difference for packages that environments of entry scripts list: facts
from the mapping that parselmouth derives from conda-forge's packages (github.com/prefix-dev/parselmouth,
``files/v0/conda-forge/compressed_mapping.json``), and from the packages' own pages for those that are no Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgepack.errors import InvalidReferenceError
from packager.environments.match_spec import MatchSpec, specifiers_of

# Conda's name and PyPI's.
PYPI_NAMES: Mapping[str, str] = {
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "matplotlib-base": "matplotlib",
    "py-opencv": "opencv-python-headless",
    "opencv": "opencv-python-headless",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "tensorflow-base": "tensorflow",
    "msgpack-python": "msgpack",
    "pytables": "tables",
    "dask-core": "dask",
    "seaborn-base": "seaborn",
}
# Conda's packages that are no Python, and what has their place in an image of wheels.
NOT_NEEDED: Mapping[str, str] = {
    "libgcc-ng": "the base has it",
    "libstdcxx-ng": "the base has it",
    "libgomp": "the base has it",
    "setuptools": "",
}
_CONDA_BASE = (
    "has no package on PyPI, and images are made of wheels: leave it out, or build with an engine on a base that has "
    "conda (--base-dockerfile in an environment, and package save)"
)
NO_WHEELS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Translated:
    """A conda package as a ``requirement`` of pip, None for one that an image does not need; ``note`` says it."""

    requirement: str | None
    note: str = ""


def translated(spec: MatchSpec) -> Translated | str:
    """``spec`` as pip takes it, or why no wheel can satisfy it."""
    if spec.name in NO_WHEELS:
        return f"conda package {spec.text!r}: {spec.name} {NO_WHEELS[spec.name] or _CONDA_BASE}"
    if spec.name in NOT_NEEDED:
        why = NOT_NEEDED[spec.name] or "no image needs it"
        return Translated(None, f"conda package {spec.name} is left out: {why}")
    name = PYPI_NAMES.get(spec.name, spec.name)
    try:
        specifiers = specifiers_of(spec, "it")
    except InvalidReferenceError as error:
        return f"conda package {spec.text!r}: {error}"
    note = f"conda package {spec.name} is {name} on PyPI" if name != spec.name else ""
    return Translated(name + specifiers, note)
