"""What a user says of registries: which have no TLS, whose certificates to trust, how to log in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import UsageError
from packager.registries.logins import GivenLogins

if TYPE_CHECKING:
    from edgepack.oci.remote import Policy

_HOST = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")


@dataclass(frozen=True)
class Access:
    """The registries without TLS (``HOST[:PORT]``), a file of certificates to trust beside the system's, and logins."""

    plain_http: tuple[str, ...] = ()
    ca_file: Path | None = None
    logins: GivenLogins = field(default_factory=GivenLogins)

    @classmethod
    def of(cls, plain_http: Iterable[str], ca_file: Path | None, logins: GivenLogins | None = None) -> Access:
        """As written by a user: an item may hold several hosts, with commas. Raises ``UsageError``."""
        hosts = tuple(host.strip() for item in plain_http for host in item.split(",") if host.strip())
        for host in hosts:
            if not _HOST.fullmatch(host):
                found = re.search(r"^(?:https?://)?([^/@\s]+)", host)
                hint = f"write it as HOST[:PORT]{f', here {found[1]}' if found and _HOST.fullmatch(found[1]) else ''}"
                shown = f"…@{host.rpartition('@')[2]}" if "@" in host else host
                raise UsageError(f"{shown!r} is not a registry's host and port", where="--plain-http", hint=hint)
        return cls(hosts, ca_file, logins or GivenLogins())

    def policy(self) -> Policy:
        """The client's policy; imports the client."""
        from edgepack.oci.remote import Policy

        return Policy(plain_http=self.plain_http, ca_file=self.ca_file)
