"""Which wheels run on a base: platform tags, glibc, Python (PEP 425, PEP 600)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from edgepack.errors import IncompatibleError
from edgepack.oci.descriptor import Platform

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "arm": "armv7l"}
# For which onnxruntime and numpy have wheels in the package index.
_PUBLISHED = ("linux/amd64", "linux/arm64")
# For which a user may have wheels; this one's carry the tag that no index but its own takes.
_OF_USERS = ("linux/arm/v7",)
# PEP 600: the names that were given before glibc's version stood in the tag.
_LEGACY = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
_OLDEST = {"x86_64": 5, "aarch64": 17, "armv7l": 17}
_MANYLINUX = re.compile(r"manylinux_(\d+)_(\d+)_(\w+)")


def machine_of(platform: Platform) -> str:
    """The processor of ``platform`` as wheels and markers name it."""
    return _MACHINES[platform.architecture]


@dataclass(frozen=True)
class Target:
    """What wheels must fit: a platform, a Python such as ``3.11``, and the glibc of the base, such as ``2.36``.

    ``has_wheelhouse`` says that all wheels come from a user's lock and folders. Raises ``IncompatibleError`` for a
    platform that has no wheels: ``linux/arm/v7`` without such.
    """

    platform: Platform
    python: str = "3.11"
    glibc: str = "2.36"
    has_wheelhouse: bool = False

    def __post_init__(self) -> None:
        name = str(self.platform)
        if name not in _PUBLISHED and not (self.has_wheelhouse and name in _OF_USERS):
            hint = f"build for {' or '.join(_PUBLISHED)}"
            if name in _OF_USERS:
                hint += (
                    ", or bring all wheels of your own: --lock FILE that names them, --find-links DIR that has them, "
                    "and --base with an image for it"
                )
            raise IncompatibleError(f"there are no wheels of onnxruntime and numpy for {name}", hint=hint)

    def __str__(self) -> str:
        return f"{self.platform} with Python {self.python} and glibc {self.glibc}"

    @property
    def machine(self) -> str:
        """The processor as wheels name it."""
        return machine_of(self.platform)

    @property
    def glibc_version(self) -> tuple[int, int]:
        """The glibc as numbers."""
        major, minor = self.glibc.split(".")[:2]
        return int(major), int(minor)

    @property
    def python_tag(self) -> str:
        """Such as ``cp311``."""
        return "cp" + self.python.replace(".", "")

    def platform_tags(self) -> tuple[str, ...]:
        """Every manylinux tag that runs here, the most specific first."""
        found = []
        major, newest = self.glibc_version
        for minor in range(newest, _OLDEST[self.machine] - 1, -1):
            found.append(f"manylinux_{major}_{minor}_{self.machine}")
            if (major, minor) in _LEGACY:
                found.append(f"{_LEGACY[major, minor]}_{self.machine}")
        # Without a promise about glibc, as wheels are that a user built on such a machine.
        return (*found, f"linux_{self.machine}") if str(self.platform) in _OF_USERS else tuple(found)

    @cached_property
    def ranks(self) -> dict[str, int]:
        """The rank of every tag that runs here; lower is more specific."""
        from packaging.tags import compatible_tags, cpython_tags

        major, minor = (int(part) for part in self.python.split("."))
        tag, platforms = self.python_tag, self.platform_tags()
        listing = [
            *cpython_tags((major, minor), abis=[tag], platforms=platforms),
            *compatible_tags((major, minor), interpreter=tag, platforms=platforms),
        ]
        return {str(found): rank for rank, found in reversed(list(enumerate(listing)))}

    def rank(self, tags: Iterable[str]) -> int | None:
        """The rank of the best of a wheel's ``tags``; ``None`` when it does not run here."""
        return min((self.ranks[tag] for tag in tags if tag in self.ranks), default=None)

    def check(self, filename: str, tags: Iterable[str]) -> None:
        """Raise ``IncompatibleError``, saying why, unless a wheel with these tags runs here."""
        known = sorted(tags)
        if self.rank(known) is not None:
            return
        needed = [
            (int(match[1]), int(match[2]))
            for tag in known
            for match in _MANYLINUX.finditer(tag)
            if match[3] == self.machine
        ]
        if needed and min(needed) > self.glibc_version:
            least = ".".join(map(str, min(needed)))
            raise IncompatibleError(
                f"needs glibc {least}, and the base has {self.glibc}", where=filename, hint="use a newer base"
            )
        raise IncompatibleError(
            f"does not run on {self}",
            where=filename,
            hint="resolve the requirements for that platform",
        )
