"""How the workstation reaches a device: by a broker, by a folder that is carried to it, or by ssh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import EdgepackError, UsageError
from edgepack.hidden import HiddenText
from edgepack.limits import LIMITS

_PATHS = ("ca_file", "certificate_file", "key_file", "password_file", "folder", "identity_file", "ssh_config")
_TEXTS = ("url", "user", "ssh", "agent", "state_dir")


class NotToldError(EdgepackError):
    """A device has surely not been told anything."""


class UnseenError(EdgepackError):
    """A device was told, and has not said yet how it goes: what it was told stands."""


@dataclass(frozen=True)
class Reach:
    """A device is told what to run by documents that ``key`` signs.

    They go to the broker ``url``, into ``folder``, or to ``edge-agent`` at ``ssh``, written ``USER@HOST:PORT``; there
    ``agent`` is that command, and ``state_dir`` its device's folder, where they are not what is found by itself.
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
    ssh: str | None = None
    identity_file: Path | None = None
    ssh_config: Path | None = None
    agent: str | None = None
    state_dir: str | None = None

    @property
    def way(self) -> str:
        """By what it is reached, in a few words."""
        return self.url or (f"ssh {self.ssh}" if self.ssh is not None else str(self.folder))

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Reach:
        """What ``to_json`` wrote."""
        found: dict[str, Any] = {name: value.get(name) for name in _TEXTS}
        found |= {name: Path(value[name]) for name in _PATHS if value.get(name) is not None}
        return cls(value["key"], **found)

    def to_json(self) -> dict[str, Any]:
        """It as a record and the JSON interface show it."""
        said = {name: getattr(self, name) for name in ("key", *_TEXTS)}
        said |= {name: None if (path := getattr(self, name)) is None else str(path) for name in _PATHS}
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
