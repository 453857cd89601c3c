"""Which recipe's base an environment's Python asks for."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from edgepack.errors import EdgepackError, IncompatibleError, UsageError
from packager.bases.debian import load_recipe, python_release, recipes
from packager.bases.facts import OLDEST_PYTHON
from packager.bases.find import DEFAULT_RECIPE

_log = logging.getLogger(__name__)
# Of Python 2 the last, and more of Python 3 than there are.
_MINORS = ((2, 7), *((3, minor) for minor in range(40)))
_PATCHES = 40

PinCheck = Callable[[str], tuple[Sequence[str], Sequence[str]]]
"""Of the user's requirements those that have a release for a Python such as ``3.11``, and those that have none."""


def base_for(python: str | None, *, pins: PinCheck | None = None) -> str:
    """The name of the recipe whose Python fits the specifiers ``python``, such as ``==3.11.*``; None takes any.

    The default recipe is preferred, then the oldest Python. A patch release that Debian does not have gives its minor
    version, with a warning. Raises ``UsageError`` for what is not PEP 440, ``IncompatibleError`` for a Python that no
    recipe has, with the ways out; ``pins`` is then asked what of the user's requirements another Python would keep.
    """
    if python is None or not python.strip():
        return DEFAULT_RECIPE
    wanted = _specifiers(python)
    releases = _releases()
    for name, release in releases.items():
        if wanted.contains(release, prereleases=True):
            return name
    for name, release in releases.items():
        if _has_minor(wanted, *Version(release).release[:2]):
            _warn(wanted, name, release)
            return name
    raise IncompatibleError(_reason(wanted), where=f"python {python}", hint=_ways_out(wanted, pins))


@cache
def _releases() -> dict[str, str]:
    """The full version of each recipe's Python, in the order in which they are preferred."""
    found = {name: python_release(load_recipe(name)) for name in recipes()}
    return dict(sorted(found.items(), key=lambda item: (item[0] != DEFAULT_RECIPE, Version(item[1]))))


def _specifiers(python: str) -> SpecifierSet:
    try:
        return SpecifierSet(python)
    except InvalidSpecifier:
        hint = "write it as PEP 440 has it, such as ==3.11.* or >=3.11,<3.14"
        raise UsageError(f"{python!r} does not say which Python", where="python", hint=hint) from None


def _has_minor(wanted: SpecifierSet, major: int, minor: int) -> bool:
    """Whether a release of Python ``major.minor`` fits, or one that the specifiers name, such as 3.14.0rc1."""
    named = [version for one in wanted if (version := _named(one.version)) and version.release[:2] == (major, minor)]
    versions = [*(Version(f"{major}.{minor}.{patch}") for patch in range(_PATCHES)), *named]
    return any(wanted.contains(version, prereleases=True) for version in versions)


def _named(text: str) -> Version | None:
    try:
        return Version(text.removesuffix(".*"))
    except InvalidVersion:
        return None


def _warn(wanted: SpecifierSet, name: str, release: str) -> None:
    # python==3.11 is how people write 3.11, and no patch release that they would miss.
    if any(re.match(r"\d+\.\d+\.\d", one.version) for one in wanted):
        _log.warning("python %s: the base %s has Python %s, and the image gets that", wanted, name, release)


def _reason(wanted: SpecifierSet) -> str:
    found = [minors for minors in _MINORS if _has_minor(wanted, *minors)]
    if not found:
        return "no Python has a version like this"
    oldest, newest = (".".join(map(str, minors)) for minors in (found[0], found[-1]))
    if found[-1] < OLDEST_PYTHON:
        return (
            f"Python {newest} is too old: the scoring server needs Python {'.'.join(map(str, OLDEST_PYTHON))} or later"
        )
    what = f"Python {oldest}" if len(found) == 1 else f"a Python from {oldest} on" if found[-1] == _MINORS[-1] else (
        f"a Python from {oldest} to {newest}"
    )  # fmt: skip
    return f"there is no recipe of a base with {what}, only with {_choices()}"


def _choices() -> str:
    minors = [".".join(map(str, Version(release).release[:2])) for release in _releases().values()]
    return " and ".join(sorted(minors, key=Version))


def _ways_out(wanted: SpecifierSet, pins: PinCheck | None) -> str:
    minors = sorted({Version(release).release[:2] for release in _releases().values()})
    # The nearest: for an older Python the oldest that there is, for a newer one the newest.
    known = [found for found in _MINORS if _has_minor(wanted, *found)]
    nearest = minors[0] if not known or known[0] < minors[0] else minors[-1]
    python = ".".join(map(str, nearest))
    ways = [f"take Python {python}{_kept(python, pins)}"]
    if not known or known[-1] >= OLDEST_PYTHON:
        ways.append(
            f"give --base an image of your own with that Python, such as docker://python:{_example(known)}-slim"
        )
    else:
        ways.append("give --base an image of your own with Python 3.11 or later")
    ways.append("convert the model and build it without code, where the environment does not matter")
    return f"{'; '.join(ways[:-1])}; or {ways[-1]}"


def _example(known: Sequence[tuple[int, int]]) -> str:
    newer = [found for found in known if found >= OLDEST_PYTHON]
    return ".".join(map(str, newer[0] if newer else OLDEST_PYTHON))


def _kept(python: str, pins: PinCheck | None) -> str:
    """What a Python would keep of the user's requirements, in brackets; nothing where that cannot be found out."""
    if pins is None:
        return ""
    with suppress(EdgepackError):  # no network, for one: the refusal stands without it
        have, lack = pins(python)
        parts = [f"{', '.join(have)} {'have' if len(have) > 1 else 'has'} a release for it"] if have else []
        parts += [f"{', '.join(lack)} {'have' if len(lack) > 1 else 'has'} none"] if lack else []
        return f" ({', '.join(parts)})" if parts else ""
    return ""
