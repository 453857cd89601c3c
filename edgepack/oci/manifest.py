"""Manifests, indexes and image configurations as immutable values (image-spec 1.1, manifest.md, config.md).

``to_bytes`` is canonical: sorted keys, no white space, UTF-8, so that equal values have equal digests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edgepack.errors import InvalidDocumentError, InvalidReferenceError
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
    try:
        canonical_json(value)
    except (UnicodeEncodeError, RecursionError) as error:  # half of a surrogate pair has no UTF-8
        raise InvalidDocumentError(where, ["holds text that is not Unicode"]) from error
    return value


def _texts(value: object, where: object, name: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise InvalidDocumentError(where, [f"{name} must map text to text"])
    return dict(value)


def _words(value: object, where: object, name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise InvalidDocumentError(where, [f"{name} must be a list of texts"])
    return tuple(value)


def _text(value: Mapping[str, Any], key: str, where: object, default: str = "") -> str:
    text = value.get(key)
    if not isinstance(text, str | None):
        raise InvalidDocumentError(where, [f"{key} must be text"])
    return text or default


def _media_type(value: Mapping[str, Any], known: frozenset[str], implied: str, other: str, where: object) -> str:
    """The document's own type; it must not be readable as two kinds of document (manifest.md, "mediaType")."""
    if value.get("schemaVersion") != 2:
        raise InvalidDocumentError(where, ["schemaVersion must be 2"])
    # Before mediaType was asked for, manifests and indexes were told apart by their fields alone.
    found = _text(value, "mediaType", where) or implied
    if found not in known or other in value:
        raise InvalidDocumentError(where, [f"{found!r} with {sorted(value)} is another kind of document"])
    return found


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

    @classmethod
    def from_json(cls, value: object, where: object = "history") -> History:
        """Read one line; raises ``InvalidDocumentError``."""
        if not isinstance(value, Mapping):
            raise InvalidDocumentError(where, ["must be an object"])
        return cls(
            _text(value, "created_by", where),
            _text(value, "comment", where),
            bool(value.get("empty_layer")),
            _text(value, "created", where, EPOCH),
        )


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
        env = dict(item.partition("=")[::2] for item in _words(run.get("Env"), where, "Env"))
        ports = run.get("ExposedPorts") or {}
        if not isinstance(ports, Mapping):
            raise InvalidDocumentError(where, ["ExposedPorts must be an object"])
        try:
            platform = Platform.from_json(value)
        except (InvalidReferenceError, TypeError) as error:
            raise InvalidDocumentError(where, [f"os and architecture must name a platform ({error})"]) from error
        known = {"Env", "Entrypoint", "Cmd", "User", "WorkingDir", "ExposedPorts", "Labels", "StopSignal"}
        return cls(
            platform=platform,
            diff_ids=_each(rootfs.get("diff_ids") or [], lambda item, _: Digest.parse(item), where, "diff_ids"),
            env=env,
            entrypoint=_words(run.get("Entrypoint"), where, "Entrypoint"),
            cmd=_words(run.get("Cmd"), where, "Cmd"),
            user=_text(run, "User", where),
            working_dir=_text(run, "WorkingDir", where),
            exposed_ports=tuple(sorted(ports)),
            labels=_texts(run.get("Labels"), where, "Labels"),
            stop_signal=_text(run, "StopSignal", where),
            history=_each(value.get("history") or [], History.from_json, where, "history"),
            created=_text(value, "created", where, EPOCH),
            other={key: item for key, item in run.items() if key not in known},
        )

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
    def from_bytes(
        cls, data: bytes, where: object = "image manifest", *, implied: str = mediatypes.MANIFEST
    ) -> Manifest:
        """Read a manifest, of the type ``implied`` when it does not name its own; raises ``InvalidDocumentError``."""
        value = parse_object(data, where)
        media_type = _media_type(value, mediatypes.MANIFESTS, implied, "manifests", where)
        subject = value.get("subject")
        return cls(
            config=Descriptor.from_json(value.get("config"), f"{where}: config"),
            layers=_each(value.get("layers"), Descriptor.from_json, where, "layers"),
            media_type=media_type,
            annotations=_texts(value.get("annotations"), where, "annotations"),
            subject=None if subject is None else Descriptor.from_json(subject, f"{where}: subject"),
            artifact_type=_text(value, "artifactType", where) or None,
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
    def from_bytes(cls, data: bytes, where: object = "image index", *, implied: str = mediatypes.INDEX) -> Index:
        """Read an index, of the type ``implied`` when it does not name its own; raises ``InvalidDocumentError``."""
        value = parse_object(data, where)
        media_type = _media_type(value, mediatypes.INDEXES, implied, "layers", where)
        return cls(
            manifests=_each(value.get("manifests"), Descriptor.from_json, where, "manifests"),
            media_type=media_type,
            annotations=_texts(value.get("annotations"), where, "annotations"),
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
