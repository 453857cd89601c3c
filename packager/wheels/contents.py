"""One wheel as the entries of a layer, installed by PyPA ``installer`` without touching the disk.

The source is the wheel without what the rules trim; the destination collects. Files are read once, while the layer is
written, and checked against the wheel's RECORD as they pass. Specification: binary distribution format, and recording
installed projects.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import posixpath
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, BinaryIO

import installer
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import Hash, InvalidRecordEntry, RecordEntry, parse_record_file
from installer.scripts import Script
from installer.sources import WheelContentElement, WheelFile
from installer.utils import Scheme, fix_shebang

from edgepack.errors import DigestMismatchError, UnsafeArchiveError, VerificationError
from edgepack.oci.layer import LayerEntry
from packager.layers.bytecode import compile_sources, compiled_path
from packager.wheels.symbols import without_symbols
from packager.wheels.trim import TrimRule, file_rules
from packager.wheels.without_bytecode import is_compiled

if TYPE_CHECKING:
    import os

    from installer.scripts import ScriptSection

    from packager.layers.compiler import Compiler
    from packager.wheels.cache import Wheel
    from packager.wheels.settings import LayerSettings

# What installers write themselves; a wheel's own would be untrue here, and signatures do not cover our RECORD.
_NOT_TAKEN = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD.jws", "RECORD.p7s")
# What zipfile raises for an archive that is cut or altered.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
_NO_RECORD = RecordEntry("-", None, None)


@contextmanager
def wheel_entries(wheel: Wheel, settings: LayerSettings) -> Iterator[list[LayerEntry]]:
    """The entries that ``wheel`` puts into a layer; their contents can be read while the context is open.

    Reading a content to its end raises ``DigestMismatchError`` when it is not what the wheel's RECORD says. Raises
    ``UnsafeArchiveError`` for names and links that climb, ``VerificationError`` for a wheel that breaks the format.
    """
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            source = _TrimmedWheel(archive, file_rules(settings.rules, wheel.name))
            destination = _LayerDestination(settings, source)
            installer.install(source, destination, {"INSTALLER": b"edgepack\n"})
            yield destination.entries()
    # The format's own breaches come as these from installer and zipfile, which check by assert in places.
    except (InstallerError, InvalidRecordEntry, *_BROKEN, AssertionError, KeyError, ValueError) as error:
        raise VerificationError(f"is not a valid wheel ({error!s:.200})", where=wheel.filename) from error


class _Member(io.BytesIO):
    """A file of the wheel, opened when it is first read, that must end as RECORD says."""

    def __init__(self, archive: zipfile.ZipFile, item: zipfile.ZipInfo, wanted: Hash, where: str) -> None:
        super().__init__()
        self._archive, self._item, self.wanted, self._where = archive, item, wanted, where
        self._file: IO[bytes] | None = None
        self._hash = hashlib.new(wanted.name)

    @property
    def size(self) -> int:
        """The bytes of the file."""
        return self._item.file_size

    def again(self) -> _Member:
        """The same file from its beginning."""
        return _Member(self._archive, self._item, self.wanted, self._where)

    def cut(self) -> io.BytesIO:
        """The same file without its symbols."""
        return io.BytesIO(without_symbols(self.again().read()))

    def read(self, size: int | None = -1) -> bytes:
        """Read at most ``size`` bytes; raises ``DigestMismatchError`` at the end of another file than RECORD's."""
        if self._file is None:
            self._file = self._archive.open(self._item)
        amount = -1 if size is None else size
        data = self._file.read(amount)
        self._hash.update(data)
        if amount < 0 or (amount and not data):
            self._check()
        return data

    def _check(self) -> None:
        if self.wanted.value.rstrip("=") != _encoded(self._hash.digest()):
            raise DigestMismatchError(
                f"{self._item.filename} is not what the wheel's RECORD says", where=self._where, hint="fetch it again"
            )

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        super().close()


class _TrimmedWheel(WheelFile):
    """A wheel without what ``rules`` leave out."""

    def __init__(self, archive: zipfile.ZipFile, rules: Sequence[TrimRule]) -> None:
        super().__init__(archive)
        self._archive = archive
        self._where = str(archive.filename).rpartition("/")[2]
        self._rules = rules
        self.trimmed: set[str] = set()
        seen: set[str] = set()
        for item in archive.infolist():
            name = item.filename.removesuffix("/")
            self._check_name(item, name, seen)
            if any(rule.leaves_out(name) for rule in rules):
                self.trimmed.add(name)

    def _check_name(self, item: zipfile.ZipInfo, name: str, seen: set[str]) -> None:
        # orig_filename: zipfile cuts a name at its first NUL.
        if (
            not name or name.startswith("/") or "\\" in item.orig_filename or "\0" in item.orig_filename
            or posixpath.normpath(name) != name or ".." in name.split("/")
        ):  # fmt: skip
            raise UnsafeArchiveError(f"{item.orig_filename!r} is not a valid file name", where=self._where)
        if name in seen:
            raise UnsafeArchiveError(f"{name} is listed twice", where=self._where)
        if stat.S_ISLNK(item.external_attr >> 16):
            raise UnsafeArchiveError(f"{name} is a link", where=self._where)
        seen.add(name)

    def get_contents(self) -> Iterator[WheelContentElement]:
        """The files that stay, with their RECORD, unread."""
        listed = {row[0]: row for row in parse_record_file(self.read_dist_info("RECORD").splitlines())}
        own = {f"{self.dist_info_dir}/{name}" for name in ("RECORD", *_NOT_TAKEN)}
        for item in self._archive.infolist():
            name = item.filename
            if name.endswith("/") or name in self.trimmed or name in own or "__pycache__" in name.split("/"):
                continue
            if name not in listed:
                raise VerificationError(f"{name} is not in the wheel's RECORD", where=self._where)
            record = RecordEntry.from_elements(*listed[name])
            if (
                record.hash_ is None
                or record.hash_.name in ("md5", "sha1")
                or record.size not in (None, item.file_size)
            ):
                raise VerificationError(f"the wheel's RECORD is wrong about {name}", where=self._where)
            mode = item.external_attr >> 16
            member = _Member(self._archive, item, record.hash_, self._where)
            if not item.file_size:
                member.read()  # nobody reads an empty file later on
            yield listed[name], member, bool(stat.S_ISREG(mode) and mode & 0o111)

    def is_cut(self, path: str) -> bool:
        """Whether the file ``path`` stays without its symbols."""
        return any(rule.cuts(path) for rule in self._rules)

    def has_lost(self, module: str) -> bool:
        """Whether ``module`` is among what was trimmed."""
        path = module.replace(".", "/")
        return bool(self.trimmed & {f"{path}.py", f"{path}/__init__.py"})


