"""What conda installs one package by: the grammar of its ``MatchSpec``, as far as files of environments use it.

``channel/subdir::name``, then a version and a build: ``numpy``, ``numpy=1.26``, ``numpy==1.26.4``, ``numpy>=1.26,<2``,
``numpy 1.26.* *openblas``, ``numpy=1.26.4=py311h64a7726_0``, ``numpy[version='>=1.26', build=*mkl]`` (conda's
documentation, "Package match specifications").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgepack.errors import InvalidReferenceError
from edgepack.limits import LIMITS
from edgepack.nearness import did_you_mean
from packager.environments.addresses import problem_of, scheme_of

_BRACKETS = re.compile(r"(?P<before>[^\[\]]*)\[(?P<inside>[^\[\]]*)\]")
_PAIR = re.compile(r"""\s*([a-zA-Z0-9_-]+)\s*=\s*(?:'([^']*)'|"([^"]*)"|([^'",\s]+))\s*(?:,|(?<=\s)|$)""")
_KEYS = (
    "version", "build", "build_number", "channel", "subdir", "md5", "sha256", "features", "track_features", "license",
    "license_family", "name",
)  # fmt: skip
_NAME_AND_REST = re.compile(r"([^\s=<>!~]+)\s*(.*)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_CHANNEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*")
# The build comes after a space or a "=" that is not a part of an operator.
_VERSION_AND_BUILD = re.compile(r"(.+?)(?:(?<![=!<>~,|])[ =]([^\s=,|<>~!]+))?")
_TERM = re.compile(r"(?P<operator>==|!=|>=|<=|~=|=|<|>)?(?P<version>(?:[0-9]+!)?[A-Za-z0-9_.+*-]+)")
_REGEX = re.compile(r"\^[^,|\s]*\$")
# Python refuses to read numbers of thousands of digits.
_PYTHON_CHARS = 200
_ARCHIVES = (".conda", ".tar.bz2")


@dataclass(frozen=True)
class MatchSpec:
    """One package: ``version`` as conda writes it, such as ``=1.26`` or ``>=1.26,<2``; ``text`` as it was written."""

    text: str
    name: str
    version: str | None = None
    build: str | None = None
    channel: str | None = None


def parse_match_spec(text: str) -> MatchSpec:
    """Parse ``text``; raises ``InvalidReferenceError``."""
    try:
        return _parsed(" ".join(text.split()))
    except ValueError as error:
        raise InvalidReferenceError(
            f"{text.strip()[:200]!r} is not a conda package: {error}", hint="write it as name, name=1.2 or name>=1.2,<2"
        ) from None


def _parsed(text: str) -> MatchSpec:
    if not text:
        raise ValueError("it is empty")
    if len(text) > LIMITS.requirement_chars:
        raise ValueError(f"it has more than {LIMITS.requirement_chars} characters")
    if not text.isprintable():
        raise ValueError("it has a character that cannot be printed")
    if text.lower().endswith(_ARCHIVES):
        raise ValueError("it is the file of a package; name the package and its version")
    rest, keys = _brackets(text)
    channel, rest = _channel(rest)
    found = _NAME_AND_REST.fullmatch(rest)
    if found is None:
        raise ValueError("the name is missing")
    if not _NAME.fullmatch(found[1]):
        raise ValueError(f"{found[1][:80]!r} is not a package's name")
    version, build = _version_and_build(found[2])
    version, build = keys.get("version", version), keys.get("build", build)
    for term in _terms(version or "*"):
        if not _TERM.fullmatch(term) and not _REGEX.fullmatch(term):
            raise ValueError(f"{term[:80]!r} is not a version" if term else f"{(version or '')[:80]!r} lacks a version")
    channel = keys.get("channel", channel)
    return MatchSpec(text, found[1].lower(), version, build, channel)


def _brackets(text: str) -> tuple[str, dict[str, str]]:
    if "[" not in text and "]" not in text:
        return text, {}
    found = _BRACKETS.fullmatch(text)
    if found is None:
        raise ValueError("its brackets must be one pair, at the end")
    keys: dict[str, str] = {}
    inside, at = found["inside"], 0
    while at < len(inside):
        pair = _PAIR.match(inside, at)
        if pair is None:
            raise ValueError(f"{inside[at:].strip()[:80]!r} is not key=value; quote a value with a comma")
        key, value = pair[1], next(value for value in (*pair.groups()[1:], "") if value is not None)
        if key not in _KEYS:
            raise ValueError(
                f"{key[:80]!r} is not known in brackets; {did_you_mean(key[:80], _KEYS, 'version and build are')}"
            )
        if key in keys:
            raise ValueError(f"{key!r} is there twice")
        keys[key] = value
        at = pair.end()
    return found["before"].strip(), keys


