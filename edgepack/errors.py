"""The one tree of errors.

::

    EdgepackError                    1  failed
    ├── UsageError                   2  wrong usage or input
    │   ├── InvalidReferenceError    2  a name, digest, platform or reference that cannot be parsed
    │   └── InvalidDocumentError     2  a file whose fields are wrong; lists every violation
    ├── NotFoundError                3  a file, tag, blob, model or service that does not exist
    │   └── MissingPartsError        3  a bundle of which parts are not there
    ├── VerificationError            4  content that is not what was signed or named
    │   ├── DigestMismatchError      4  bytes that do not hash to their name
    │   ├── SizeMismatchError        4  more or fewer bytes than its descriptor says
    │   │   └── CutShortError        4  an input that ends before what it announced
    │   ├── BadPartsError            4  a bundle of which parts are altered or cut short
    │   ├── TooLargeError            4  more bytes than are read into memory
    │   ├── UnsafeArchiveError       4  a path, link or node that must not be unpacked
    │   ├── UnsafePermissionsError   4  a file or folder that another user could change
    │   └── SignatureError           4  no signature, or none by a trusted key
    │       └── UntrustedKeyError    4  signed, and by no key that is trusted here
    ├── NoSpaceError                 1  the disk is full, or would be
    ├── MissingPartError             1  a program or package that the job needs is not installed
    ├── IncompatibleError            1  parts that do not fit: wheel, glibc, architecture, Python
    ├── ConversionError              1  a model that cannot be converted, or not faithfully
    ├── RuntimeFailedError           1  a container or process that does not start or stay healthy
    └── RegistryError                1  an image registry that refuses or fails
        ├── AuthenticationError      1  401 or 403
        ├── NoRepositoryError        3  404 for a repository that is to be pushed to
        └── RegistryUnavailableError 1  429, 5xx, or no connection

Each carries what is wrong, where, and what to do; ``str()`` joins the three in one sentence.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class EdgepackError(Exception):
    """Something that a user can act on.

    ``what`` says what is wrong, ``where`` names the file, reference or field, ``hint`` says what to do.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object | None = None, hint: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return text if self.hint is None else f"{text}; {self.hint}"


class UsageError(EdgepackError):
    """Wrong usage or input."""

    exit_code = 2


class InvalidReferenceError(UsageError):
    """A name, digest, platform or reference that cannot be parsed."""


class InvalidDocumentError(UsageError):
    """A document whose fields are wrong; ``violations`` holds all of them."""

    def __init__(self, where: object, violations: Sequence[str], *, hint: str | None = None) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(self.violations), where=where, hint=hint)


class NotFoundError(EdgepackError):
    """Something named does not exist."""

    exit_code = 3


class MissingPartsError(NotFoundError):
    """Parts of a bundle are not there; ``wanted`` is the document that asks for them."""

    def __init__(self, what: str, *, wanted: bytes, where: object | None = None, hint: str | None = None) -> None:
        self.wanted = wanted
        super().__init__(what, where=where, hint=hint)


class VerificationError(EdgepackError):
    """Content that is not what was signed or named."""

    exit_code = 4


class DigestMismatchError(VerificationError):
    """Bytes that do not hash to their name."""


class SizeMismatchError(VerificationError):
    """More or fewer bytes than its descriptor says."""


class CutShortError(SizeMismatchError):
    """An input that ends before what it announced; what came of it until then may be good."""


class BadPartsError(VerificationError):
    """Parts of a bundle are altered or cut short; ``wanted`` is the document that asks for what to bring."""

    def __init__(self, what: str, *, wanted: bytes, where: object | None = None, hint: str | None = None) -> None:
        self.wanted = wanted
        super().__init__(what, where=where, hint=hint)


class TooLargeError(VerificationError):
    """More bytes than are read into memory: a document, or what a registry answers."""


class UnsafeArchiveError(VerificationError):
    """A path, link or node that must not be unpacked."""


class UnsafePermissionsError(VerificationError):
    """A file or folder that another user could change, so that nothing is taken from it."""


