"""What stands behind the routes: models without code, or an entry script. The seam between HTTP and scoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from scoring.http.messages import Answer, Request


@dataclass(frozen=True)
class Description:
    """What a service takes and answers, as JSON Schemas of OpenAPI 3.0's subset, each with an `example`.

    `input_schema` and `output_schema` describe the bodies of POST /score. `formats` maps further media types that
    POST /score takes to their schemas. `methods` maps what GET /score takes, if anything, to its description.
    """

    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any]
    takes_get: bool = False
    formats: Mapping[str, Mapping[str, Any]] | None = None


class Service(Protocol):
    """One of the two: `models.service.ModelService` and `scripts.service.ScriptService`."""

    # Methods that /score takes beside HEAD and OPTIONS, which are answered before.
    methods: frozenset[str]

    async def start(self) -> None:
        """Load what must be loaded; ScoringError when the service cannot come up."""

    async def stop(self) -> None:
        """Let go of everything; requests that were begun have been answered by now."""

    def ready(self) -> bool:
        """Whether a request would be answered now."""

    def score(self, request: Request) -> Answer:
        """Answer a request to /score; BadRequest for what cannot be answered."""

    def describe(self) -> Description:
        """What the service takes and answers, for swagger.json and the page."""

    def facts(self) -> Mapping[str, Any]:
        """What the log says of the service when it is ready."""
