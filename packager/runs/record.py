"""A run as its files keep it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from edgepack.documents import Fields, canonical_json, parse_object, raise_all
from edgepack.errors import InvalidReferenceError

SCHEMA = "edgepack.run/v1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class Status(StrEnum):
    """How far a run is, by Azure's names."""

    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"


@dataclass(frozen=True)
class RunRecord:
    """A run of an experiment; ``number`` counts the runs of the experiment, times are in UTC."""

    experiment: str
    id: str
    number: int
    status: Status
    created: str
    ended: str | None = None
    display_name: str | None = None
    parent: str | None = None
    error: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The document that keeps it."""
        fields: dict[str, Any] = {
            "schema": SCHEMA, "experiment": self.experiment, "id": self.id, "number": self.number,
            "status": self.status.value, "created": self.created, "ended": self.ended,
            "display_name": self.display_name, "parent": self.parent, "error": self.error,
            "tags": dict(self.tags), "properties": dict(self.properties),
        }  # fmt: skip
        return canonical_json({key: value for key, value in fields.items() if value is not None}) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, where: object) -> RunRecord:
        """Read the document; raises ``InvalidDocumentError``."""
        violations: list[str] = []
        fields = Fields(parse_object(data, where), "", violations)
        fields.schema(SCHEMA)
        status = fields.take("status", str, required=True)
        if status is not None and status not in {*Status}:
            fields.wrong("status", f"must be one of {', '.join(Status)}")
        found = {key: fields.take(key, str, required=True) or "" for key in ("experiment", "id", "created")}
        optional = {key: fields.take(key, str) for key in ("ended", "display_name", "parent", "error")}
        labels = {key: _texts(fields, key) for key in ("tags", "properties")}
        number = fields.take("number", int, required=True) or 0
        fields.finish()
        raise_all(where, violations)
        return cls(number=number, status=Status(str(status)), **found, **optional, **labels)  # type: ignore[arg-type]


def _texts(fields: Fields, key: str) -> dict[str, str]:
    raw = fields.take(key, dict, {}) or {}
    for name, value in raw.items():
        if not isinstance(value, str):
            fields.wrong(f"{key}.{name}", "must be text")
    return {str(name): str(value) for name, value in raw.items()}


def check_name(name: str, what: str) -> str:
    """``name`` when an experiment or a run may have it, since it is a folder; raises ``InvalidReferenceError``."""
    if not _NAME.fullmatch(name):
        hint = "use letters, digits, '.', '_' and '-', starting with a letter or digit, at most 200 characters"
        raise InvalidReferenceError(f"{name!r} is not the name of {what}", hint=hint)
    return name
