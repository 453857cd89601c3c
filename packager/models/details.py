"""What a user says about a model when it is registered, and the rules that it must keep."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edgepack.errors import EdgepackError, InvalidDocumentError, InvalidReferenceError, UsageError
from edgepack.names import check_model_name
from packager.models.model import Framework, Resources

LABEL_KEY, LABEL_VALUE, LABELS = 255, 4096, 1000
_TEXT, _NAME = 16_384, 255


@dataclass(frozen=True)
class ModelDetails:
    """All that is said of a model but its files; ``None`` for a framework lets the files decide."""

    framework: Framework | None = None
    framework_version: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None
    resources: Resources = field(default_factory=Resources)
    experiment: str | None = None
    run: str | None = None

    def check(self, name: str) -> None:
        """Raise ``UsageError`` when ``name`` or a field breaks a rule; several violations are reported together."""
        found = list(self._violations(name))
        if len(found) == 1:
            raise found[0]
        if found:
            said = [one.what if one.where is None else f"{one.where}: {one.what}" for one in found]
            raise InvalidDocumentError(f"model {name[:_NAME]!r}", said, hint="mend all of them")

    def _violations(self, name: str) -> Iterator[EdgepackError]:
        try:
            check_model_name(name)
        except InvalidReferenceError as error:
            yield error
        if self.framework is None and self.framework_version is not None:
            yield UsageError("a framework version needs a framework", hint="give --framework too")
        for kind, labels in (("tag", self.tags), ("property", self.properties)):
            yield from label_violations(kind, labels)
        yield from text_violations(self.description, "description")
        yield from text_violations(self.framework_version, "framework version", 64)
        yield from text_violations(self.experiment, "experiment", _NAME)
        yield from text_violations(self.run, "run", _NAME)
        yield from resource_violations(self.resources)


def label_violations(kind: str, labels: Mapping[str, str]) -> Iterator[UsageError]:
    """What is wrong with the tags or properties of a model."""
    if len(labels) > LABELS:
        yield UsageError(f"has {len(labels)}; a model has at most {LABELS}", where=kind)
    for key, value in labels.items():
        if not key or len(key) > LABEL_KEY or not key.isprintable() or "=" in key:
            hint = f"use 1 to {LABEL_KEY} characters without '=' and control characters"
            yield UsageError(f"{key[:80]!r} is not the key of a {kind}", hint=hint)
        elif len(value) > LABEL_VALUE or not _is_text(value):
            hint = f"use at most {LABEL_VALUE} characters without control characters"
            yield UsageError("has a value that cannot be kept", where=f"{kind} {key!r}", hint=hint)


def text_violations(text: str | None, what: str, limit: int = _TEXT) -> Iterator[UsageError]:
    """What is wrong with a ``text`` of at most ``limit`` characters that a person is to read."""
    if text is not None and (len(text) > limit or not _is_text(text)):
        hint = f"use at most {limit} characters without control characters"
        yield UsageError("cannot be kept as it is", where=what, hint=hint)


def _is_text(text: str) -> bool:
    return all(char.isprintable() or char in "\n\t" for char in text)


def resource_violations(resources: Resources) -> Iterator[UsageError]:
    """What is wrong with the resources of a model."""
    for name, value in (("cpu", resources.cpu), ("memory", resources.memory_gb), ("gpu", resources.gpu)):
        if value is not None and not (math.isfinite(value) and value > 0):
            yield UsageError(f"{value!r} is not above 0", where=name, hint="say how much it needs, or leave it out")
