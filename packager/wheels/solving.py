"""What an environment asks as a lock of all wheels of an image: solved once with what the server needs, then kept."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgepack.errors import DigestMismatchError, IncompatibleError, NotFoundError, UsageError, disk_errors
from edgepack.host.files import atomic_write, make_dirs
from packager.layers.secrets import check_written
from packager.wheels.conflicts import Askers
from packager.wheels.locks import SCORING, SCRIPT, Pin, direct_requirements, parse_lock, resolve, shipped_lock
from packager.wheels.requirements import Asked
from packager.wheels.tags import Target

_log = logging.getLogger(__name__)
# Increment when the same question gets another answer than before.
_FORMAT = 1
# So many requirements are asked for one by one; each takes uv a moment.
_MOST_ASKED = 20


@dataclass(frozen=True)
class Solver:
    """Solves for one ``target`` and keeps the locks in the folder ``locks``, a file for each question.

    So a second build a year later gets the same wheels. ``has_script`` says that the server runs a script, and needs
    less itself; ``again`` solves anew what is kept.
    """

    target: Target
    locks: Path
    extras: tuple[str, ...] = ()
    has_script: bool = False
    offline: bool = False
    again: bool = False

    def lock(self, asked: Asked) -> tuple[Pin, ...]:
        """The pins of what is ``asked`` and of what the server and its extras need: one solution of all.

        Where a script is run and its environment does not go with all of the server's packages, those that only models
        without code need give way, and it is said. Raises what ``resolve`` raises, and ``DigestMismatchError`` where no
        file of a package has a hash that the environment names.
        """
        stacks = (SCORING, *sorted(set(self.extras)))
        try:
            pins = self._solved(asked, stacks)
        except UsageError:
            if not self.has_script:
                raise
            pins = self._solved(asked, (SCRIPT, *stacks[1:]))
            _log.warning(
                "the environment does not go with the server's packages for models without code, which are left out: "
                "the image has %s", _versions(pins, direct_requirements(SCORING)),
            )  # fmt: skip
        return tuple(_with_hashes(pins, asked))

    def _solved(self, asked: Asked, stacks: Sequence[str]) -> tuple[Pin, ...]:
        server = [line for stack in stacks for line in direct_requirements(stack)]
        path = self.locks / f"environment-{self._key(asked, server)}.txt"
        if self.again or not path.exists():
            # What images without code have is taken where nothing speaks against it, so that they share its layers.
            shipped = [SCORING if stack == SCRIPT else stack for stack in stacks]
            preferred = "".join(shipped_lock(self.target.platform, self.target.python, one) or "" for one in shipped)
            text = resolve(
                [*server, *asked.requirements], self.target,
                constraints=asked.constraints, preferred=preferred, indexes=asked.indexes, offline=self.offline,
                askers=Askers(tuple(server), asked.requirements, asked.constraints, asked.conda),
            )  # fmt: skip
            with disk_errors(self.locks):
                make_dirs(self.locks)
                check_written(text.encode("ascii"), path, "a lock")
                atomic_write(path, text.encode("ascii"))
        return parse_lock(path.read_text("ascii"), path)

    def _key(self, asked: Asked, server: Sequence[str]) -> str:
        """A hash of the question, the indexes that the environment names among it, and not the folders of wheels."""
        target, indexes = self.target, asked.indexes
        parts = [
            _FORMAT, sorted(asked.requirements), sorted(asked.constraints), sorted(server), indexes.pre,
            [indexes.index_url, *indexes.extra_index_urls], str(target.platform), target.python, target.glibc,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _with_hashes(pins: Sequence[Pin], asked: Asked) -> Iterator[Pin]:
    """The pins with those hashes alone that the environment names, where it names some."""
    for pin in pins:
        named = asked.hashes.get(pin.name)
        if named is None:
            yield pin
            continue
        hashes = tuple(value for value in pin.hashes if value in named)
        if not hashes:
            raise DigestMismatchError(
                f"the package indexes have no file of {pin.name} {pin.version} with a hash that the environment names",
                hint="take the hashes of its wheels from an index that you trust, or leave them out",
            )
        yield replace(pin, hashes=hashes)


def _versions(pins: Sequence[Pin], lines: Sequence[str]) -> str:
    versions = {pin.name: pin.version for pin in pins}
    names = [line.partition(">")[0] for line in lines]
    return ", ".join(f"{name} {versions[name]}" if name in versions else f"no {name}" for name in names)


def released(asked: Asked, target: Target, *, offline: bool = False) -> tuple[list[str], list[str]]:
    """Those of the user's requirements that have a wheel for ``target``, each asked for alone, and those without.

    Raises what ``resolve`` raises where no index answers.
    """
    have: list[str] = []
    lack: list[str] = []
    for line in asked.requirements[:_MOST_ASKED]:
        try:
            resolve([line], target, indexes=asked.indexes, alone=True, offline=offline)
        except (IncompatibleError, NotFoundError, UsageError):
            lack.append(line)
        else:
            have.append(line)
    return have, lack
