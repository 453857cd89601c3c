"""``workspace.json``: what a workspace is called, and where a team keeps it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.documents import Fields, canonical_json, parse_object, raise_all
from edgepack.errors import InvalidReferenceError, UsageError, disk_errors
from edgepack.host.files import atomic_write
from edgepack.oci.reference import Reference
from packager.database.address import check_address

if TYPE_CHECKING:
    from packager.registries.access import Access
    from packager.registries.logins import GivenLogins

FILE = "workspace.json"
_SCHEMA = "edgepack.workspace/v1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class Team:
    """A team's database, and the registry with the start of the repositories that its blobs are in.

    ``plain_http`` says that the registry has no TLS, ``ca_file`` whose certificates to trust beside the system's.
    """

    database: str
    registry: str
    plain_http: bool = False
    ca_file: str | None = None

    def check(self) -> Team:
        """Itself, when both addresses are such and hold no password; raises ``UsageError``."""
        check_address(self.database)
        self.repository("x")
        return self

    def access(self, logins: GivenLogins | None = None) -> Access:
        """How its registry is reached, with ``logins`` that a user gives."""
        from packager.registries.access import Access
        from packager.registries.logins import GivenLogins

        hosts = (self.repository("x").registry,) if self.plain_http else ()
        return Access(hosts, None if self.ca_file is None else Path(self.ca_file), logins or GivenLogins())

    def repository(self, name: str) -> Reference:
        """The repository called ``name`` there; raises ``UsageError`` for a registry that is none."""
        hint = "write it as HOST[:PORT]/PATH, such as registry.plant.local/models"
        try:
            found = Reference.parse(f"{self.registry}/{name}")
        except InvalidReferenceError:
            shown = f"…@{self.registry.rpartition('@')[2]}" if "@" in self.registry else self.registry
            raise UsageError(f"{shown!r} is not a registry", where="the team's registry", hint=hint) from None
        if not found.name.startswith(f"{self.registry}/"):  # without a host it would be Docker Hub
            raise UsageError(f"{self.registry!r} names no registry", where="the team's registry", hint=hint)
        return found


@dataclass(frozen=True)
class WorkspaceConfig:
    """The settings of a workspace; without a ``team`` everything is in its folder."""

    name: str | None = None
    team: Team | None = None

    def check(self) -> WorkspaceConfig:
        """Itself, when its name and addresses are valid; raises ``UsageError``."""
        if self.name is not None and not _NAME.fullmatch(self.name):
            hint = "use up to 63 letters, digits, '.', '_' and '-', starting with a letter or digit"
            raise UsageError(f"{self.name!r} is not the name of a workspace", where="--name", hint=hint)
        if self.team is not None:
            self.team.check()
        return self

    def write(self, folder: Path) -> None:
        """Write it into ``folder``, whole or not at all."""
        document: dict[str, Any] = {"schema": _SCHEMA}
        if self.name is not None:
            document["name"] = self.name
        if self.team is not None:
            fields = {
                "database": self.team.database, "registry": self.team.registry,
                "plain_http": self.team.plain_http, "ca_file": self.team.ca_file,
            }  # fmt: skip
            document["team"] = {key: value for key, value in fields.items() if value is not None}
        from packager.layers.secrets import check_written  # settings are read far more often than they are written

        data = canonical_json(document) + b"\n"
        check_written(data, folder / FILE, "the settings of a workspace")
        atomic_write(folder / FILE, data)

    @classmethod
    def read(cls, folder: Path) -> WorkspaceConfig:
        """What ``folder`` has, by default that of a workspace of one person.

        Raises ``InvalidDocumentError`` naming all that is wrong, ``UsageError`` for addresses that are none.
        """
        path = folder / FILE
        try:
            with disk_errors(path):
                data = path.read_bytes()
        except FileNotFoundError:
            return cls()
        return _parsed(data, path)


def _parsed(data: bytes, path: Path) -> WorkspaceConfig:
    violations: list[str] = []
    fields = Fields(parse_object(data, path), "", violations)
    fields.schema(_SCHEMA)
    name = fields.take("name", str)
    raw = fields.take("team", dict)
    team = None
    if raw is not None:
        inner = Fields(raw, "team", violations)
        database = inner.take("database", str, required=True) or ""
        registry = inner.take("registry", str, required=True) or ""
        plain_http = inner.take("plain_http", bool, False) or False
        team = Team(database, registry, plain_http, inner.take("ca_file", str))
        inner.finish()
    fields.finish()
    raise_all(path, violations, hint="mend the file, or write it again with: edgepack workspace init")
    return WorkspaceConfig(name, team).check()
