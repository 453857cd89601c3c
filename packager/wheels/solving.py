"""What an environment asks as a lock of all wheels of an image: solved once with what the server needs, then kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from edgepack.errors import disk_errors
from edgepack.host.files import atomic_write, make_dirs
from packager.wheels.locks import SCORING, direct_requirements, resolve, shipped_lock
from packager.wheels.requirements import Asked
from packager.wheels.tags import Target

# Increment when the same question gets another answer than before.
_FORMAT = 1


def environment_lock(
    asked: Asked, target: Target, locks: Path, *, extras: Sequence[str] = (), offline: bool = False
) -> str:
    """The lock of what is ``asked`` and of what the server and its ``extras`` need, for ``target``, in one solution.

    It is kept in the folder ``locks``, so that a second build a year later gets the same wheels. Raises what
    ``resolve`` raises.
    """
    stacks = (SCORING, *sorted(set(extras)))
    requirements = [line for stack in stacks for line in direct_requirements(stack)]
    path = locks / f"environment-{_key(asked, target, requirements)}.txt"
    if not path.exists():
        # What images without code have is taken where nothing speaks against it, so that they share its layers.
        preferred = "".join(shipped_lock(target.platform, target.python, stack) or "" for stack in stacks)
        text = resolve(
            [*requirements, *asked.requirements], target,
            constraints=asked.constraints, preferred=preferred, indexes=asked.indexes, offline=offline,
        )  # fmt: skip
        with disk_errors(locks):
            make_dirs(locks)
            atomic_write(path, text.encode("ascii"))
    return path.read_text("ascii")


def _key(asked: Asked, target: Target, requirements: Sequence[str]) -> str:
    """A hash of the question, without what only says where wheels are found."""
    parts = [
        _FORMAT, sorted(asked.requirements), sorted(asked.constraints), sorted(requirements), asked.indexes.pre,
        str(target.platform), target.python, target.glibc,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
