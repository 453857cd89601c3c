"""One line of pip's requirement files: a requirement with its own options, or options for all of them.

pip's documentation, "Requirements File Format": lines that end in a backslash are joined, a comment begins with a ``#``
after a space or at the start, a requirement is PEP 508 or an address.
"""

from __future__ import annotations

import re
import shlex
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgepack.errors import UsageError
from edgepack.limits import LIMITS
from edgepack.nearness import did_you_mean
from packager.environments.addresses import is_remote, is_version_control, problem_of, scheme_of, shown
from packager.wheels.indexes import VARIABLE

# pip's own, which takes the square of a line's length, is ``(^|\\s+)#.*$``; the spaces before it are stripped below.
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$")
_HASH = re.compile(r"(?P<algorithm>[a-z0-9]+):(?P<digest>[a-f0-9]+)")
# The algorithms that pip takes, and how many hexadecimal digits each has.
_HASH_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tar.xz", ".txz", ".tar.lzma", ".tlz", ".tar")
_CONDA_PIN = re.compile(r"([A-Za-z0-9][\w.-]*)\s*=\s*([\w.*!+]+)(?:=[\w.*]+)?")

# The options of whole files, by their names: the first of them, and whether a value follows.
_FILE_OPTIONS: Mapping[str, tuple[str, bool]] = {
    "-i": ("--index-url", True), "--index-url": ("--index-url", True), "--pypi-url": ("--index-url", True),
    "--extra-index-url": ("--extra-index-url", True), "--no-index": ("--no-index", False),
    "-f": ("--find-links", True), "--find-links": ("--find-links", True),
    "-r": ("-r", True), "--requirement": ("-r", True), "--requirements": ("-r", True),
    "-c": ("-c", True), "--constraint": ("-c", True), "--constraints": ("-c", True),
    "-e": ("-e", True), "--editable": ("-e", True),
    "--no-binary": ("--no-binary", True), "--only-binary": ("--only-binary", True),
    "--prefer-binary": ("--prefer-binary", False), "--require-hashes": ("--require-hashes", False),
    "--pre": ("--pre", False), "--trusted-host": ("--trusted-host", True), "--use-feature": ("--use-feature", True),
}  # fmt: skip
_OWN_OPTIONS: Mapping[str, tuple[str, bool]] = {
    "--hash": ("--hash", True), "-C": ("--config-settings", True), "--config-setting": ("--config-settings", True),
    "--config-settings": ("--config-settings", True),
}  # fmt: skip
_REMOVED = ("--global-option", "--install-option", "--build-option")


@dataclass(frozen=True)
class Line:
    """A line of ``text`` without its comment, those that it continues included; ``number`` is that of the first."""

    number: int
    text: str


@dataclass(frozen=True)
class Requirement:
    """What one line asks for: ``text`` as PEP 508 or an address, and its options, each such as ``--hash=sha256:…``.

    ``name`` is None for an address that does not say it.
    """

    text: str
    options: tuple[str, ...] = ()
    name: str | None = None

    def line(self) -> str:
        """The line as a requirement file has it."""
        return " ".join((self.text, *self.options))


@dataclass(frozen=True)
class Option:
    """An option of a whole file: its long name, but ``-r``, ``-c`` and ``-e``; and its value, empty without one."""

    name: str
    value: str = ""


def split_lines(text: str) -> Iterator[Line]:
    """The lines of a requirement file that say something."""
    joined: list[str] = []
    first = 0
    for number, line in enumerate(text.splitlines(), 1):
        comment = line.lstrip().startswith("#")
        if not joined:
            first = number
        if line.endswith("\\") and not comment:
            joined.append(line.strip("\\"))
            continue
        yield from _said(first, "".join([*joined, f" {line}" if comment else line]))
        joined = []
    if joined:
        yield from _said(first, "".join(joined))


def _said(number: int, text: str) -> Iterator[Line]:
    text = _COMMENT.sub("", text).strip()
    if text:
        yield Line(number, text)


def parse_line(text: str) -> Requirement | tuple[Option, ...]:
    """What a line says; raises ``UsageError``, whose text has no credential that the line has."""
    if len(text) > LIMITS.requirement_line_chars:
        raise UsageError(f"has more than {LIMITS.requirement_line_chars} characters")
    words = text.split(" ")
    start = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    asked = " ".join(words[:start]).strip()
    try:
        rest = shlex.split(" ".join(words[start:]))
    except ValueError:
        raise UsageError("a quote is not closed", hint="close it") from None
    if not asked:
        return tuple(_options(rest, _FILE_OPTIONS, _OWN_OPTIONS, "belongs after a requirement, on its line"))
    own = tuple(_options(rest, _OWN_OPTIONS, _FILE_OPTIONS, "belongs on a line of its own"))
    text, name = _requirement(asked)
    for option in own:
        _check_own(option)
    return Requirement(text, tuple(shlex.join([f"{option.name}={option.value}"]) for option in own), name)


