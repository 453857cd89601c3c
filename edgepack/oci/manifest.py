"""Manifests, indexes and image configurations as immutable values (image-spec 1.1, manifest.md, config.md).

``to_bytes`` is canonical: sorted keys, no white space, UTF-8, so that equal values have equal digests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edgepack.errors import InvalidDocumentError
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest

# distribution-spec: registries are asked to take manifests of 4 MiB; more is not a manifest.
MAX_MANIFEST_SIZE = 4 << 20
EPOCH = "1970-01-01T00:00:00Z"

_T = TypeVar("_T")


def canonical_json(value: object) -> bytes:
    """The one serialisation of ``value``."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_object(data: bytes, where: object) -> dict[str, Any]:
    """Parse a JSON object; raises ``InvalidDocumentError``."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidDocumentError(where, [f"not JSON ({error})"]) from error
    if not isinstance(value, dict):
        raise InvalidDocumentError(where, ["must be a JSON object"])
    return value


def _each(value: object, read: Callable[[Any, str], _T], where: object, name: str) -> tuple[_T, ...]:
    if not isinstance(value, list):
        raise InvalidDocumentError(where, [f"{name} must be a list"])
    return tuple(read(item, f"{where}: {name}[{number}]") for number, item in enumerate(value))


@dataclass(frozen=True)
class History:
    """One line of an image's history; ``empty_layer`` when it made no layer."""

    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False
    created: str = EPOCH


@dataclass(frozen=True)
class ImageConfig:
    """How an image is run, and the diff IDs of its layers, base first.

    ``other`` keeps what a foreign base has and we do not read, so that it is not lost.
    """

    platform: Platform
    diff_ids: tuple[Digest, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    exposed_ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    history: tuple[History, ...] = ()
    created: str = EPOCH
    other: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "image configuration") -> ImageConfig:
        """Read a configuration; raises ``InvalidDocumentError``."""
        value = parse_object(data, where)
        run = value.get("config") or {}
        rootfs = value.get("rootfs") or {}
        if not isinstance(run, Mapping) or not isinstance(rootfs, Mapping):
            raise InvalidDocumentError(where, ["config and rootfs must be objects"])
        env: dict[str, str] = {}
        for item in run.get("Env") or []:
            name, _, text = str(item).partition("=")
            env[name] = text
        known = {"Env", "Entrypoint", "Cmd", "User", "WorkingDir", "ExposedPorts", "Labels", "StopSignal"}
        return cls(
            platform=Platform.from_json(value),
            diff_ids=_each(rootfs.get("diff_ids") or [], lambda item, _: Digest.parse(item), where, "diff_ids"),
            env=env,
            entrypoint=tuple(run.get("Entrypoint") or ()),
            cmd=tuple(run.get("Cmd") or ()),
            user=run.get("User") or "",
            working_dir=run.get("WorkingDir") or "",
            exposed_ports=tuple(sorted(run.get("ExposedPorts") or ())),
            labels=dict(run.get("Labels") or {}),
            stop_signal=run.get("StopSignal") or "",
            history=tuple(
                History(
                    item.get("created_by") or "", item.get("comment") or "",
                    bool(item.get("empty_layer")), item.get("created") or EPOCH,
                )
                for item in value.get("history") or []
            ),
            created=value.get("created") or EPOCH,
            other={key: item for key, item in run.items() if key not in known},
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        """The canonical JSON of the configuration."""
        run: dict[str, Any] = dict(self.other)
        run.update(
            {
                "Env": [f"{name}={text}" for name, text in self.env.items()],
                "Entrypoint": list(self.entrypoint),
                "Cmd": list(self.cmd),
                "User": self.user,
                "WorkingDir": self.working_dir,
                "ExposedPorts": {port: {} for port in self.exposed_ports},
                "Labels": dict(self.labels),
                "StopSignal": self.stop_signal,
            }
        )
        history = []
        for item in self.history:
            line: dict[str, Any] = {"created": item.created, "created_by": item.created_by}
            if item.comment:
                line["comment"] = item.comment
            if item.empty_layer:
                line["empty_layer"] = True
            history.append(line)
        return canonical_json(
            {
                **self.platform.to_json(),
                "created": self.created,
                "config": {key: item for key, item in run.items() if item not in ("", [], {})},
                "rootfs": {"type": "layers", "diff_ids": [str(digest) for digest in self.diff_ids]},
                "history": history,
            }
        )


@dataclass(frozen=True)
class Manifest:
    """An image manifest, or an artifact's when ``artifact_type`` is set."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = mediatypes.MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None
    artifact_type: str | None = None

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "image manifest") -> Manifest:
        """Read a manifest; raises ``InvalidDocumentError``."""
        value = parse_object(data, where)
        if value.get("schemaVersion") != 2:
            raise InvalidDocumentError(where, ["schemaVersion must be 2"])
        subject = value.get("subject")
        return cls(
            config=Descriptor.from_json(value.get("config"), f"{where}: config"),
            layers=_each(value.get("layers"), Descriptor.from_json, where, "layers"),
            media_type=value.get("mediaType") or mediatypes.MANIFEST,
            annotations=dict(value.get("annotations") or {}),
            subject=None if subject is None else Descriptor.from_json(subject, f"{where}: subject"),
            artifact_type=value.get("artifactType"),
        )

    def to_bytes(self) -> bytes:
        """The canonical JSON of the manifest."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.artifact_type is not None:
            value["artifactType"] = self.artifact_type
        if self.subject is not None:
            value["subject"] = self.subject.to_json()
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return canonical_json(value)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """What the manifest needs: its configuration and layers."""
        return (self.config, *self.layers)


@dataclass(frozen=True)
class Index:
    """An image index: one manifest for each platform, or the tags of a layout."""

    manifests: tuple[Descriptor, ...] = ()
    media_type: str = mediatypes.INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "image index") -> Index:
        """Read an index; raises ``InvalidDocumentError``."""
        value = parse_object(data, where)
        if value.get("schemaVersion") != 2:
            raise InvalidDocumentError(where, ["schemaVersion must be 2"])
        return cls(
            manifests=_each(value.get("manifests"), Descriptor.from_json, where, "manifests"),
            media_type=value.get("mediaType") or mediatypes.INDEX,
            annotations=dict(value.get("annotations") or {}),
        )

    def to_bytes(self) -> bytes:
        """The canonical JSON of the index."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [item.to_json() for item in self.manifests],
        }
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return canonical_json(value)
