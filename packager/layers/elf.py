"""What a compiled file needs and offers, as its dynamic section says: libraries, and versions of their symbols.

The dynamic section is found by the program headers, as the system's loader does it, so that a file without section
headers is read too. Specification: System V gABI, "Program Loading"; Linux Standard Base, "Symbol Versioning".
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAGIC = b"\x7fELF"
# e_machine, by the name that platforms have.
_MACHINES = {62: "amd64", 183: "arm64", 40: "arm", 3: "386", 243: "riscv64", 21: "ppc64le", 22: "s390x"}
_EXECUTABLE, _SHARED_OBJECT = 2, 3
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRTAB, _STRSZ, _SONAME = 1, 5, 10, 14
_VERDEF, _VERDEFNUM, _VERNEED, _VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
_IS_BASE, _IS_WEAK = 1, 2
# More than any file has; what says more is damaged, and must not take long to read.
_MOST = 10_000


@dataclass(frozen=True)
class Elf:
    """A program or shared object. ``machine`` is an architecture such as ``amd64``; None for one that is not known.

    ``versions`` has the versions of symbols that it needs of each library, ``provides`` those that it has itself.
    """

    machine: str | None
    soname: str = ""
    needed: tuple[str, ...] = ()
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    provides: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """It as a JSON object."""
        return {
            "machine": self.machine,
            "soname": self.soname,
            "needed": list(self.needed),
            "versions": {name: list(found) for name, found in self.versions.items()},
            "provides": list(self.provides),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Elf:
        """What ``to_json`` wrote; for another value ``KeyError``, ``TypeError`` or ``AttributeError``."""
        versions = {str(name): tuple(map(str, found)) for name, found in value["versions"].items()}
        machine = value["machine"]
        return cls(
            None if machine is None else str(machine), str(value["soname"]), tuple(map(str, value["needed"])), versions,
            tuple(map(str, value["provides"])),
        )  # fmt: skip


def machine_of(data: bytes) -> str | None:
    """The architecture of the program or library that begins with ``data``; None for another file."""
    if len(data) < 20 or data[:4] != MAGIC:
        return None
    return _MACHINES.get(int.from_bytes(data[18:20], "little" if data[5] == 1 else "big"))


def read_elf(data: bytes | mmap.mmap) -> Elf | None:
    """What the file ``data`` needs and offers; None for one that no loader loads: object files, and other files.

    Of a file that is cut short or damaged only the machine is known.
    """
    if len(data) < 20 or data[:4] != MAGIC or data[4] not in (1, 2) or data[5] not in (1, 2):
        return None
    order = "<" if data[5] == 1 else ">"
    if struct.unpack_from(f"{order}H", data, 16)[0] not in (_EXECUTABLE, _SHARED_OBJECT):
        return None
    machine = machine_of(data[:20])
    try:
        return _Reader(data, order, wide=data[4] == 2).elf(machine)
    except (struct.error, ValueError):
        return Elf(machine)


class _Reader:
    """Reads one file; raises ``struct.error`` or ``ValueError`` where it is damaged."""

    def __init__(self, data: bytes | mmap.mmap, order: str, *, wide: bool) -> None:
        self._data = data
        self._order = order
        self._wide = wide
        self._segments = list(self._read_segments())

    def elf(self, machine: str | None) -> Elf:
        entries = list(self._dynamic())
        values = dict(entries)
        if _STRTAB not in values:
            return Elf(machine)
        start = self._offset(values[_STRTAB])
        self._strings = (start, start + values.get(_STRSZ, 0))
        return Elf(
            machine,
            self._text(values[_SONAME]) if _SONAME in values else "",
            tuple(self._text(value) for tag, value in entries if tag == _NEEDED),
            self._needs(values),
            tuple(self._provides(values)),
        )

    def _unpack(self, form: str, offset: int) -> tuple[int, ...]:
        if offset < 0:
            raise ValueError("before the beginning")
        return struct.unpack_from(self._order + form, self._data, offset)

    def _read_segments(self) -> Iterator[tuple[int, int, int, int]]:
        """The type, offset, address and size in the file of each segment."""
        if self._wide:
            (at,) = self._unpack("Q", 32)
            size, count = self._unpack("HH", 54)
        else:
            (at,) = self._unpack("I", 28)
            size, count = self._unpack("HH", 42)
        for place in range(at, at + size * min(count, _MOST), max(size, 1)):
            if self._wide:
                kind, _, offset, address, _, length = self._unpack("IIQQQQ", place)
            else:
                kind, offset, address, _, length = self._unpack("IIIII", place)
            yield kind, offset, address, length

    def _offset(self, address: int) -> int:
        for kind, offset, start, length in self._segments:
            if kind == _LOAD and start <= address < start + length:
                return offset + address - start
        raise ValueError("an address that no segment has")

    def _dynamic(self) -> Iterator[tuple[int, int]]:
        form, size = ("QQ", 16) if self._wide else ("II", 8)
        for kind, offset, _, length in self._segments:
            if kind == _DYNAMIC:
                for place in range(offset, offset + min(length, _MOST * size), size):
                    tag, value = self._unpack(form, place)
                    if tag == 0:
                        return
                    yield tag, value

    def _text(self, offset: int) -> str:
        start, end = self._strings
        found = self._data[start + offset : min(end, start + offset + 4096)]
        return bytes(found).partition(b"\0")[0].decode("utf-8", "replace")

    def _needs(self, values: Mapping[int, int]) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for place in self._chain(values, _VERNEED, _VERNEEDNUM, link=12):
            _, count, name, first = self._unpack("HHII", place)
            versions, at = [], place + first
            for _ in range(min(count, _MOST)):
                _, flags, _, text, following = self._unpack("IHHII", at)
                if not flags & _IS_WEAK:
                    versions.append(self._text(text))
                at += following
            library = self._text(name)
            found[library] = (*found.get(library, ()), *versions)
        return found

    def _provides(self, values: Mapping[int, int]) -> Iterator[str]:
        for place in self._chain(values, _VERDEF, _VERDEFNUM, link=16):
            _, flags, _, _, _, first = self._unpack("HHHHII", place)
            if not flags & _IS_BASE:
                yield self._text(self._unpack("I", place + first)[0])

    def _chain(self, values: Mapping[int, int], start: int, count: int, link: int) -> Iterator[int]:
        """Where the records of a table are, each of which says at ``link`` how far the next one is."""
        if start not in values:
            return
        place = self._offset(values[start])
        for _ in range(min(values.get(count, 0), _MOST)):
            yield place
            (following,) = self._unpack("I", place + link)
            if following == 0:
                return
            place += following


def newest(versions: Sequence[str]) -> str:
    """Of versions such as ``GLIBC_2.34`` the highest."""
    return max(versions, key=lambda text: (tuple(map(int, _digits(text))), text))


def _digits(version: str) -> list[str]:
    return [part for part in version.rpartition("_")[2].split(".") if part.isdecimal()]
