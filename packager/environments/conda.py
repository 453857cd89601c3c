"""conda's files of environments: ``name``, ``channels``, ``dependencies`` with a pip section, ``variables``."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgepack.errors import EdgepackError, UsageError
from edgepack.nearness import did_you_mean
from edgepack.trees.text_file import raise_some
from edgepack.trees.yaml_tree import Node, parse_yaml
from packager.environments.addresses import shown
from packager.environments.environment import Environment, with_default_python
from packager.environments.match_spec import MatchSpec, channel_problem, parse_match_spec, python_specifiers
from packager.environments.pip_requirements import parse_items, requirement_names

_log = logging.getLogger(__name__)
_KNOWN = ("name", "channels", "dependencies", "variables", "prefix", "platforms")
# About the machine that the file was written on, or for other programs.
_LEFT_OUT = {"prefix": "names a folder of one machine", "platforms": "is for conda-lock"}
_AZURE = "azureml-defaults"
_NOT_CONDA = "a conda file has 'dependencies'; pip's requirement files end in .txt"


@dataclass
class _Reading:
    """What one file says; ``folder`` is where files that it names are, ``root`` what they must not leave."""

    folder: Path | None
    root: Path | None
    violations: list[str] = field(default_factory=list)
    specs: list[MatchSpec] = field(default_factory=list)
    pip: list[tuple[str, str]] = field(default_factory=list)
    has_pip: bool = False
    notes: list[str] = field(default_factory=list)


def parse_conda(
    text: str, name: str, where: object = "conda file", *, folder: Path | None = None, root: Path | None = None
) -> Environment:
    """The environment ``name`` that the text of a conda file describes; ``python`` is None where it names none.

    Requirement files that its pip section names are looked for in ``folder``, and only below ``root`` where that is
    given. Raises ``InvalidDocumentError`` with every violation and its field.
    """
    return replace(from_tree(parse_yaml(text, where), name, where, folder=folder, root=root), conda_file=text)


def from_tree(
    tree: Node, name: str, where: object, *, folder: Path | None = None, root: Path | None = None
) -> Environment:
    """The same from a tree, which may have come from JSON."""
    reading = _Reading(folder, root)
    found = _environment(reading, tree, name)
    raise_some(where, reading.violations, hint=_NOT_CONDA if tree.kind != "map" else None)
    for note in reading.notes:
        _log.info("%s: %s", where, note)
    return found


def _environment(reading: _Reading, tree: Node, name: str) -> Environment:
    if tree.kind != "map":
        reading.violations.append(f"is {tree.word} and not a mapping")
        return Environment(name)
    for key, value in tree.fields.items():
        if key not in _KNOWN:
            meant = did_you_mean(key[:80], _KNOWN)
            reading.violations.append(value.at(f"{key[:80]} is not a known field") + (f"; {meant}" if meant else ""))
        elif key in _LEFT_OUT and value.kind != "null":
            reading.notes.append(f"{key} {_LEFT_OUT[key]} and is left out")
    if "dependencies" not in tree.fields:
        reading.violations.append("dependencies is missing")
    _dependencies(reading, tree.fields.get("dependencies", Node("list")))
    pip = parse_items(reading.pip, reading.violations, folder=reading.folder, root=reading.root)
    if _AZURE not in requirement_names(pip.requirements):
        reading.notes.append(f"does not list {_AZURE}, which only Azure needs; edgepack brings its own server")
    return Environment(
        name,
        python=_python(reading),
        conda_channels=tuple(_channels(reading, tree.fields.get("channels", Node("null")))),
        conda_packages=tuple(spec.text for spec in reading.specs),
        pip=pip,
        variables=_variables(reading, tree.fields.get("variables", Node("null"))),
    )


def _dependencies(reading: _Reading, node: Node) -> None:
    if node.kind != "list":
        reading.violations.append(node.at(f"dependencies is {node.word} and not a list"))
    for at, item in enumerate(node.items):
        path = f"dependencies[{at}]"
        if item.kind == "map":
            _pip_section(reading, item, path)
        elif not item.is_text:
            reading.violations.append(item.at(f"{path} is {item.word} and not a package"))
        else:
            try:
                reading.specs.append(parse_match_spec(item.text))
            except EdgepackError as error:
                reading.violations.append(item.at(f"{path}: {error}"))
    for spec, first in _repeated(reading.specs):
        reading.violations.append(f"dependencies has {first.text!r} and {spec.text!r}; keep one")


def _repeated(specs: list[MatchSpec]) -> Iterator[tuple[MatchSpec, MatchSpec]]:
    seen: dict[str, MatchSpec] = {}
    for spec in specs:
        first = seen.setdefault(spec.name, spec)
        if first is not spec:
            yield spec, first


def _pip_section(reading: _Reading, item: Node, path: str) -> None:
    for key, value in item.fields.items():
        if key != "pip":
            hint = "a version is written with '=', not ':'" if value.is_text else "only 'pip' is known there"
            reading.violations.append(item.at(f"{path}: {key[:80]!r} is not a section; {hint}"))
            continue
        if reading.has_pip:
            reading.violations.append(value.at(f"{path}.pip is a second pip section; join it with the first"))
        reading.has_pip = True
        if value.kind != "list":
            reading.violations.append(value.at(f"{path}.pip is {value.word} and not a list"))
        for at, line in enumerate(value.items):
            if line.is_text:
                reading.pip.append((line.at(f"{path}.pip[{at}]"), line.text))
            else:
                reading.violations.append(line.at(f"{path}.pip[{at}] is {line.word} and not a requirement"))


def _channels(reading: _Reading, node: Node) -> Iterator[str]:
    if node.kind not in ("list", "null"):
        reading.violations.append(node.at(f"channels is {node.word} and not a list"))
    seen = set()
    for at, item in enumerate(node.items):
        problem = channel_problem(item.text) if item.is_text else f"is {item.word} and not a name"
        if problem is not None:
            reading.violations.append(item.at(f"channels[{at}] {shown(item.text)!r} {problem}"))
        elif item.text not in seen:
            seen.add(item.text)
            yield item.text


def _variables(reading: _Reading, node: Node) -> dict[str, str]:
    if node.kind not in ("map", "null"):
        reading.violations.append(node.at(f"variables is {node.word} and not a mapping"))
    for name, value in node.fields.items():
        if not value.is_text:
            hint = f"write '{value.text}' in quotes" if value.kind == "truth" else "write a text"
            reading.violations.append(value.at(f"variables.{name[:80]} is {value.word}; {hint}"))
    return {name: value.text for name, value in node.fields.items() if value.is_text}


def _python(reading: _Reading) -> str | None:
    for spec in reading.specs:
        if spec.name == "python":
            try:
                return python_specifiers(spec)
            except EdgepackError as error:
                reading.violations.append(f"dependencies: {error}")
    return None


def conda_text(environment: Environment) -> str:
    """``environment`` as a conda file: the one that it was read from where that says the same, else a new one.

    Raises ``UsageError`` for constraints, which a conda file can only leave to another file.
    """
    text = environment.conda_file
    if text is not None and _says(text) == _content(environment):
        return text
    import yaml

    said = conda_json(environment)
    *packages, last = said["dependencies"] or [""]
    if isinstance(last, dict) and "pip" not in names_of(environment.conda_packages):
        said["dependencies"] = [*packages, "pip", last]  # conda asks for it
    said["variables"] = dict(environment.variables)
    text = yaml.safe_dump(
        {key: value for key, value in said.items() if value or key == "dependencies"},
        sort_keys=False, allow_unicode=True, default_flow_style=False, width=1 << 20,
    )  # fmt: skip
    return str(text)


def conda_json(environment: Environment) -> dict[str, Any]:
    """The name, the channels and the dependencies of ``environment``, as a conda file has them.

    Raises ``UsageError`` for constraints.
    """
    if environment.pip.constraints:
        raise UsageError(
            "has constraints, which are written into a file of their own", where=environment.id,
            hint="use the JSON form, which has them",
        )  # fmt: skip
    packages: list[Any] = list(environment.conda_packages)
    if environment.python is not None and "python" not in names_of(packages):
        packages.insert(0, f"python{_conda_version(environment.python)}")
    lines = [*environment.pip.option_lines(), *environment.pip.requirements]
    if lines:
        packages.append({"pip": lines})
    return {"name": environment.name, "channels": list(environment.conda_channels), "dependencies": packages}


def names_of(packages: Iterable[str]) -> list[str]:
    """The names of conda packages."""
    return [parse_match_spec(text).name for text in packages]


def _conda_version(specifiers: str) -> str:
    if specifiers.startswith("==") and specifiers.endswith(".*") and "," not in specifiers:
        return f"={specifiers[2:-2]}"
    return specifiers


def _content(environment: Environment) -> Mapping[str, object]:
    return {
        "python": environment.python,
        "channels": environment.conda_channels,
        "packages": environment.conda_packages,
        "pip": environment.pip,
        "variables": dict(environment.variables),
    }


def _says(text: str) -> Mapping[str, object] | None:
    """What the text says alone, without files that it names; None when it does not stand alone."""
    reading = _Reading(None, None)
    try:
        found = _environment(reading, parse_yaml(text, "conda file"), "any")
    except EdgepackError:
        return None
    return None if reading.violations else _content(with_default_python(found))
