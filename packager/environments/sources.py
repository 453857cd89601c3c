"""Where environments come from: a conda file, a requirement file, packages, an MLflow model, Azure's own files."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgepack.documents import parse_object, raise_all
from edgepack.errors import EdgepackError, NotFoundError, UsageError
from edgepack.trees.text_file import read_text
from packager.environments.azure import DEFINITION, from_azure, load_folder
from packager.environments.conda import parse_conda
from packager.environments.document import SCHEMA, from_json
from packager.environments.environment import Environment, check_environment, python_of, with_default_python
from packager.environments.mlflow import read_mlflow
from packager.environments.pip_requirements import parse_items, read_requirements, with_requirements

_log = logging.getLogger(__name__)
_CONDA = (".yml", ".yaml")
_REFERENCE = {"name": "", "version": ""}.keys()  # of a registered environment
_REQUIREMENTS = (".txt", ".in")
_SECRET_NAME = re.compile(r"(?:PASSWORD|PASSWD|TOKEN|SECRET|API_?KEY|ACCESS_?KEY|CREDENTIALS?)$", re.I)


@dataclass(frozen=True)
class Additions:
    """What is said beside a file: ``python`` such as ``3.11``, further pip packages, variables, and a base."""

    python: str | None = None
    packages: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    base_image: str | None = None
    base_dockerfile: str | None = None


NOTHING = Additions()


def from_conda_file(path: Path, name: str, additions: Additions = NOTHING) -> Environment:
    """The environment ``name`` that a conda file describes, with those requirement files that it names.

    Raises ``NotFoundError`` without the file, ``InvalidDocumentError`` with every violation and its field.
    """
    found = parse_conda(read_text(path, "conda file"), name, path, folder=path.parent)
    return completed(found, path, additions)


def from_requirements(path: Path, name: str, additions: Additions = NOTHING) -> Environment:
    """The environment ``name`` of a requirement file and those that it names.

    Raises ``NotFoundError`` without the file, ``InvalidDocumentError`` with every violation and its line.
    """
    return completed(Environment(name, pip=read_requirements(path)), path, additions)


def from_packages(
    name: str,
    packages: Iterable[str] = (),
    *,
    python: str | None = None,
    conda_packages: Sequence[str] = (),
    conda_channels: Sequence[str] = (),
    additions: Additions = NOTHING,
) -> Environment:
    """The environment ``name`` of pip requirements, each as a line of a requirement file, and conda packages.

    Raises ``InvalidDocumentError`` with every violation.
    """
    violations: list[str] = []
    pip = parse_items(((f"package {text!r}", text) for text in packages), violations)
    raise_all(f"environment {name}", violations)
    found = Environment(
        name, conda_packages=tuple(conda_packages), conda_channels=tuple(conda_channels), pip=pip,
        python=python_among(conda_packages),
    )  # fmt: skip
    return completed(found, name, replace(additions, python=additions.python or python))


def from_mlflow(folder: Path, name: str, additions: Additions = NOTHING) -> Environment:
    """The environment ``name`` that an MLflow model's folder describes.

    Raises ``NotFoundError`` for a folder that is not one, ``InvalidDocumentError`` with every violation.
    """
    return completed(read_mlflow(folder, name), folder, additions)


def from_base(name: str, additions: Additions) -> Environment:
    """The environment ``name`` of a base alone: with no packages named, what is in the base is all that there is."""
    found = Environment(name, user_managed_dependencies=not additions.packages)
    return completed(found, f"environment {name}", additions)


def from_file(path: Path, name: str, additions: Additions = NOTHING) -> Environment:
    """The environment ``name`` in a file of any kind, by the end of its name.

    That is a conda file (.yml, .yaml), a requirement file (.txt, .in), JSON of ours or Azure's (.json), or a folder
    that Azure's SDK saved. Raises ``UsageError`` for another one.
    """
    ending = path.suffix.lower()
    if path.is_dir():
        if not (path / DEFINITION).exists():
            raise NotFoundError(f"has no {DEFINITION}", where=path, hint="give a file, or --mlflow for a model")
        return completed(load_folder(path, name), path, additions)
    if ending in _CONDA:
        return from_conda_file(path, name, additions)
    if ending in _REQUIREMENTS:
        return from_requirements(path, name, additions)
    if ending == ".json":
        return completed(_json(path, name), path, additions)
    if not path.exists():
        raise NotFoundError("there is no such file", where=path, hint="check its path")
    raise UsageError(
        "is neither a conda file nor a requirement file by its name", where=path,
        hint="let it end in .yml, .yaml, .txt, .in or .json",
    )  # fmt: skip


def _json(path: Path, name: str) -> Environment:
    value = parse_object(read_text(path, "file").encode(), path)
    if value.get("schema") == SCHEMA:
        # ``show --output json`` has both besides.
        document = {key: item for key, item in value.items() if key not in ("id", "digest")}
        return replace(from_json(document, path), name=name, version=None, created=None)
    # An inference configuration has the environment among others.
    inner = value.get("environment")
    if "environment" not in value and ("entryScript" in value or "condaFile" in value):
        file = value.get("condaFile")
        hint = f"give that: -f {path.parent / file}" if isinstance(file, str) else "give -f the file of one"
        raise UsageError("is an inference configuration that leaves its environment to a file", where=path, hint=hint)
    if "entryScript" in value and (isinstance(inner, str) or (isinstance(inner, dict) and inner.keys() <= _REFERENCE)):
        named = inner if isinstance(inner, str) else ":".join(str(inner[key]) for key in _REFERENCE if inner.get(key))
        raise UsageError(
            f"is an inference configuration that only names the environment {named}", where=path,
            hint="give that name in place of the file, or the file with --ic: edgepack package build --ic",
        )  # fmt: skip
    return from_azure(inner if isinstance(inner, dict) else value, path, name, folder=path.parent)


def completed(environment: Environment, where: object, additions: Additions = NOTHING) -> Environment:
    """``environment`` with what is said beside it and the default Python, checked.

    Raises ``UsageError`` where the two do not agree, ``InvalidDocumentError`` with every violation.
    """
    found = replace(
        environment,
        pip=with_requirements(environment.pip, additions.packages) if additions.packages else environment.pip,
        variables={**environment.variables, **additions.variables},
        base_image=additions.base_image or environment.base_image,
        base_dockerfile=additions.base_dockerfile or environment.base_dockerfile,
    )
    if additions.python is not None:
        python = python_of(additions.python)
        if found.python not in (None, python):
            raise UsageError(
                f"names Python {found.python_version} and --python is {additions.python}", where=where,
                hint="keep one of them",
            )  # fmt: skip
        found = replace(found, python=python)
    with_python = with_default_python(found)
    check_environment(with_python, where)
    if with_python is not found:
        _log.warning("%s: names no Python; %s is taken, the default", where, with_python.python_version)
    for key in filter(_SECRET_NAME.search, found.variables):
        _log.warning("%s: the variable %s looks like a credential, and everybody can read it here", where, key)
    for folder in found.pip.find_links:
        if Path(folder).is_absolute():
            _log.warning("%s: --find-links %s is a folder of this machine", where, folder)
    return with_python


def python_among(conda_packages: Sequence[str]) -> str | None:
    """``Environment.python`` of the one among conda's packages that is Python, None without one."""
    from packager.environments.match_spec import parse_match_spec, python_specifiers

    for text in conda_packages:
        try:
            spec = parse_match_spec(text)
        except EdgepackError:
            continue  # reported with the other violations
        if spec.name == "python":
            return python_specifiers(spec)
    return None
