"""The passphrase of a signing key: from a file that the environment names, or typed on a terminal."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from edgepack.errors import UsageError
from edgepack.hidden import HiddenBytes
from edgepack.limits import LIMITS

VARIABLE = "EDGEPACK_KEY_PASSPHRASE_FILE"


def passphrase_of(name: str) -> bytes:
    """The passphrase of the key called ``name``; raises ``UsageError`` where nobody can be asked."""
    if file := os.environ.get(VARIABLE):
        return read_passphrase(Path(file))
    if not sys.stdin.isatty():
        raise UsageError(
            "is under a passphrase, and there is no terminal to ask on", where=f"key {name}",
            hint=f"set {VARIABLE} to a file that has it",
        )  # fmt: skip
    return HiddenBytes(getpass.getpass(f"Passphrase of key {name}: ").encode())


def new_passphrase() -> bytes:
    """One that is typed twice; raises ``UsageError``."""
    first = getpass.getpass("New passphrase: ")
    if first != getpass.getpass("The same again: "):
        raise UsageError("are not the same", where="the two passphrases", hint="run the same command again")
    return _checked(first.encode(), "the passphrase")


def read_passphrase(file: Path) -> bytes:
    """What ``file`` has, without the line's end; raises ``UsageError``."""
    try:
        with file.open("rb") as opened:
            data = opened.read(LIMITS.password_bytes + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot be read ({reason})", where=file, hint="give a file with the passphrase") from None
    return _checked(data.rstrip(b"\r\n"), file)


def _checked(data: bytes, where: object) -> bytes:
    if not data or b"\n" in data or len(data) > LIMITS.password_bytes:
        raise UsageError("has no passphrase", where=where, hint="write it on one line, and nothing else")
    return HiddenBytes(data)
