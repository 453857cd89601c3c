"""The one form of tar header that is written here: USTAR, with a PAX header only for what USTAR has no room for.

Owner 0:0 without names, so that a header is a function of what it announces and of nothing of the machine
(POSIX.1-2017, pax, "ustar Interchange Format").
"""

from __future__ import annotations

import tarfile
from typing import Literal

MemberKind = Literal["file", "dir", "symlink", "hardlink"]
_TYPES: dict[MemberKind, bytes] = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
}
BLOCK = tarfile.BLOCKSIZE
# Two blocks of zeros end an archive.
END = bytes(2 * BLOCK)


def tar_header(
    name: str, kind: MemberKind = "file", *, size: int = 0, mode: int = 0o644, mtime: int = 0, linkname: str = ""
) -> bytes:
    """The header of a member: one block, or with a PAX header before it for names that are long or not ASCII, 8 GiB."""
    info = tarfile.TarInfo(name)
    info.type = _TYPES[kind]
    info.mode = mode & 0o7777
    info.mtime = mtime
    info.linkname = linkname
    info.size = size
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    except ValueError:  # too long, too large, or not ASCII
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> bytes:
    """The zeros that fill the last block of a member of ``size`` bytes."""
    return bytes(-size % BLOCK)
