"""The environment of an MLflow model, which its folder describes; read as files, without MLflow.

MLflow writes three descriptions of the same software and installs from ``python_env.yaml`` (its documentation, "Model
dependencies"); older versions wrote ``conda.yaml`` only, or ``requirements.txt`` beside it. Paths are those that
``MLmodel`` names, else the usual ones, and none may leave the folder.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path, PurePosixPath

from edgepack.documents import raise_all
from edgepack.errors import EdgepackError, InvalidDocumentError, NotFoundError, UsageError
from edgepack.trees.text_file import read_text
from edgepack.trees.yaml_tree import Node, parse_yaml
from packager.environments.conda import parse_conda
from packager.environments.environment import Environment, python_of
from packager.environments.pip_requirements import parse_items, read_requirements

_log = logging.getLogger(__name__)
_MODEL = "MLmodel"
_FILES = {"virtualenv": "python_env.yaml", "conda": "conda.yaml"}
_REQUIREMENTS = "requirements.txt"
_PYTHON_ENV = ("python", "build_dependencies", "dependencies")


def read_mlflow(folder: Path, name: str) -> Environment:
    """The environment ``name`` of the MLflow model in ``folder``; ``python`` is None where nothing names it.

    Raises ``NotFoundError`` for a folder that is not such a model, ``InvalidDocumentError`` and ``UsageError``.
    """
    if not (folder / _MODEL).exists():
        what = "there is no such folder" if not folder.exists() else f"is not an MLflow model: it has no {_MODEL}"
        raise NotFoundError(what, where=folder, hint="give the folder that mlflow.<flavour>.save_model wrote")
    model = parse_yaml(read_text(folder / _MODEL, "MLmodel file"), folder / _MODEL)
    named = _named(model, folder)
    for kind in ("virtualenv", "conda"):
        path = named.get(kind, folder / _FILES[kind])
        if kind in named or path.exists():
            return _python_env(path, name, folder) if kind == "virtualenv" else _conda(path, name, folder)
    path = folder / _REQUIREMENTS
    if not path.exists():
        raise NotFoundError(
            "describes no environment", where=folder,
            hint=f"it has none of {', '.join((*_FILES.values(), _REQUIREMENTS))}; give -f",
        )  # fmt: skip
    found = Environment(name, pip=read_requirements(path, root=folder))
    version = _function(model).fields.get("python_version")
    return found if version is None or not version.is_text else replace(found, python=python_of(version.text))


def _function(model: Node) -> Node:
    empty = Node("map")
    return model.fields.get("flavors", empty).fields.get("python_function", empty)


def _named(model: Node, folder: Path) -> dict[str, Path]:
    """The files that ``flavors.python_function.env`` names: of conda alone in older models, or one of each kind."""
    where = folder / _MODEL
    if model.kind != "map":
        raise InvalidDocumentError(where, [f"is {model.word} and not a mapping"])
    env = _function(model).fields.get("env", Node("null"))
    found = {"conda": env} if env.is_text else dict(env.fields)
    violations = []
    paths = {}
    for kind, node in found.items():
        if kind not in _FILES:
            continue
        path = PurePosixPath(node.text)
        if not node.is_text or not node.text or path.is_absolute() or ".." in path.parts:
            violations.append(node.at(f"flavors.python_function.env: {node.text[:80]!r} is not a file of the model"))
            continue
        paths[kind] = folder / path
    raise_all(where, violations)
    return paths


def _conda(path: Path, name: str, folder: Path) -> Environment:
    _check_inside(path, folder)
    return parse_conda(read_text(path, "conda file"), name, path, folder=path.parent, root=folder)


def _python_env(path: Path, name: str, folder: Path) -> Environment:
    _check_inside(path, folder)
    tree = parse_yaml(read_text(path, "python_env file"), path)
    if tree.kind != "map":
        raise InvalidDocumentError(path, [f"is {tree.word} and not a mapping"])
    violations = [node.at(f"{key} is not a known field") for key, node in tree.fields.items() if key not in _PYTHON_ENV]
    lines = []
    for key in ("build_dependencies", "dependencies"):
        node = tree.fields.get(key, Node("null"))
        if node.kind not in ("list", "null"):
            violations.append(node.at(f"{key} is {node.word} and not a list"))
        for at, item in enumerate(node.items):
            if not item.is_text:
                violations.append(item.at(f"{key}[{at}] is {item.word} and not a requirement"))
            elif key == "dependencies":
                lines.append((item.at(f"{key}[{at}]"), item.text))
    if tree.fields.get("build_dependencies", Node("null")).items:
        _log.info("%s: build_dependencies are left out: wheels are installed, and nothing is built", path)
    pip = parse_items(lines, violations, folder=path.parent, root=folder)
    python = None
    version = tree.fields.get("python", Node("null"))
    if version.is_text:
        try:
            python = python_of(version.text)
        except EdgepackError as error:
            violations.append(version.at(f"python: {error}"))
    elif version.kind != "null":
        violations.append(version.at(f"python is {version.word} and not a version"))
    raise_all(path, violations)
    return Environment(name, python=python, pip=pip)


def _check_inside(path: Path, folder: Path) -> None:
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError("leads out of the model", where=path, hint="replace the link by the file that it leads to")
