"""What pip is asked for: the requirements and options of requirement files, those that they name included."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgepack.documents import raise_all
from edgepack.errors import EdgepackError, InvalidDocumentError, UsageError
from edgepack.limits import LIMITS
from edgepack.trees.text_file import raise_some, read_text
from packager.environments.addresses import is_remote, problem_of, scheme_of, shown
from packager.environments.requirement_lines import Option, Requirement, editable, parse_line, split_lines
from packager.wheels.indexes import VARIABLE

_log = logging.getLogger(__name__)
_HOST = re.compile(r"[A-Za-z0-9._*-]+(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?")
_FORMATS = re.compile(r":all:|:none:|[A-Za-z0-9._-]+(?:,[A-Za-z0-9._-]+)*")


@dataclass(frozen=True)
class PipRequirements:
    """Requirements and constraints, a line each as pip takes it, and where and how pip looks for them.

    Folders among ``find_links`` and indexes are absolute. Variables in addresses are kept as ``${NAME}``.
    """

    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    only_binary: tuple[str, ...] = ()
    no_binary: tuple[str, ...] = ()
    no_index: bool = False
    pre: bool = False
    prefer_binary: bool = False
    require_hashes: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for, and nothing said."""
        return self == PipRequirements()

    def option_lines(self) -> tuple[str, ...]:
        """The options as lines of a requirement file."""
        lines = [f"--index-url {self.index_url}"] if self.index_url is not None else []
        for name, values in (
            ("--extra-index-url", self.extra_index_urls), ("--find-links", map(_quoted, self.find_links)),
            ("--trusted-host", self.trusted_hosts), ("--only-binary", self.only_binary),
            ("--no-binary", self.no_binary),
        ):  # fmt: skip
            lines += [f"{name} {value}" for value in values]
        for name, is_set in (
            ("--no-index", self.no_index), ("--pre", self.pre), ("--prefer-binary", self.prefer_binary),
            ("--require-hashes", self.require_hashes),
        ):  # fmt: skip
            lines += [name] * is_set
        return tuple(lines)


def _quoted(path: str) -> str:
    import shlex

    return shlex.quote(path)


