"""What uv and pip say when wheels cannot be had, as one sentence: what conflicts, who asks for it, what to relax.

uv derives that there is no solution from premises, each "X depends on Y", "you require Y", "X has no wheels …" (its
"Resolver internals", "Resolution errors"). Only the premises are read: two that ask for different versions of one
package are the conflict, and the rest is how uv came to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from edgepack.errors import (
    AuthenticationError,
    DigestMismatchError,
    EdgepackError,
    IncompatibleError,
    NoSpaceError,
    NotFoundError,
    UsageError,
)
from edgepack.host.uv import unreachable_index
from packager.wheels.tags import Target

_FETCH = "fetch once with a network, or let pip's index-url or find-links name a reachable folder or index"
_NAME = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?(?:\[[\w,. -]+\])?"
_SPEC = r"(?:(?:==|!=|<=|>=|~=|<|>)[^\s,]+(?:,(?:==|!=|<=|>=|~=|<|>)[^\s,]+)*)?"
_PACKAGE = rf"{_NAME}{_SPEC}"
_PREMISES = re.compile(r"(?:Because|And because) (.+?),? (?:we can conclude|it follows)")
_DEPENDS = re.compile(
    rf"(?:all versions of )?({_PACKAGE}) depends? on "
    rf"(?:one of: ((?:{_PACKAGE} )*?{_PACKAGE})|({_PACKAGE}))(?= and |,? ?$)"
)
_REQUIRE = re.compile(
    rf"you require (?:one of: )?({_PACKAGE}"
    rf"(?: and (?!you require|all versions|only ){_PACKAGE}(?! (?:depends?|has|have|was)\b))*)"
)
_NO_WHEEL = re.compile(
    rf"(?:all versions of )?({_PACKAGE}) (?:has|have) no (?:usable wheels|wheels with a matching ([\w ]+?) tag)"
    rf"|versions of ({_NAME}) have no usable wheels|Because ({_PACKAGE}) has no wheels"
)
_UNKNOWN = re.compile(rf"({_NAME}) was not found in (the cache|the package registry|the provided package locations)")
_NO_VERSION = re.compile(rf"there (?:is|are) no versions? of ({_PACKAGE})")
_ONLY = re.compile(
    rf"only (?:the following versions of {_NAME} are available: )?({_NAME})(\S*)(?: {_PACKAGE})* (?:is|are)? ?available"
)
# uv's hints on what it found in the place of a wheel that fits.
_OTHER_PLATFORMS = re.compile(
    r"Wheels are available for `([^`]+)` \(v[^)]*\) on the following platforms?: ((?:`\w+`,? ?)+)"
)
_OTHER_PYTHONS = re.compile(r"wheels for `([^`]+)` \(v[^)]*\) with the following Python ABI tags?: ((?:`\w+`,? ?)+)")
_NOT_IN_LOCK = re.compile(r"No matching distribution found for ([\w.-]+==[^\s(]+)")
_OTHER_FILE = re.compile(rf"DO NOT MATCH THE HASHES.*? ({_NAME}==\S+) from (?:https?|file):")
_REFUSED = re.compile(r"\b(401|403)\b (?:Unauthorized|Forbidden|Client Error)|\((401|403) ")
# The environment marker of a dependency: ``numpy{python_full_version < '3.14'}>=2``; a solution is for one environment.
_MARKER = re.compile(r"(?<=[\w\]])\{[^{}]*\}")
_ADDRESS = re.compile(r"https?://[^\s`'\")]+")
# Modules whose package has another name on PyPI, where the module's own name has no wheel or nothing at all.
_DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "imblearn": "imbalanced-learn",
    "pil": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
_WAYS = "give its wheel in a folder by --find-links, or build with an engine: edgepack package save"


@dataclass(frozen=True)
class Askers:
    """Who asks for what in one solution: the ``server`` and the ``user``, requirements as pip writes them.

    ``conda`` are the names that come from conda's packages; ``machine`` has the lines of the constraint files of this
    machine's pip or uv, each with its file.
    """

    server: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    conda: frozenset[str] = field(default_factory=frozenset)
    machine: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Claim:
    """``who`` asks for these versions of ``package``; None is a requirement of the whole."""

    who: str | None
    package: str
    spec: str


def explained(said: str, target: Target, askers: Askers | None = None) -> EdgepackError:
    """The error that the message ``said`` of uv or pip means."""
    flat = _MARKER.sub("", " ".join(said.split()))
    askers = askers or Askers()
    if "No space left on device" in flat:
        return NoSpaceError("no space for the wheels", hint="free some space, or let TMPDIR name another disk")
    if refused := _REFUSED.search(flat):
        return _unauthorized(flat, refused[1] or refused[2])
    if (match := _UNKNOWN.search(flat)) is not None and match[2] == "the cache":
        why = _why(match[1], _claims(flat), askers)
        return NotFoundError(f"{match[1]} is in no folder of wheels and not cached{why}", hint=_FETCH)
    # Before the others: uv and pip complain of missing packages too when they could not ask.
    if (index := unreachable_index(flat)) is not None:
        return EdgepackError("no package index is reachable", where=index, hint=_FETCH)
    for reason in (_no_wheel, _unknown, _conflict, _no_version):
        if (error := reason(flat, target, askers)) is not None:
            return error
    if match := _NOT_IN_LOCK.search(flat):
        return IncompatibleError(
            f"{match[1]} has no wheel for {target} that the lock names",
            hint="use a newer base, or make the lock again",
        )
    if "DO NOT MATCH THE HASHES" in flat:
        other = _OTHER_FILE.search(flat)
        return DigestMismatchError(
            f"a package index gave a file{f' of {_plain(other[1])}' if other else ''} that the lock does not name",
            hint="give the file that it names in a folder by --find-links, or make the lock again",
        )
    return EdgepackError(f"the requirements cannot be resolved: {flat[:600]}", hint="change the requirements")


def _unauthorized(flat: str, status: str) -> EdgepackError:
    address = _ADDRESS.search(flat)
    return AuthenticationError(
        f"the package index refuses the credentials, or there are none ({status})",
        where=address[0] if address else None,
        hint="keep them in .netrc or in uv's keyring, or write the address with ${NAME} for a variable",
    )


def _no_wheel(flat: str, target: Target, askers: Askers) -> EdgepackError | None:
    match = _NO_WHEEL.search(flat)
    if match is None:
        return None
    package = match[1] or match[3] or match[4]
    name = _name(package)
    others = [found for pattern in (_OTHER_PLATFORMS, _OTHER_PYTHONS) for found in pattern.findall(flat)]
    tags = next((re.findall(r"\w+", tags) for other, tags in others if _name(other) == name), [])
    has = f", only for {', '.join(tags)}" if tags else ""
    if not tags and "building from source is disabled" in flat:
        has = ", only sources"
    hint = f"use another version of it, another platform or a newer base; {_WAYS}"
    if (meant := _DISTRIBUTIONS.get(name)) is not None:
        hint = f"that is the name of a module; ask for {meant}"
    return IncompatibleError(
        f"{_plain(package)} has no wheel for {target}{has}{_why(name, _claims(flat), askers)}",
        hint=hint,
    )


def _unknown(flat: str, target: Target, askers: Askers) -> EdgepackError | None:
    match = _UNKNOWN.search(flat)
    if match is None:
        return None
    name = match[1]
    why = _why(name, _claims(flat), askers)
    if _name(name) in askers.conda:
        return NotFoundError(
            f"conda package {name} has no package of its name on PyPI, and images are made of wheels",
            hint="list the package that PyPI has in its place below pip, leave it out, or build with an engine on a "
            "base that has conda: edgepack package save",
        )
    hint = "check its name and version"
    if (meant := _DISTRIBUTIONS.get(_name(name))) is not None:
        hint = f"that is the name of a module; ask for {meant}"
    return NotFoundError(f"{name} is in no package index{why}", hint=hint)


def _no_version(flat: str, target: Target, askers: Askers) -> EdgepackError | None:
    if match := _NO_VERSION.search(flat):
        wanted = match[1]
        why = _why(_name(wanted), _claims(flat), askers)
        return NotFoundError(f"{wanted} is in no package index{why}", hint="check its name and version")
    match = _ONLY.search(flat)
    if match is None:
        return None
    wanted = [claim for claim in _claims(flat) if claim.package == _name(match[1])]
    if not wanted:
        return None
    asked = wanted[-1].package + wanted[-1].spec
    return NotFoundError(
        f"{asked} is in no package index, which {_said_of(wanted[-1], askers)} asks for; there is {match[1]}{match[2]}",
        hint="ask for a version that there is",
    )


def _conflict(flat: str, target: Target, askers: Askers) -> EdgepackError | None:
    claims = _claims(flat)
    found: dict[str, list[_Claim]] = {}
    for claim in claims:
        if claim.spec and claim not in found.setdefault(claim.package, []):
            found[claim.package].append(claim)
    both = [(package, of) for package, of in found.items() if len({claim.spec for claim in of}) > 1]
    if not both:
        return None
    # The one on which a requirement of the whole speaks: what is left is how uv came there.
    package, of = next((one for one in both if any(claim.who is None for claim in one[1])), both[-1])
    shown = list(dict.fromkeys(f"{_said_of(claim, askers)} needs {package}{claim.spec}" for claim in of))
    ours = any(claim.who is None and _is_server(claim, askers) for claim in of)
    reasons = [why for claim in of if claim.who and (why := _why(_name(claim.who), claims, askers, known=True))]
    mine = [claim for claim in of if not (claim.who is None and _is_server(claim, askers))]
    return UsageError(
        f"no version of {package} is right for all: {' and '.join(shown)}{''.join(dict.fromkeys(reasons))}",
        hint=_relax(package, of, mine, askers, ours=ours),
    )


def _relax(package: str, of: Sequence[_Claim], mine: Sequence[_Claim], askers: Askers, *, ours: bool) -> str:
    """Which side can give way: never the server's."""
    names = list(dict.fromkeys(_name(claim.who) if claim.who else package for claim in mine))
    if ours:
        needed = next(claim.spec for claim in of if claim.who is None and claim not in mine)
        own = [name for name in names if name != package]
        ways = [f"ask for {package}{needed}, or for any {package}"] if package in names else []
        if own:
            ways.append(f"ask for a release of {' and '.join(own)} that takes {package}{needed}, or for any")
        return f"relax your side, the server's is fixed: {' and '.join(ways)}; or convert the model, and use no script"
    if any(claim.who is None and _machine_file(claim, askers) is not None for claim in of):
        return f"ask for another version of {' or of '.join(names)}, or change that file, which pip config list names"
    if len(names) == 1:
        return f"keep one of the two for {names[0]}"
    return f"relax one side: ask for another version of {' or of '.join(names)}, or for any"


