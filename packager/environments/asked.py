"""What an environment asks of the wheels of an image: requirements of pip, without what the server brings itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from edgepack.documents import raise_all
from packager.environments.conda_names import translated
from packager.environments.environment import Environment
from packager.environments.match_spec import parse_match_spec
from packager.environments.requirement_lines import Requirement, parse_line
from packager.environments.server_packages import SERVER_PACKAGES
from packager.wheels.indexes import Indexes
from packager.wheels.requirements import Asked

# Of conda's base and of installers: an image has none, and a wheel needs none.
_TOOLS = frozenset({"python", "pip"})


def asked_of(environment: Environment, keep: Collection[str] = (), folders: tuple[Path, ...] = ()) -> Asked:
    """What ``environment`` asks for; its wheels are looked for in ``folders`` too.

    The packages in ``keep`` are installed even where the server has its own form. Of an environment whose dependencies
    the user manages, nothing is installed. Raises ``InvalidDocumentError`` with every requirement that no wheel can
    satisfy.
    """
    if environment.user_managed_dependencies:
        return Asked(notes=tuple(_unmanaged(environment)))
    violations: list[str] = []
    requirements: list[str] = []
    names: set[str] = set()
    notes: list[str] = []
    for text, name in (*_of_conda(environment, violations, notes), *_of_pip(environment.pip.requirements, violations)):
        if name in SERVER_PACKAGES and name not in keep:
            notes.append(f"{name} is not installed: {SERVER_PACKAGES[name].reason}")
            continue
        requirements.append(text)
        names.add(name)
    constraints = [text for text, _ in _of_pip(environment.pip.constraints, violations)]
    raise_all(f"environment {environment.id}", violations)
    return Asked(
        tuple(dict.fromkeys(requirements)), tuple(constraints), frozenset(names), _indexes(environment, folders),
        tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _indexes(environment: Environment, folders: tuple[Path, ...]) -> Indexes:
    pip = environment.pip
    return Indexes(
        pip.index_url, pip.extra_index_urls, pip.find_links, pip.trusted_hosts, pip.no_index, pip.pre, folders
    )


def _unmanaged(environment: Environment) -> Iterator[str]:
    if environment.pip.requirements or environment.conda_packages:
        yield "its packages are not installed: user_managed_dependencies says that the base has them"


def _of_pip(lines: tuple[str, ...], violations: list[str]) -> Iterator[tuple[str, str]]:
    """Each line with its name; one that is checked out or lies at an address has no wheel that a lock could name."""
    for line in lines:
        said = parse_line(line)
        assert isinstance(said, Requirement)  # noqa: S101 - of an environment that was checked
        if said.name is None or "://" in said.text.partition(";")[0]:
            address = said.text.partition(";")[0].partition("#")[0].strip()
            violations.append(
                f"{address[:200]!r} is an address, and images are made of wheels of an index or a folder: build its "
                "wheel (pip wheel), put it into a folder, name that by --find-links and the package by its name"
            )
            continue
        yield line, said.name


def _of_conda(environment: Environment, violations: list[str], notes: list[str]) -> Iterator[tuple[str, str]]:
    for text in environment.conda_packages:
        spec = parse_match_spec(text)
        if spec.name in _TOOLS:
            continue
        found = translated(spec)
        if isinstance(found, str):
            violations.append(found)
            continue
        notes += [found.note] if found.note else []
        if found.requirement is not None:
            said = parse_line(found.requirement)
            assert isinstance(said, Requirement)  # noqa: S101 - written here
            yield found.requirement, said.name or ""
