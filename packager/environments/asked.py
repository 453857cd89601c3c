"""What an environment asks of the wheels of an image: requirements of pip, without what the server brings itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepack.documents import raise_all
from packager.environments.addresses import shown
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
    notes: list[str] = list(_ignored(environment))
    from_conda = list(_of_conda(environment, violations, notes))
    named = [*from_conda, *_of_pip(environment.pip.requirements, violations)]
    left_out = {one.name for one in named if one.name in SERVER_PACKAGES and one.name not in keep}
    notes += [f"{name} is not installed: {SERVER_PACKAGES[name].reason}" for name in sorted(left_out)]
    wanted = [one for one in named if one.name not in left_out]
    constraints = list(_of_pip(environment.pip.constraints, violations))
    raise_all(f"environment {environment.id}", violations)
    return Asked(
        tuple(dict.fromkeys(one.text for one in wanted)),
        tuple(dict.fromkeys(one.text for one in constraints if one.name not in left_out)),
        frozenset(one.name for one in wanted),
        _indexes(environment, folders),
        tuple(dict.fromkeys(notes)),
        frozenset(one.name for one in from_conda) & frozenset(one.name for one in wanted),
        _hashes((*wanted, *constraints)),
        {
            key: value
            for one in wanted
            if one.name in SERVER_PACKAGES
            for key, value in SERVER_PACKAGES[one.name].variables
        },
    )


@dataclass(frozen=True)
class _Named:
    """A requirement as PEP 508 writes it, the name in it, and the SHA-256 of its files."""

    text: str
    name: str
    hashes: frozenset[str] = frozenset()


def _indexes(environment: Environment, folders: tuple[Path, ...]) -> Indexes:
    pip = environment.pip
    return Indexes(
        pip.index_url, pip.extra_index_urls, pip.find_links, pip.trusted_hosts, pip.no_index, pip.pre, folders
    )


def _unmanaged(environment: Environment) -> Iterator[str]:
    if environment.pip.requirements or environment.conda_packages:
        yield "its packages are not installed: user_managed_dependencies says that the base has them"


def _ignored(environment: Environment) -> Iterator[str]:
    for name in environment.pip.no_binary:
        if name != ":none:":
            yield f"--no-binary {name} is not followed: images are made of wheels"
    if environment.interpreter_path not in (None, "python"):
        yield f"interpreter_path {environment.interpreter_path} is not used: the image runs the base's Python"


def _hashes(named: Iterable[_Named]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for one in named:
        if one.hashes:
            found[one.name] = found.get(one.name, frozenset()) | one.hashes
    return found


def _of_pip(lines: tuple[str, ...], violations: list[str]) -> Iterator[_Named]:
    """Each line with its name; one that is checked out or lies at an address has no wheel that a lock could name."""
    for line in lines:
        said = parse_line(line)
        assert isinstance(said, Requirement)  # noqa: S101 - of an environment that was checked
        if said.name is None or "://" in said.text.partition(";")[0]:
            address = shown(said.text.partition(";")[0].partition("#")[0].strip())
            violations.append(
                f"{address!r} is an address, and images are made of wheels of an index or a folder: build its wheel "
                "(pip wheel), put it into a folder, and name that by --find-links and the package by its name"
            )
            continue
        options = [option.partition("=")[2] for option in said.options if option.startswith("--hash=")]
        hashes = frozenset(option.removeprefix("sha256:") for option in options if option.startswith("sha256:"))
        if options and not hashes:
            violations.append(f"{said.text!r} has no sha256 hash, which is what package indexes give")
        yield _Named(said.text, said.name, hashes)


def _of_conda(environment: Environment, violations: list[str], notes: list[str]) -> Iterator[_Named]:
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
            yield _Named(found.requirement, said.name or "")
