"""The protocol that every way to a device keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from edgepack.state.desired import DesiredService
from edgepack.state.endpoints import DesiredEndpoint
from edgepack.state.reported_endpoints import ReportedEndpoint
from packager.services.service import Service
from packager.services.targets.base import Observation


class Channel(Protocol):
    """A way to one device. Every call may be repeated; none leaves anything half done."""

    def bring(self, service: Service) -> None:
        """Let the device have the image of ``service``, or let it be where the device fetches from."""

    def tell(self, spec: DesiredService, lock: int | None = None) -> None:
        """Hand over a document in which the service is ``spec``, and wait for its end where an answer can come.

        With a ``lock`` nothing is waited for: its descriptor is held for as long as something of this machine is at
        work. Raises what the device answers.
        """

    def tell_endpoint(self, endpoint: DesiredEndpoint) -> ReportedEndpoint | None:
        """Hand over a document with ``endpoint``, whose services are in the last one; returns how it is then.

        ``None`` where nothing is reported by this way. Raises what the device answers.
        """

    def endpoint(self, name: str) -> ReportedEndpoint | None:
        """How an endpoint is now; ``None`` where nothing of it is reported."""

    def observe(self, services: Sequence[Service]) -> list[Observation]:
        """How each of them is, by one question."""

    def logs(self, service: Service, lines: int) -> str:
        """The last lines that it wrote."""

    def follow(self, service: Service, lines: int) -> Iterator[str]:
        """The last lines, and then what it writes, as it comes."""
