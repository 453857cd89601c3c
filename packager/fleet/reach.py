"""How the workstation reaches a device: by a broker, or by a folder that is carried to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import UsageError
from edgepack.hidden import HiddenText
from edgepack.limits import LIMITS

_FILES = ("ca_file", "certificate_file", "key_file", "password_file")


@dataclass(frozen=True)
class Reach:
    """A device is told what to run by documents that ``key`` signs, at the broker ``url``, or in ``folder``.

    Passwords stay in their files.
    """

    key: str
    url: str | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    folder: Path | None = None

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Reach:
        """What ``to_json`` wrote."""
        paths = {name: Path(value[name]) for name in (*_FILES, "folder") if value.get(name) is not None}
        return cls(value["key"], value.get("url"), user=value.get("user"), **paths)

    def to_json(self) -> dict[str, Any]:
        """It as a record and the JSON interface show it."""
        paths = {name: getattr(self, name) for name in (*_FILES, "folder")}
        said = {"key": self.key, "url": self.url, "user": self.user}
        said |= {name: None if path is None else str(path) for name, path in paths.items()}
        return {name: value for name, value in said.items() if value is not None}


def read_password(file: Path | None) -> HiddenText | None:
    """The first line of ``file``; raises ``UsageError``."""
    if file is None:
        return None
    try:
        with file.open("rb") as opened:
            first = opened.read(LIMITS.password_bytes).split(b"\n")[0].rstrip(b"\r")
        return HiddenText(first.decode())
    except (OSError, UnicodeDecodeError):
        raise UsageError("cannot be read", where=file, hint="give a file whose first line is the password") from None
