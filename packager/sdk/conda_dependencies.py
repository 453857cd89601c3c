"""``CondaDependencies``: the packages of an environment, which scripts change one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepack.documents import raise_all
from edgepack.errors import UsageError
from edgepack.host.files import BY_UMASK, atomic_write, make_dirs
from edgepack.trees.text_file import read_text
from edgepack.trees.yaml_tree import json_tree
from packager.environments.azure import CONDA_FILE
from packager.environments.changes import with_channel, with_conda_package, with_pip_package
from packager.environments.conda import conda_json, conda_text, from_tree, parse_conda
from packager.environments.environment import Environment as Record
from packager.environments.environment import python_of, violations_of
from packager.environments.pip_requirements import PipRequirements, parse_items
from packager.environments.sources import python_among
from packager.exceptions import translated
from packager.sdk.arguments import PathLike, path_of

# What Azure's SDK calls the environment in the files that it writes.
_NAME = "project_environment"
_WHERE = "conda dependencies"


class CondaDependencies:
    """A Python, conda's packages and channels, and pip's packages and options.

    ``CondaDependencies()`` has none of them; ``CondaDependencies("env.yml")`` has those of a conda file. Where none of
    them names a Python, the environment gets edgepack's when it is registered, or its base's.
    """

    @translated
    def __init__(
        self,
        conda_dependencies_file_path: PathLike | None = None,
        _underlying_structure: Mapping[str, Any] | None = None,
    ) -> None:
        path = path_of(conda_dependencies_file_path)
        self._path = path
        self._record = Record(_NAME)
        if path is not None:
            self._record = parse_conda(read_text(path, "conda file"), _NAME, path, folder=path.parent)
        elif _underlying_structure is not None:
            self._record = from_tree(json_tree(dict(_underlying_structure), _WHERE), _NAME, _WHERE)

    @classmethod
    def _of(cls, record: Record) -> CondaDependencies:
        """The packages of a record; its variables are the environment's."""
        made = cls()
        made._record = Record(
            record.name, python=record.python, conda_channels=record.conda_channels,
            conda_packages=record.conda_packages, pip=record.pip, conda_file=record.conda_file,
        )  # fmt: skip
        return made

    @staticmethod
    @translated
    def create(
        pip_indexurl: str | None = None,
        pip_packages: Iterable[str] | None = None,
        conda_packages: Iterable[str] | None = None,
        python_version: str | None = None,
        pin_sdk_version: bool = True,
    ) -> CondaDependencies:
        """The packages as pip and conda write them. Raises ``InvalidDocumentError`` with every violation.

        Nothing is added to them: Azure's own packages are not needed here, so ``pin_sdk_version`` changes nothing.
        """
        options = [] if pip_indexurl is None else [f"--index-url {pip_indexurl}"]
        specs = _texts(conda_packages, "conda_packages")
        violations: list[str] = []
        pip = _parsed([*options, *_texts(pip_packages, "pip_packages")], violations)
        if python_version is not None:
            specs = (_python_spec(python_version), *specs)
        made = CondaDependencies()
        made._record = Record(_NAME, python=python_among(specs), conda_packages=specs, pip=pip)
        raise_all(_WHERE, [*violations, *violations_of(made._record)])
        return made

    # What they are

    def __repr__(self) -> str:
        return (
            f"CondaDependencies(conda_packages={self.conda_packages}, conda_channels={self.conda_channels}, "
            f"pip_packages={self.pip_packages}, pip_options={self.pip_options})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CondaDependencies) and self._content == other._content

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def _content(self) -> Record:
        """What they ask for, however it was written."""
        return replace(self._record, name=_NAME, conda_file=None)

    @property
    def _is_empty(self) -> bool:
        return self._content == Record(_NAME)

    @property
    def conda_channels(self) -> list[str]:
        """Where conda's packages come from, a copy; ``add_channel`` changes them."""
        return list(self._record.conda_channels)

    @property
    def conda_packages(self) -> list[str]:
        """Conda's packages, Python among them, a copy; ``add_conda_package`` changes them."""
        found = conda_json(replace(self._record, pip=PipRequirements()))["dependencies"]
        return [text for text in found if isinstance(text, str)]

    @property
    def pip_packages(self) -> list[str]:
        """Pip's packages, a copy; ``add_pip_package`` changes them."""
        return list(self._record.pip.requirements)

    @property
    def pip_options(self) -> list[str]:
        """Pip's options, such as ``--index-url https://…``."""
        return list(self._record.pip.option_lines())

    # Changes

    @translated
    def add_channel(self, channel: str) -> None:
        """Look for conda's packages there too, after the others."""
        self._record = with_channel(self._record, channel)

    @translated
    def add_conda_package(self, conda_package: str) -> None:
        """Add a package such as ``numpy=2.1``, in the place of one of the same name."""
        self._record = with_conda_package(self._record, conda_package)

    @translated
    def add_pip_package(self, pip_package: str) -> None:
        """Add a package such as ``numpy>=2``, in the place of one of the same name."""
        self._record = with_pip_package(self._record, pip_package)

    @translated
    def set_python_version(self, version: str) -> None:
        """Take this Python, such as ``3.11``."""
        found = with_conda_package(self._record, _python_spec(version))
        *others, python = found.conda_packages
        self._record = replace(found, conda_packages=(python, *others))

    @translated
    def set_pip_option(self, pip_option: str) -> None:
        """Set an option such as ``--index-url https://…``, in the place of what it was."""
        name = pip_option.replace("=", " ").split(" ")[0]
        others = [line for line in self.pip_options if line.split(" ")[0] != name]
        found = self._replaced([*others, pip_option, *self.pip_packages])
        constraints = self._record.pip.constraints
        self._record = replace(found, pip=replace(found.pip, constraints=constraints))

    @translated
    def set_pip_requirements(self, pip_requirements: Iterable[str]) -> None:
        """Take these packages and options of pip in the place of all that there are."""
        self._record = self._replaced(_texts(pip_requirements, "pip_requirements"))

    def _replaced(self, lines: Iterable[str]) -> Record:
        violations: list[str] = []
        found = replace(self._record, pip=_parsed(lines, violations), conda_file=None)
        raise_all(_WHERE, [*violations, *violations_of(found)])
        return found

    # Files

    @translated
    def serialize_to_string(self) -> str:
        """A conda file with them: the one that they were read from where nothing has changed."""
        return conda_text(self._record)

    @translated
    def as_dict(self) -> dict[str, Any]:
        """The name, the channels and the dependencies, as a conda file has them."""
        return conda_json(self._record)

    @translated
    def save(self, path: PathLike | None = None) -> str:
        """Write the conda file ``path``, or the one that they were read from; in a folder, ``conda_dependencies.yml``.

        Returns its path.
        """
        target = path_of(path) or self._path or Path(CONDA_FILE)
        if target.is_dir():
            target /= CONDA_FILE
        data = conda_text(self._record).encode()
        make_dirs(target.parent)
        atomic_write(target, data, BY_UMASK)
        return str(target)

    @translated
    def save_to_file(self, base_directory: PathLike, conda_file_path: PathLike | None = None) -> str:
        """Write a conda file below ``base_directory`` and return its path there."""
        inner = path_of(conda_file_path) or Path(CONDA_FILE)
        self.save(Path(path_of(base_directory) or ".") / inner)
        return str(inner)


def _texts(items: Iterable[str] | None, what: str) -> tuple[str, ...]:
    """The packages in a list; one text alone would be taken letter by letter."""
    found = [items] if isinstance(items, str) else list(items or ())
    for item in found:
        if not isinstance(item, str):
            raise UsageError(f"{item!r} is not a package", where=what, hint=f"write {what}=['numpy>=2']")
    return tuple(found)


def _python_spec(version: object) -> str:
    """A Python as conda's package, such as ``python=3.11``; the number 3.10 would be 3.1."""
    if not isinstance(version, str):
        raise UsageError(f"{version!r} is not text", where="python_version", hint="write it in quotes: '3.11'")
    python_of(version)
    return f"python={version.strip()}" if version.strip()[0].isdigit() else f"python{version.strip()}"


def _parsed(lines: Iterable[str], violations: list[str]) -> PipRequirements:
    return parse_items(((f"package {text!r}", text) for text in lines), violations)