def _channel(text: str) -> tuple[str | None, str]:
    if ":" not in text:
        return None, text
    parts = text.rsplit(":", 2)
    if len(parts) != 3:
        raise ValueError("a channel is written before the name with '::'")
    channel, _, rest = parts
    if (problem := channel_problem(channel)) is not None:
        raise ValueError(f"its channel {problem}")
    return channel, rest.strip()


def channel_problem(channel: str) -> str | None:
    """Why this cannot be a channel of an environment: its name, or an address without a credential; else None."""
    if len(channel) > LIMITS.requirement_chars:
        return f"has more than {LIMITS.requirement_chars} characters"
    if scheme_of(channel) is None:
        return None if _CHANNEL.fullmatch(channel) else "is not a name or an address"
    return problem_of(channel)


def _version_and_build(text: str) -> tuple[str | None, str | None]:
    """The version and the build in what follows a name, without spaces around operators."""
    text = re.sub(r"\s*([,|])\s*", r"\1", text.strip())
    text = re.sub(r"(==|>=|<=|!=|~=|[<>=])\s+", r"\1", text)
    text = re.sub(r"(?<=[^\s,|=<>!~])\s+=(?!=)", "=", text)
    if not text:
        return None, None
    found = _VERSION_AND_BUILD.fullmatch(text)
    if found is None or " " in found[1]:
        raise ValueError(f"{text[:80]!r} is not a version and a build")
    return found[1], found[2]


def _terms(version: str) -> list[str]:
    """The single conditions of a version: ``,`` is and, ``|`` is or; parentheses group them."""
    if version.count("(") != version.count(")"):
        raise ValueError("a parenthesis is missing")
    return re.split(r"[,|]", version.replace("(", "").replace(")", ""))


def python_specifiers(spec: MatchSpec) -> str | None:
    """The versions that a spec of ``python`` allows, as PEP 440 writes them; None for any.

    conda's ``=3.11`` takes any 3.11, its ``==3.11`` and ``3.11`` after a space exactly that. Raises
    ``InvalidReferenceError``.
    """
    found = specifiers_of(spec, "Python")
    # All three parts make an exact version: no release of Python has more.
    return check_specifiers(re.sub(r"==(\d+(?:\.\d+){2,})\.\*", r"==\1", found)) if found else None


def specifiers_of(spec: MatchSpec, what: str) -> str:
    """The versions of ``what`` that a spec allows, as PEP 440 writes them; "" for any.

    Raises ``InvalidReferenceError`` for alternatives and regular expressions, which PEP 440 does not have.
    """
    version = spec.version
    if version in (None, "*", "=*"):
        return ""
    if "|" in version or "(" in version or version.startswith("^"):
        raise InvalidReferenceError(f"{spec.text!r} gives {what} by choice", hint="give one version or range")
    terms = version.split(",")
    # With a build, a single version is exact.
    is_exact = len(terms) == 1 and spec.build is not None
    return ",".join(pep for term in terms if (pep := _pep440(term, exact=is_exact)))


def _pep440(term: str, *, exact: bool) -> str:
    found = _TERM.fullmatch(term)
    assert found is not None  # noqa: S101 - parsed before
    operator, version = found["operator"] or "", found["version"]
    starred = version.endswith("*")
    version = version.rstrip("*").rstrip(".") if starred else version
    if not version:
        return ""
    if operator in ("", "=", "=="):
        fuzzy = starred or (operator == "=" and not exact)
        return f"=={version}.*" if fuzzy else f"=={version}"
    if starred and operator == "!=":
        return f"!={version}.*"
    return f"{operator}{version}"


def check_specifiers(text: str) -> str:
    """``text`` when it names versions of Python by PEP 440; raises ``InvalidReferenceError``."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    if len(text) > _PYTHON_CHARS:
        raise InvalidReferenceError("has a version of Python that is too long", hint="write it as 3.11")
    try:
        found = SpecifierSet(text)
    except InvalidSpecifier:
        raise InvalidReferenceError(f"{text!r} is not a version of Python", hint="write it as 3.11") from None
    versions = [specifier.version for specifier in found]
    if not versions or any(specifier.operator == "===" for specifier in found):
        raise InvalidReferenceError(f"{text!r} is not a version of Python", hint="write it as 3.11")
    for version in versions:
        if not re.match(r"[23](?:\.|$)", version):
            raise InvalidReferenceError(f"there is no Python {version.removesuffix('.*')}", hint="write it as 3.11")
    return text