@dataclass(frozen=True)
class _File:
    """A collected file; ``digest`` is its SHA-256 as RECORD writes it."""

    entry: LayerEntry
    digest: str
    source: bytes | None = None

    @classmethod
    def of_bytes(cls, path: str, data: bytes, mode: int = 0o644) -> _File:
        return cls(LayerEntry.of_bytes(path, data, mode), _sha256(data), data)


class _LayerDestination(WheelDestination):
    """Collects what a wheel installs, below the prefix."""

    def __init__(self, settings: LayerSettings, source: _TrimmedWheel) -> None:
        self._settings = settings
        self._source = source
        self._files: dict[str, _File] = {}
        self._site = settings.site_packages
        prefix = settings.prefix.strip("/")
        # "Installed paths" of sysconfig's posix_prefix scheme.
        self._folders = {
            "purelib": self._site,
            "platlib": self._site,
            "scripts": f"{prefix}/bin",
            "data": prefix,
            "headers": f"{prefix}/include/python{settings.python}/{source.distribution}",
        }

    def entries(self) -> list[LayerEntry]:
        """What was collected."""
        return [file.entry for file in self._files.values()]

    def write_script(self, name: str, module: str, attr: str, section: ScriptSection) -> RecordEntry:
        """Collect the script of an entry point, unless its module was trimmed."""
        if self._source.has_lost(module):
            return _NO_RECORD
        if "/" in name or name in ("", ".", ".."):
            raise UnsafeArchiveError(f"{name!r} is not a valid script name", where=self._source.distribution)
        file_name, data = Script(name, module, attr, section).generate(self._settings.interpreter, "posix")
        return self._collect(_File.of_bytes(f"{self._folders['scripts']}/{file_name}", data, 0o755))

    def write_file(
        self, scheme: Scheme, path: str | os.PathLike[str], stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        """Collect a file of the wheel; only scripts and modules are read now, Python's and compiled ones."""
        where = f"{self._folders[scheme]}/{path}"
        mode = 0o755 if is_executable or scheme == "scripts" else 0o644
        if scheme == "scripts":
            with fix_shebang(io.BytesIO(stream.read()), self._settings.interpreter) as fixed:
                return self._collect(_File.of_bytes(where, fixed.read(), mode))
        if isinstance(stream, _Member) and self._source.is_cut(where):
            # Made again when it is written: all modules of a large wheel would not fit in memory.
            kept = without_symbols(stream.read())
            if len(kept) < stream.size:
                entry = LayerEntry(where, "file", mode, len(kept), content=stream.again().cut)
                return self._collect(_File(entry, _sha256(kept)))
            stream = stream.again()
        if not isinstance(stream, _Member) or where.endswith(".py") or stream.wanted.name != "sha256":
            return self._collect(_File.of_bytes(where, stream.read(), mode))
        entry = LayerEntry(where, "file", mode, stream.size, content=stream.again)
        return self._collect(_File(entry, stream.wanted.value.rstrip("=")))

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        """Add the bytecode, and a RECORD that is true for what was collected."""
        if self._settings.maker is not None:
            self._compile(self._settings.maker)
        path = f"{self._folders[scheme]}/{record_file_path}"
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        for name in sorted(self._files):
            file = self._files[name]
            writer.writerow((posixpath.relpath(name, self._site), f"sha256={file.digest}", file.entry.size))
        writer.writerow((record_file_path, "", ""))
        self._collect(_File.of_bytes(path, text.getvalue().encode()))

    def _compile(self, maker: Compiler) -> None:
        modules = [
            (name.removeprefix(f"{self._site}/"), file.source)
            for name, file in sorted(self._files.items())
            if name.startswith(f"{self._site}/") and file.source is not None
        ]
        chosen = [(name, source) for name, source in modules if is_compiled(name)]
        compiled = compile_sources(((f"/{self._site}/{name}", source) for name, source in chosen), maker.command)
        for (name, _), data in zip(chosen, compiled, strict=True):
            if data is not None:
                self._collect(_File.of_bytes(f"{self._site}/{compiled_path(name, self._settings.python)}", data))

    def _collect(self, file: _File) -> RecordEntry:
        if file.entry.path in self._files:
            raise UnsafeArchiveError(f"{file.entry.path} is installed twice", where=self._source.distribution)
        self._files[file.entry.path] = file
        return _NO_RECORD


def _sha256(data: bytes) -> str:
    return _encoded(hashlib.sha256(data).digest())


def _encoded(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")
