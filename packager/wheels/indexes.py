"""Where uv and pip look for wheels: the user's own settings, with those of an environment and folders beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgepack.errors import NotFoundError, UsageError
from edgepack.host.uv import NO_INDEX, uv_environment
from edgepack.text import redacted
from packager.environments.addresses import VARIABLE
from packager.environments.pip_requirements import PipRequirements

# A value of a variable that is shorter would be found everywhere.
_MIN_SECRET = 4


@dataclass(frozen=True)
class Indexes:
    """Indexes and folders as an environment names them, variables in addresses unread; and ``folders`` of wheels."""

    pip: PipRequirements = field(default_factory=PipRequirements)
    folders: tuple[Path, ...] = ()

    @property
    def local_folders(self) -> tuple[Path, ...]:
        """The folders of this machine that hold wheels."""
        own = (Path(link.removeprefix("file://")) for link in self.pip.find_links if _is_local(link))
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
        pip = self.pip
        if pip.index_url is not None:
            for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX"):
                found.pop(name, None)
            found["UV_DEFAULT_INDEX"] = _expanded(pip.index_url)
        if pip.extra_index_urls:
            more = " ".join(map(_expanded, pip.extra_index_urls))
            found["UV_EXTRA_INDEX_URL"] = " ".join(filter(None, (found.get("UV_EXTRA_INDEX_URL"), more)))
            # As pip does, which asks all its indexes for the best version.
            found.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
        links = [*map(str, self.folders), *map(_expanded, pip.find_links)]
        if links:
            found["UV_FIND_LINKS"] = ",".join(filter(None, (*links, found.get("UV_FIND_LINKS", ""))))
        if pip.trusted_hosts:
            found["UV_INSECURE_HOST"] = " ".join(filter(None, (*pip.trusted_hosts, found.get("UV_INSECURE_HOST"))))
        if pip.no_index:
            found[NO_INDEX] = "1"
        if pip.pre:
            found["UV_PRERELEASE"] = "allow"
        return found

    def lines_for_pip(self) -> tuple[str, ...]:
        """The options as lines of a requirement file, in which pip reads the variables itself."""
        pip = replace(PipRequirements(), find_links=tuple(map(str, self.folders)))
        mine = replace(
            PipRequirements(), index_url=self.pip.index_url, extra_index_urls=self.pip.extra_index_urls,
            find_links=self.pip.find_links, trusted_hosts=self.pip.trusted_hosts, no_index=self.pip.no_index,
        )  # fmt: skip
        return (*pip.option_lines(), *mine.option_lines())

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
        return (*filter(None, [self.pip.index_url]), *self.pip.extra_index_urls, *self.pip.find_links)


def _is_local(link: str) -> bool:
    return link.startswith(("/", "file:///"))


def _expanded(address: str) -> str:
    return re.sub(VARIABLE, lambda found: os.environ.get(found[0][2:-1], found[0]), address)