@dataclass
class _Reading:
    """What one call reads: ``root`` is the folder that files named by others must not leave, when there is one."""

    root: Path | None
    requirements: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    options: dict[str, list[str]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    open: list[Path] = field(default_factory=list)
    files: int = 0
    lines: int = 0


def read_requirements(path: Path, *, root: Path | None = None) -> PipRequirements:
    """Read a requirement file and those that it names by ``-r`` and ``-c``.

    With ``root``, which is where a model of somebody else lies, no file outside of it is read. Raises
    ``NotFoundError`` and ``UsageError`` for a file that cannot be read, ``InvalidDocumentError`` with every violation
    and its line.
    """
    reading = _Reading(root)
    text = read_text(path, "requirement file")
    _file(reading, path, text, constraint=False)
    return _finished(reading, path)


def parse_requirements(
    text: str, where: object = "requirements", *, folder: Path | None = None, root: Path | None = None
) -> PipRequirements:
    """The same for a text; files that it names are looked for in ``folder``, without which it may name none."""
    reading = _Reading(root)
    _lines(reading, text, "", folder, constraint=False)
    return _finished(reading, where)


def parse_items(
    items: Iterable[tuple[str, str]], violations: list[str], *, folder: Path | None = None, root: Path | None = None
) -> PipRequirements:
    """The same for single lines, each with its place for errors; ``violations`` gets what is wrong."""
    reading = _Reading(root, violations=violations)
    for place, text in items:
        if "\n" in text.strip() or "\r" in text.strip():
            violations.append(f"{place}: has more than one line")
            continue
        for line in split_lines(text):
            _line(reading, line.text, place, folder, constraint=False)
    return _value(reading)


def _finished(reading: _Reading, where: object) -> PipRequirements:
    found = _value(reading)
    raise_some(where, reading.violations)
    return found


def _file(reading: _Reading, path: Path, text: str, *, constraint: bool) -> None:
    reading.open.append(path.resolve())
    prefix = f"{path}: " if len(reading.open) > 1 else ""
    _lines(reading, text, prefix, path.parent, constraint=constraint)
    reading.open.pop()


def _lines(reading: _Reading, text: str, prefix: str, folder: Path | None, *, constraint: bool) -> None:
    for line in split_lines(text):
        reading.lines += 1
        if reading.lines > LIMITS.requirement_lines:
            reading.violations.append(
                f"{prefix}line {line.number}: more than {LIMITS.requirement_lines} requirements and options"
            )
            return
        _line(reading, line.text, f"{prefix}line {line.number}", folder, constraint=constraint)


def _line(reading: _Reading, text: str, place: str, folder: Path | None, *, constraint: bool) -> None:
    try:
        said = parse_line(text)
        if isinstance(said, Requirement):
            if constraint:
                _check_constraint(said)
            (reading.constraints if constraint else reading.requirements).append(said.line())
            return
        for option in said:
            _option(reading, option, place, folder, constraint=constraint)
    except InvalidDocumentError as error:
        reading.violations += [f"{place}: {error.where}: {violation}" for violation in error.violations]
    except EdgepackError as error:
        reading.violations.append(f"{place}: {error}")


def _check_constraint(said: Requirement) -> None:
    if said.name is None:
        raise UsageError("a constraint names its package", hint="write it as NAME @ ADDRESS")
    if "[" in said.text.partition(";")[0].partition("@")[0]:
        raise UsageError("a constraint has no extras", hint="leave the brackets out")


def _option(reading: _Reading, option: Option, place: str, folder: Path | None, *, constraint: bool) -> None:
    if option.name == "-e":
        raise editable(option.value)
    if option.name in ("-r", "-c"):
        _named_file(reading, option, place, folder, constraint=constraint or option.name == "-c")
        return
    if option.name == "--use-feature":
        _log.info("%s: --use-feature is about pip itself and is left out", place)
        return
    reading.options.setdefault(option.name, []).append(_checked(option, folder))


def _named_file(reading: _Reading, option: Option, place: str, folder: Path | None, *, constraint: bool) -> None:
    value = option.value
    if scheme_of(value) in ("http", "https", "file"):
        raise UsageError(f"{option.name} names {shown(value)}", hint="download it, and name the file")
    if VARIABLE.search(value):
        raise UsageError(f"{option.name} names {value!r}, with a variable", hint="write the path out")
    if folder is None:
        raise UsageError(
            f"{option.name} names the file {value!r}, which has no place here", hint="write its lines here"
        )
    path = folder / value
    real = path.resolve()
    if reading.root is not None and not real.is_relative_to(reading.root.resolve()):
        raise UsageError(f"{option.name} names {value!r}, outside of {reading.root}", hint="copy it there")
    if real in reading.open:
        raise UsageError(f"{option.name} names {value!r}, which is being read: they name each other")
    reading.files += 1
    if reading.files > LIMITS.requirement_files:
        if reading.files == LIMITS.requirement_files + 1:
            raise UsageError(f"more than {LIMITS.requirement_files} files are named", hint="join them")
        return
    text = read_text(path, "requirement file")
    _file(reading, path, text, constraint=constraint)


def _checked(option: Option, folder: Path | None) -> str:
    """The value of an option, a folder as an absolute path; raises ``UsageError``."""
    name, value = option.name, option.value
    if name in ("--index-url", "--extra-index-url", "--find-links"):
        return _place(name, value, folder)
    if name == "--trusted-host" and not _HOST.fullmatch(value):
        raise UsageError(f"{name} {shown(value)} is not a host", hint="write it as host or host:port")
    if name in ("--only-binary", "--no-binary") and not _FORMATS.fullmatch(value):
        raise UsageError(f"{name} {value!r} is not :all:, :none: or names", hint="write names with commas")
    return value


def _place(name: str, value: str, folder: Path | None) -> str:
    scheme = scheme_of(value)
    if scheme is not None or VARIABLE.match(value):
        if (problem := problem_of(value)) is not None:
            raise UsageError(f"{name} {shown(value)} {problem}")
        if scheme is not None and scheme != "file" and not is_remote(scheme):
            raise UsageError(f"{name} {shown(value)} has a scheme that pip does not read", hint="write https://…")
        return value
    if any(not char.isprintable() for char in value):
        raise UsageError(f"{name} {value!r} has a character that cannot be printed")
    if Path(value).is_absolute():
        return value  # perhaps of the machine that installs
    # As pip does: a folder beside the file.
    path = Path(value) if folder is None else folder / value
    if not path.exists():
        raise UsageError(f"{name} {value} is not an address, and there is no such folder", hint="check it")
    return str(path.resolve())


def _value(reading: _Reading) -> PipRequirements:
    options = reading.options
    urls = tuple(dict.fromkeys(options.get("--index-url", [])))
    if len(urls) > 1:
        reading.violations.append(f"--index-url is given twice, as {urls[0]} and {urls[1]}; use --extra-index-url too")

    def once(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(options.get(name, [])))

    return PipRequirements(
        # Files that name the same file twice say the same twice.
        tuple(dict.fromkeys(reading.requirements)), tuple(dict.fromkeys(reading.constraints)),
        urls[0] if urls else None, once("--extra-index-url"), once("--find-links"), once("--trusted-host"),
        once("--only-binary"), once("--no-binary"), "--no-index" in options, "--pre" in options,
        "--prefer-binary" in options, "--require-hashes" in options,
    )  # fmt: skip


def requirement_names(lines: Sequence[str]) -> Iterator[str]:
    """The normalised names of requirements, where they say one."""
    for line in lines:
        said = parse_line(line)
        if isinstance(said, Requirement) and said.name is not None:
            yield said.name


def with_requirements(pip: PipRequirements, more: Sequence[str]) -> PipRequirements:
    """``pip`` with further requirements, of which none may be an option or named already; ``InvalidDocumentError``."""
    violations: list[str] = []
    found = parse_items(((f"package {text!r}", text) for text in more), violations)
    if found != replace(PipRequirements(), requirements=found.requirements):
        violations.append("an option is not a package; write it into a requirement file")
    there = set(requirement_names(pip.requirements))
    violations += [f"{name} is in the file already" for name in requirement_names(found.requirements) if name in there]
    raise_all("packages", violations)
    return replace(pip, requirements=(*pip.requirements, *found.requirements))