def _options(
    words: list[str], known: Mapping[str, tuple[str, bool]], elsewhere: Mapping[str, tuple[str, bool]], why: str
) -> Iterator[Option]:
    waiting = deque(words)
    while waiting:
        word = waiting.popleft()
        name, equals, value = word.partition("=")
        if not word.startswith("--") and len(word) > 2 and (word[:2] in known or word[:2] in elsewhere):
            name, equals, value = word[:2], "=", word[2:]
        if name in _REMOVED:
            raise UsageError(f"{name} is for builds from source and was removed from pip", hint="leave it out")
        if name not in known:
            if name in elsewhere:
                raise UsageError(f"{name} {why}")
            if not name.startswith("-"):
                raise UsageError(f"{shown(name)!r} stands between options", hint="write one requirement a line")
            name = name[:80]
            hint = did_you_mean(name, (one for one in known if one.startswith("--")), "see pip's requirement files")
            raise UsageError(f"{name} is not an option of requirement files", hint=hint)
        full, takes = known[name]
        if takes and not equals:
            if not waiting:
                raise UsageError(f"{name} lacks its value")
            value = waiting.popleft()
        if takes != bool(value):
            raise UsageError(f"{name} lacks its value" if takes else f"{name} takes no value")
        yield Option(full, value)


def _check_own(option: Option) -> None:
    if option.name != "--hash":
        return
    found = _HASH.fullmatch(option.value.lower())
    if found is None or found["algorithm"] not in _HASH_DIGITS:
        raise UsageError(f"{option.value[:40]!r} is not a hash", hint="write it as --hash=sha256:<64 digits>")
    wanted = _HASH_DIGITS[found["algorithm"]]
    if len(found["digest"]) != wanted:
        raise UsageError(f"a {found['algorithm']} hash has {wanted} hexadecimal digits, not {len(found['digest'])}")


def _requirement(text: str) -> tuple[str, str | None]:
    text = " ".join(text.split())
    if len(text) > LIMITS.requirement_chars:
        raise UsageError(f"its requirement has more than {LIMITS.requirement_chars} characters")
    scheme = scheme_of(text)
    address, _, _ = text.partition(" ;")
    if scheme is not None and ("://" in text or scheme == "file" or is_version_control(scheme)):
        return _address(text, scheme, address.strip()), None
    if VARIABLE.search(text) and "@" not in text:
        raise UsageError(
            f"{text[:200]!r} depends on a variable of the machine that installs it",
            hint="write its value; only addresses may hold variables",
        )  # fmt: skip
    if "://" not in text and _is_path(text):
        raise _local(text)
    return _named(text)


def _address(text: str, scheme: str, address: str) -> str:
    if scheme == "file" or scheme.endswith("+file"):
        raise _local(shown(address))
    if not is_remote(scheme):
        raise UsageError(f"{shown(address)} has the scheme {scheme[:80]!r}, which pip does not install from")
    if (problem := problem_of(address)) is not None:
        raise UsageError(f"{shown(address)} {problem}")
    return text


def _is_path(text: str) -> bool:
    start = re.split(r"[\s;\[]", text, maxsplit=1)[0]
    return start.startswith((".", "/", "~")) or "/" in start.partition("@")[0] or start.lower().endswith(_ARCHIVES)


def _local(text: str) -> UsageError:
    return UsageError(
        f"{text[:200]!r} is a file or folder of this machine",
        hint="put its wheel into a folder and name that folder by --find-links, and the package by its name",
    )  # fmt: skip


def editable(value: str) -> UsageError:
    """Why an editable requirement is refused."""
    if is_remote(scheme_of(value)):
        return UsageError(f"-e is for working copies and {shown(value)} is installed as it is", hint="leave -e out")
    return UsageError(
        f"-e names {value[:200]!r}, a working copy of this machine",
        hint="build a wheel of it, put it into a folder and name that folder by --find-links, and the package by its "
        "name",
    )  # fmt: skip


def _named(text: str) -> tuple[str, str]:
    from packaging.requirements import InvalidRequirement
    from packaging.requirements import Requirement as Parsed
    from packaging.utils import canonicalize_name

    try:
        found = Parsed(text)
    except InvalidRequirement as error:
        raise _not_a_requirement(text, str(error)) from None
    except RecursionError:  # of its reader of markers
        raise _not_a_requirement(text, "its parentheses are nested too deep") from None
    if found.url is not None:
        _address(text, scheme_of(found.url) or "", found.url)
    name = canonicalize_name(found.name)
    if name == "python":
        raise UsageError("python is not a package of pip's", hint="say its version by --python, or in a conda file")
    return text, name


def _not_a_requirement(text: str, why: str) -> UsageError:
    if (pin := _CONDA_PIN.fullmatch(text)) is not None:
        return UsageError(f"{text[:80]!r} is how conda writes it", hint=f"write {pin[1]}=={pin[2]}")
    if text == "@EXPLICIT":
        return UsageError(
            "conda lists files of packages here", hint="export names instead: conda env export --from-history"
        )
    return UsageError(f"{shown(text)[:200]!r} is not a requirement ({shown(why.splitlines()[0])[:200]})")