class SignatureError(VerificationError):
    """No signature, or none by a trusted key."""


class UntrustedKeyError(SignatureError):
    """Signed, and by no key that is trusted here."""


class NoSpaceError(EdgepackError):
    """The disk is full, or would be."""


class MissingPartError(EdgepackError):
    """A program or package that the job needs is not installed."""


class IncompatibleError(EdgepackError):
    """Parts that do not fit together."""


class ConversionError(EdgepackError):
    """A model that cannot be converted, or not faithfully; ``report`` is a file with all that was tried, if any."""

    def __init__(
        self, what: str, *, where: object | None = None, hint: str | None = None, report: Path | None = None
    ) -> None:
        self.report = report
        super().__init__(what, where=where, hint=hint)

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.report is None else f"{text}; every way that was tried is in {self.report}"


class RuntimeFailedError(EdgepackError):
    """A container or process that does not start or stay healthy."""


class RegistryError(EdgepackError):
    """An image registry that refuses or fails."""


class AuthenticationError(RegistryError):
    """The registry answered 401 or 403."""


class NoRepositoryError(RegistryError):
    """The registry has no such repository, and makes none when something is pushed to it."""

    exit_code = 3


class RegistryUnavailableError(RegistryError):
    """The registry answered 429 or 5xx, or could not be reached."""


# What a path makes of a call that nothing can be written to: another kind of file, a mount point, a socket, no device.
_IMPOSSIBLE = (
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EBUSY, errno.ENXIO, errno.ENODEV,
)  # fmt: skip


def _mount_of(path: Path) -> Path:
    """Where the file system is mounted that ``path`` is on: proc(5), /proc/PID/mountinfo, also of a bind mount."""
    path = Path(os.path.realpath(path))
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return path
    escaped = (line.split()[4] for line in lines)
    points = {Path(os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda one: bytes([int(one[1], 8)]), one))) for one in escaped}
    return next((one for one in (path, *path.parents) if one in points), path)


@contextmanager
def disk_errors(where: Path | str) -> Iterator[None]:
    """Turn a full disk below ``where`` into a ``NoSpaceError``, a place that cannot be written into a ``UsageError``.

    Such places are a read-only file system, a file where a folder should be, a name that is too long, a socket. Other
    errors, of a disk that fails for one, stay what they are and name ``where`` when they name no file.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoSpaceError(
                "no space left on the disk", where=where, hint="free some space and run the same command again"
            ) from error
        if error.errno == errno.EROFS:
            mounted = _mount_of(Path(os.fsdecode(error.filename or where)))
            raise UsageError(
                f"cannot write here ({error.strerror})", where=error.filename or where,
                hint=f"{mounted} is mounted read-only, by intention or after a fault of the disk, which dmesg tells; "
                f"to write there: mount -o remount,rw {shlex.quote(str(mounted))}",
            ) from error  # fmt: skip
        if error.errno in (errno.EACCES, errno.EPERM):
            raise UsageError(
                f"cannot write here ({error.strerror})", where=error.filename or where, hint="check its permissions"
            ) from error
        if error.errno in _IMPOSSIBLE:
            raise UsageError(
                f"cannot write here ({error.strerror})", where=error.filename or where, hint="give another path"
            ) from error
        if error.filename is None and error.errno is not None:  # of a write or a lock the system does not say of what
            raise OSError(error.errno, error.strerror, str(where)) from error
        raise


@contextmanager
def package_errors(extra: str) -> Iterator[None]:
    """Turn the lack of a Python package into a ``MissingPartError``; ``extra`` of edgepack has the package."""
    try:
        yield
    except ModuleNotFoundError as error:
        from importlib.util import find_spec

        package = (error.name or "").partition(".")[0]
        if not package or find_spec(package) is not None:  # a module of a package that is there
            raise
        raise MissingPartError(
            f"the Python package {package} is not installed", hint=f"run: pip install 'edgepack[{extra}]'"
        ) from error
