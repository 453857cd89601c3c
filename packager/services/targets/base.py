"""The protocol that every kind of target keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgepack.oci.digest import Digest
from edgepack.state.endpoints import DesiredEndpoint
from edgepack.state.reported_endpoints import ReportedEndpoint
from packager.services.service import Service
from packager.services.states import State


@dataclass(frozen=True)
class Observation:
    """A service as its target reports it: its state, why it is so, and what runs; ``None`` for what is not known."""

    state: State
    reason: str | None = None
    image: Digest | None = None
    port: int | None = None


class ServiceTarget(Protocol):
    """A place where services run. Every call may be repeated; none leaves anything half done."""

    def settle(self, service: Service) -> Service:
        """``service`` with what the target itself decides, such as a free port; raises what keeps it from running."""

    def apply(self, service: Service) -> Observation:
        """Let the target have its image, run it, and wait until it is healthy; returns how it is then.

        What runs goes on until the new one is healthy, and after a failure. Raises ``RuntimeFailedError`` with the
        reason.
        """

    def begin(self, service: Service, lock: int) -> Observation:
        """As ``apply``, and wait for nothing; returns how it is at first.

        ``lock`` is the descriptor of a lock that is to be held for as long as something of this machine is at work.
        """

    def observe(self, service: Service) -> Observation:
        """How ``service`` is now."""

    def observations(self, services: Sequence[Service]) -> list[Observation]:
        """How each of ``services`` is, all of which run there."""

    def logs(self, service: Service, lines: int = 5000) -> str:
        """The last lines that it wrote."""

    def follow(self, service: Service, lines: int = 0) -> Iterator[str]:
        """The last lines, and then what it writes, as it comes."""

    def delete(self, service: Service) -> None:
        """Stop and remove it; one that is not there is fine."""

    def address(self, service: Service) -> str | None:
        """Where it answers, such as ``http://127.0.0.1:6789``; ``None`` where that is not known."""


class RoutingTarget(Protocol):
    """A place where endpoints share requests out among services. Every call may be repeated."""

    def endpoint_port(self, name: str, asked: int | None, besides: int | None = None) -> int:
        """The port of endpoint ``name``, as ``asked`` for or a free one; raises ``UsageError`` where it is taken.

        A free one is another one than ``besides``.
        """

    def route(self, endpoint: DesiredEndpoint, services: Sequence[Service]) -> ReportedEndpoint | None:
        """Share requests out among ``services``, which run there; ``None`` where the target has not said how it goes.

        Raises ``RuntimeFailedError`` with the reason.
        """

    def unroute(self, name: str) -> None:
        """Close an endpoint; one that is not there is fine."""

    def routed(self, name: str) -> ReportedEndpoint | None:
        """How an endpoint is now; ``None`` where the target reports nothing of it."""
