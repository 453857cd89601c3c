"""What the routes call: models without code, or an entry script. The seam between HTTP and scoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge_server.http.messages import Answer, Request


@dataclass(frozen=True)
class TensorInfo:
    """One input or output as descriptions show it: ``shape`` has None for a free axis, and is None for any rank.

    ``columns`` name the last axis. ``note`` says what is special, such as that values may be missing.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    columns: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Description:
    """What a service takes and answers, as JSON Schemas of OpenAPI 3.0's subset, each with an ``example``.

    ``input_schema`` and ``output_schema`` describe the bodies of POST /score. Of alternatives (``oneOf``, ``anyOf``)
    the first is the usual one, the only one that Swagger 2 can show. ``formats`` maps further media types that POST
    /score takes to their schemas. ``methods`` are what a body may ask for, the usual one first; ``inputs`` and
    ``outputs`` are those of a model without code. ``models`` describes each of several models by the name that
    ``?model=`` takes; the schemas are then the first model's.
    """

    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any]
    takes_get: bool = False
    formats: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    models: Mapping[str, Description] = field(default_factory=dict)


class Service(Protocol):
    """One of the two: ``models.service.ModelService`` and ``scripts.service.ScriptService``."""

    # Methods that /score takes beside HEAD and OPTIONS, which are answered before.
    methods: frozenset[str]

    async def start(self) -> None:
        """Load what must be loaded; ScoringError when the service cannot start."""

    async def stop(self) -> None:
        """Release everything; all requests that had begun have been answered."""

    def ready(self) -> bool:
        """Whether a request could be answered now."""

    def score(self, request: Request) -> Answer:
        """Answer a request to /score; BadRequest for what cannot be answered."""

    def describe(self) -> Description:
        """What the service takes and answers, for swagger.json and the page."""

    def facts(self) -> Mapping[str, Any]:
        """What is logged of the service when it is ready."""
