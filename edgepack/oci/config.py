"""Image configurations as immutable values (image-spec 1.1, config.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgepack.documents import canonical_json, parse_foreign
from edgepack.errors import InvalidDocumentError, InvalidReferenceError
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.fields import list_of, text_field, text_list, text_map

EPOCH = "1970-01-01T00:00:00Z"


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
            text_field(value, "created_by", where),
            text_field(value, "comment", where),
            bool(value.get("empty_layer")),
            text_field(value, "created", where, EPOCH),
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
        value = parse_foreign(data, where)
        run = value.get("config") or {}
        rootfs = value.get("rootfs") or {}
        if not isinstance(run, Mapping) or not isinstance(rootfs, Mapping):
            raise InvalidDocumentError(where, ["config and rootfs must be objects"])
        env = dict(item.partition("=")[::2] for item in text_list(run.get("Env"), where, "Env"))
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
            diff_ids=list_of(rootfs.get("diff_ids") or [], lambda item, _: Digest.parse(item), where, "diff_ids"),
            env=env,
            entrypoint=text_list(run.get("Entrypoint"), where, "Entrypoint"),
            cmd=text_list(run.get("Cmd"), where, "Cmd"),
            user=text_field(run, "User", where),
            working_dir=text_field(run, "WorkingDir", where),
            exposed_ports=tuple(sorted(ports)),
            labels=text_map(run.get("Labels"), where, "Labels"),
            stop_signal=text_field(run, "StopSignal", where),
            history=list_of(value.get("history") or [], History.from_json, where, "history"),
            created=text_field(value, "created", where, EPOCH),
            other={key: item for key, item in run.items() if key not in known},
        )

    def check_layers(self, layers: Sequence[Descriptor], where: object) -> None:
        """Raise ``InvalidDocumentError`` unless there is one diff ID for each of the manifest's ``layers``."""
        if len(self.diff_ids) != len(layers):
            raise InvalidDocumentError(
                where, [f"its configuration has {len(self.diff_ids)} diff IDs for {len(layers)} layers"]
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
