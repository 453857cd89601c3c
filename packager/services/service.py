"""A service, as the workspace knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.oci.digest import Digest
from packager.services.configuration.values import Auth, ComputeType

if TYPE_CHECKING:
    from packager.inference.configuration import InferenceConfiguration


@dataclass(frozen=True)
class Source:
    """Where the entry script of a service is on this workstation: ``reload`` reads it again.

    ``folder`` is the source directory, ``None`` for a script that is shipped alone.
    """

    script: str
    folder: str | None = None

    @classmethod
    def of(cls, inference: InferenceConfiguration) -> Source:
        """Where the script of an inference configuration is."""
        if inference.source_directory is None:
            return cls(str(Path(inference.entry_script).absolute()))
        return cls(inference.entry_script, str(inference.source_directory.absolute()))


@dataclass(frozen=True)
class Service:
    """What is known of a service: what it is made of, how it is to run, and where.

    ``models`` are such as ``churn:4``. ``package`` is the tag of its image, and ``image`` its digest. ``deployment`` is
    its deployment configuration by the names of Azure's files. ``target`` is the device, or the context of a
    Kubernetes' configuration; ``None`` on this machine. Times are UTC. ``error`` is why the last change failed.
    ``reload_folder`` is a copy of its source on this machine, which it runs instead of the one in its image.
    """

    name: str
    compute_type: ComputeType
    models: tuple[str, ...]
    package: str
    image: Digest
    deployment: Mapping[str, Any]
    target: str | None = None
    port: int | None = None
    auth: Auth = Auth.NONE
    source: Source | None = None
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    updated: str = ""
    error: str | None = None
    reload_folder: str | None = None

    def source_in(self, copy: str) -> str:
        """Where the source directory is in a ``copy`` of what the image has of the source."""
        if self.source is None or self.source.folder is None:
            return copy
        folder = Path(self.source.folder)
        # As images have it: a link is called by its own name.
        return f"{copy}/{folder.name if folder.name not in ('', '..') else folder.resolve().name}"

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Service:
        """The service in a row of the table."""
        value = row["definition"]
        source = value.get("source")
        return cls(
            row["name"], ComputeType(row["compute_type"]), tuple(value["models"]), value["package"],
            Digest.parse(value["image"]), value["deployment"], value.get("target"), value.get("port"),
            Auth(value.get("auth", Auth.NONE)), None if source is None else Source(**source), value.get("description"),
            value.get("tags", {}), value.get("properties", {}), row["created"], row["updated"], value.get("error"),
            value.get("reload_folder"),
        )  # fmt: skip

    def to_row(self) -> dict[str, Any]:
        """The row of the table."""
        value: dict[str, Any] = {
            "models": list(self.models), "package": self.package, "image": str(self.image),
            "deployment": dict(self.deployment), "target": self.target, "port": self.port, "auth": self.auth.value,
            "source": None if self.source is None else {"script": self.source.script, "folder": self.source.folder},
            "description": self.description, "tags": dict(self.tags), "properties": dict(self.properties),
            "error": self.error, "reload_folder": self.reload_folder,
        }  # fmt: skip
        return {
            "name": self.name, "compute_type": self.compute_type.value, "created": self.created,
            "updated": self.updated, "definition": value,
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The service as the JSON interface shows it."""
        row = self.to_row()
        definition: dict[str, Any] = row.pop("definition")
        return row | definition