def _claims(flat: str) -> list[_Claim]:
    """What the premises ask for, in their order."""
    return list(_read(flat))


def _read(flat: str) -> Iterator[_Claim]:
    for premises in _PREMISES.findall(flat):
        for found in _DEPENDS.finditer(premises):
            packages = (found[2] or found[3]).split()
            specs = [package[len(_bare(package)) :] for package in packages]
            yield _Claim(_plain(found[1]), _name(packages[0]), " or ".join(specs))
        for required in _REQUIRE.findall(premises):
            for package in required.split(" and "):
                yield _Claim(None, _name(package), package.strip()[len(_bare(package.strip())) :])


def _why(name: str, claims: Sequence[_Claim], askers: Askers, *, known: bool = False) -> str:
    """How the package came in, where the user does not name it: ``", which a asks for"``."""
    user = {_name(line) for line in askers.user}
    chain: list[str] = []
    at = _name(name)
    while at not in user and len(chain) < len(claims):
        above = next((claim.who for claim in claims if claim.who and claim.package == at), None)
        if above is None or above in chain:
            break
        chain.append(above)
        at = _name(above)
    return f" ({_plain(name)} comes with {', which comes with '.join(chain)})" if chain else ""


def _said_of(claim: _Claim, askers: Askers) -> str:
    if claim.who is not None:
        return claim.who
    if _is_server(claim, askers):
        return "the scoring server"
    if any(_same(claim, line) for line in askers.constraints) and not any(_same(claim, line) for line in askers.user):
        return "a constraint"
    if (file := _machine_file(claim, askers)) is not None:
        return f"this machine's constraint file {file}"
    return "your environment"


def _machine_file(claim: _Claim, askers: Askers) -> str | None:
    """The constraint file of this machine that asks for it, where the user does not."""
    if any(_same(claim, line) for line in askers.user):
        return None
    return next((file for line, file in askers.machine if _same(claim, line)), None)


def _is_server(claim: _Claim, askers: Askers) -> bool:
    return any(_same(claim, line) for line in askers.server) and not any(_same(claim, line) for line in askers.user)


def _same(claim: _Claim, line: str) -> bool:
    """Whether the requirement ``line`` asks for what the claim does."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        asked = Requirement(line)
        return _name(asked.name) == claim.package and asked.specifier == SpecifierSet(claim.spec)
    except (InvalidRequirement, InvalidSpecifier):
        return False


def _bare(package: str) -> str:
    """A package without its versions, as it is written."""
    return re.split(r"[=!<>~]", package, maxsplit=1)[0]


def _name(package: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\s=!<>~\[;@(]", package.strip(), maxsplit=1)[0]).lower()


def _plain(package: str) -> str:
    """A package as a person says it: ``pandas 1.0.5``."""
    return re.sub(r"==([^,*]+)$", r" \1", package)
