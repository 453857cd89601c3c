"""Where uv and pip look for wheels: the user's own settings, with those of an environment and folders beside them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import NotFoundError, UsageError
from edgepack.host.uv import NO_INDEX, uv_environment
from edgepack.text import redacted

# pip replaces these by the variables of the process that installs, so the value is not in the record.
VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
# A value of a variable that is shorter would be found everywhere.
_MIN_SECRET = 4


@dataclass(frozen=True)
class Indexes:
    """Addresses of indexes and of folders of wheels, with variables as ``${NAME}``; ``folders`` are on this machine.

    Where there is no ``index_url``, the user's settings of pip and uv say which indexes are searched.
    """

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    no_index: bool = False
    pre: bool = False
    folders: tuple[Path, ...] = ()

    @property
    def local_folders(self) -> tuple[Path, ...]:
        """The folders of this machine that hold wheels."""
        own = (Path(link.removeprefix("file://")) for link in self.find_links if link.startswith(("/", "file:///")))
        return tuple(dict.fromkeys((*self.folders, *own)))

    def check(self) -> None:
        """Raise ``NotFoundError`` for a folder that is not there, ``UsageError`` for a variable that is not set."""
        for folder in self.local_folders:
            if not folder.is_dir():
                raise NotFoundError("there is no such folder", where=f"--find-links {folder}", hint="check its path")
        for address in self._addresses:
            for name in VARIABLE.findall(address):
                if name[2:-1] not in os.environ:
                    raise UsageError(
                        f"the variable {name[2:-1]} is not set", where=f"index {address}",
                        hint="set it to the credential that it stands for",
                    )  # fmt: skip

    def for_uv(self, environment: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment for uv; credentials are in it, and in no argument that others can read."""
        found = uv_environment(environment)
        if self.index_url is not None:
            for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX"):
                found.pop(name, None)
            found["UV_DEFAULT_INDEX"] = _expanded(self.index_url)
        if self.extra_index_urls:
            more = " ".join(map(_expanded, self.extra_index_urls))
            found["UV_EXTRA_INDEX_URL"] = " ".join(filter(None, (found.get("UV_EXTRA_INDEX_URL"), more)))
            # As pip does, which asks all its indexes for the best version.
            found.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
        links = [*map(_link, self.folders), *map(_expanded, self.find_links)]
        if links:
            found["UV_FIND_LINKS"] = ",".join(filter(None, (*links, found.get("UV_FIND_LINKS", ""))))
        if self.trusted_hosts:
            found["UV_INSECURE_HOST"] = " ".join(filter(None, (*self.trusted_hosts, found.get("UV_INSECURE_HOST"))))
        if self.no_index:
            found[NO_INDEX] = "1"
        if self.pre:
            found["UV_PRERELEASE"] = "allow"
        return found

    def lines_for_pip(self) -> tuple[str, ...]:
        """The options as lines of a requirement file, in which pip reads the variables itself."""
        return (
            *([f"--index-url {self.index_url}"] if self.index_url is not None else ()),
            *(f"--extra-index-url {url}" for url in self.extra_index_urls),
            *(f"--find-links {shlex.quote(str(link))}" for link in (*self.folders, *self.find_links)),
            *(f"--trusted-host {host}" for host in self.trusted_hosts),
            *(["--no-index"] if self.no_index else ()),
        )

    def redacted(self, text: str) -> str:
        """``text`` without credentials: those in addresses, and the values of the variables that addresses name."""
        names = {name[2:-1] for address in self._addresses for name in VARIABLE.findall(address)}
        values = sorted((os.environ.get(name, "") for name in names), key=len, reverse=True)
        for value in values:
            if len(value) >= _MIN_SECRET:
                text = text.replace(value, "****")
        return redacted(text)

    @property
    def _addresses(self) -> Sequence[str]:
        return (*filter(None, [self.index_url]), *self.extra_index_urls, *self.find_links)


def _link(folder: Path) -> str:
    """A folder as uv takes it in a list with commas."""
    return folder.as_uri() if "," in str(folder) else str(folder)


def _expanded(address: str) -> str:
    return re.sub(VARIABLE, lambda found: os.environ.get(found[0][2:-1], found[0]), address)
