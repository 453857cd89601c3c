"""Descriptors and platforms (image-spec 1.1, descriptor.md and image-index.md)."""

from __future__ import annotations

import platform as host_platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgepack.errors import InvalidDocumentError, InvalidReferenceError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.digest import Digest

_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "arm"}
# What an architecture means when no variant is named; containerd leaves the same ones out.
_IMPLIED = {("arm64", "v8"), ("arm64", "8"), ("amd64", "v1")}
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, order=True)
class Platform:
    """An operating system and processor, ``linux/arm64`` or ``linux/arm/v7``."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str | None = None

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse ``os/architecture[/variant]``; raises ``InvalidReferenceError``."""
        parts = text.strip().split("/")
        if len(parts) not in (2, 3) or not all(_PART.fullmatch(part) for part in parts):
            raise InvalidReferenceError(f"{text!r} is not a platform", hint="write it as linux/amd64 or linux/arm64")
        os, architecture = parts[0], _MACHINES.get(parts[1], parts[1])
        variant = parts[2] if len(parts) == 3 else None
        return cls(os, architecture, None if (architecture, variant) in _IMPLIED else variant)

    @classmethod
    def host(cls) -> Platform:
        """The platform of this machine."""
        machine = host_platform.machine()
        variant = "v7" if machine == "armv7l" else None
        return cls("linux", _MACHINES.get(machine, machine), variant)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Platform:
        """Read the ``platform`` object of an index or the fields of an image configuration."""
        variant = value.get("variant") or None
        return cls.parse("/".join(filter(None, (value.get("os", ""), value.get("architecture", ""), variant))))

    def to_json(self) -> dict[str, str]:
        """The ``platform`` object."""
        found = {"architecture": self.architecture, "os": self.os}
        if self.variant:
            found["variant"] = self.variant
        return found

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@dataclass(frozen=True)
class Descriptor:
    """The name of a blob: what it is, its hash, its length in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None
    artifact_type: str | None = None

    @classmethod
    def from_json(cls, value: object, where: object = "descriptor") -> Descriptor:
        """Read a descriptor; raises ``InvalidDocumentError`` naming every wrong field."""
        if not isinstance(value, Mapping):
            raise InvalidDocumentError(where, ["a descriptor must be an object"])
        wrong = []
        media_type, size = value.get("mediaType"), value.get("size")
        annotations = value.get("annotations") or {}
        if not isinstance(media_type, str) or "/" not in media_type:
            wrong.append("mediaType must be a media type")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= LIMITS.blob_bytes:
            wrong.append("size must be a number of bytes")
        if not isinstance(annotations, Mapping) or not all(
            isinstance(item, str) for pair in annotations.items() for item in pair
        ):
            wrong.append("annotations must map text to text")
        artifact_type = value.get("artifactType")
        if not isinstance(artifact_type, str | None):
            wrong.append("artifactType must be a media type")
        digest = platform = None
        try:
            digest = Digest.parse(value.get("digest"))
            platform = _stated(value.get("platform"))
        except (InvalidReferenceError, AttributeError, TypeError) as error:
            wrong.append(str(error))
        if wrong or digest is None:
            raise InvalidDocumentError(where, wrong)
        return cls(str(media_type), digest, int(size or 0), dict(annotations), platform, artifact_type or None)

    def to_json(self) -> dict[str, Any]:
        """The descriptor object, keys in the specification's order."""
        found: dict[str, Any] = {
            "mediaType": self.media_type, "digest": str(self.digest), "size": self.size,
        }  # fmt: skip
        if self.annotations:
            found["annotations"] = dict(sorted(self.annotations.items()))
        if self.platform is not None:
            found["platform"] = self.platform.to_json()
        if self.artifact_type is not None:
            found["artifactType"] = self.artifact_type
        return found

    def with_annotations(self, annotations: Mapping[str, str]) -> Descriptor:
        """The same blob with these annotations added."""
        return replace(self, annotations={**self.annotations, **annotations})

    @property
    def kind(self) -> str | None:
        """What an edgepack layer holds: base, wheel, wheels, server, code, config or model; ``None`` for others."""
        return self.annotations.get(mediatypes.LAYER_KIND)


def _stated(value: Any) -> Platform | None:
    """The ``platform`` object of an index's entry; ``None`` also for one that names neither system nor processor."""
    if value is None or not (value.get("os") or value.get("architecture")):
        return None
    return Platform.from_json(value)
