"""The wheels that serve a model without code: the shipped lock, or one resolved once and kept in the workspace."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from edgepack.errors import UsageError
from edgepack.host.console import human
from edgepack.host.files import atomic_write, make_dirs
from edgepack.host.progress import Progress, unseen
from edgepack.oci.descriptor import Platform
from packager.bases.facts import CheckedFacts
from packager.layers.secrets import check_written
from packager.wheels.cache import Wheel, WheelCache
from packager.wheels.groups import WheelGroup
from packager.wheels.layers import group_wheels
from packager.wheels.listing import listing_of
from packager.wheels.lock_files import lacking_of, read_lock
from packager.wheels.locks import EXTRAS, SCORING, SCRIPT, Pin, direct_requirements, parse_lock, resolve, shipped_lock
from packager.wheels.requirements import Asked
from packager.wheels.solving import Solver
from packager.wheels.tags import Target
from packager.wheels.trim import TrimRule

_log = logging.getLogger(__name__)


def scoring_wheels(
    facts: CheckedFacts,
    platform: Platform,
    rules: Sequence[TrimRule],
    wheels: WheelCache,
    locks: Path,
    *,
    offline: bool = False,
    extras: Sequence[str] = (),
    progress: Progress = unseen,
) -> tuple[WheelGroup, ...]:
    """The wheels of the scoring stack and of ``extras`` that fit a base with ``facts``, grouped as layers.

    A lock that had to be resolved is kept in the folder ``locks``. Raises ``UsageError`` for an extra that there is
    not, ``IncompatibleError`` naming a wheel that does not exist for ``platform``, or that needs a newer glibc.
    """
    target = Target(platform, facts.python_version, facts.glibc)
    pins: dict[str, Pin] = {}
    for stack in (SCORING, *sorted(set(check_extras(extras)))):
        for pin in parse_lock(_lock(target, locks, offline, stack, progress), f"lock of {stack}"):
            # The scoring stack decides: what an extra needs of it is there in its version.
            pins.setdefault(pin.name, pin)
    return group_wheels(wheels.get(tuple(pins.values()), target, offline=offline, progress=progress), rules)


def environment_wheels(
    asked: Asked,
    facts: CheckedFacts,
    platform: Platform,
    rules: Sequence[TrimRule],
    wheels: WheelCache,
    locks: Path,
    *,
    has_script: bool = False,
    offline: bool = False,
    extras: Sequence[str] = (),
    again: bool = False,
    progress: Progress = unseen,
) -> tuple[WheelGroup, ...]:
    """The wheels of what is ``asked`` and of the scoring stack that fit a base with ``facts``, grouped as layers.

    ``has_script`` says that a script opens the models, ``again`` solves anew what is kept. Raises what ``Solver.lock``
    and ``WheelCache.get`` raise.
    """
    target = Target(platform, facts.python_version, facts.glibc)
    asked.indexes.check()
    solver = Solver(target, locks, tuple(check_extras(extras)), has_script, offline, again)
    with progress(f"lock the packages for {platform}", 0, "none"):
        pins = solver.lock(asked)
    found = wheels.get(pins, target, indexes=asked.indexes, offline=offline, progress=progress)
    _note_graphics(found)
    return group_wheels(found, rules, asked.names)


def _note_graphics(wheels: Iterable[Wheel]) -> None:
    """Say that an image gets gigabytes of libraries for graphics processors, which nobody asked for by name."""
    listing = [wheel for wheel in wheels if wheel.name.startswith(("nvidia-", "triton"))]
    if listing:
        which = "a package comes along" if len(listing) == 1 else f"{len(listing)} packages come along"
        _log.warning(
            "%s for graphics processors, %s of wheels; where the CPU calculates, ask for builds without them, such as "
            "xgboost-cpu in place of xgboost, or torch of the index https://download.pytorch.org/whl/cpu",
            which, human(sum(wheel.size for wheel in listing)),
        )  # fmt: skip


def locked_wheels(
    lock: Path,
    asked: Asked,
    facts: CheckedFacts,
    platform: Platform,
    rules: Sequence[TrimRule],
    wheels: WheelCache,
    locks: Path,
    *,
    has_script: bool = False,
    offline: bool = False,
    extras: Sequence[str] = (),
    progress: Progress = unseen,
) -> tuple[WheelGroup, ...]:
    """The wheels of the file ``lock``; what is ``asked`` must be in it.

    Where it lacks what the server needs, that is solved for with all of its versions fixed. Raises ``UsageError`` for a
    lock that is not of what is asked, and what ``read_lock``, ``Solver.lock`` and ``WheelCache.get`` raise.
    """
    target = Target(platform, facts.python_version, facts.glibc, has_wheelhouse=True)
    asked.indexes.check()
    pins = read_lock(lock, target)
    if lacking := lacking_of(pins, (*asked.requirements, *asked.constraints), target, required=asked.names):
        raise UsageError(
            f"is not of this environment: {'; '.join(lacking)}", where=lock,
            hint="write it again by --write-lock, without --lock",
        )  # fmt: skip
    stacks = (SCRIPT if has_script else SCORING, *sorted(set(check_extras(extras))))
    server = [line for stack in stacks for line in direct_requirements(stack)]
    requested = asked.names or {pin.name for pin in pins}
    if lacking_of(pins, server, target, required={line.partition(">")[0] for line in server}):
        fixed = replace(
            asked, requirements=tuple(f"{pin.name}=={pin.version}" for pin in pins), constraints=(),
            hashes={pin.name: frozenset(pin.hashes) for pin in pins},
        )  # fmt: skip
        with progress(f"lock the packages for {platform}", 0, "none"):
            pins = Solver(target, locks, tuple(extras), has_script, offline).lock(fixed)
    found = wheels.get(pins, target, indexes=asked.indexes, offline=offline, progress=progress)
    return group_wheels(found, rules, requested)


def lock_of(groups: Iterable[WheelGroup]) -> str:
    """The lock of exactly these wheels, by name: pip's form, the one hash of each."""
    wheels = sorted((wheel for group in groups for wheel in group.wheels), key=lambda wheel: wheel.name)
    return "".join(Pin(wheel.name, wheel.version, (wheel.digest.hex,)).line() for wheel in wheels)


def check_extras(extras: Sequence[str]) -> Sequence[str]:
    """``extras`` when an image can have them; raises ``UsageError``."""
    if unknown := sorted(set(extras).difference(EXTRAS)):
        raise UsageError(
            f"{', '.join(unknown)} cannot be added to an image",
            where="--extra",
            hint=f"choose from {', '.join(EXTRAS)}",
        )
    return extras


def _lock(target: Target, locks: Path, offline: bool, stack: str, progress: Progress) -> str:
    shipped = shipped_lock(target.platform, target.python, stack)
    if shipped is not None:
        return shipped
    # Kept, so that a second build a year later gets the same wheels.
    name = f"{stack}-{target.python_tag}-{str(target.platform).replace('/', '-')}-glibc{target.glibc}.txt"
    path = locks / name
    if not path.exists():
        with progress(f"lock the packages for {target.platform}", 0, "none"):
            text = resolve(direct_requirements(stack), target, offline=offline)
        make_dirs(path.parent)
        check_written(text.encode("ascii"), path, "a lock")
        atomic_write(path, text.encode())
    return path.read_text("ascii")


def modules_of(groups: Iterable[WheelGroup]) -> frozenset[str]:
    """The modules and packages of these wheels, as they are imported; inner ones by their dotted names."""
    return frozenset().union(*(listing_of(wheel).modules for group in groups for wheel in group.wheels))
