"""The protocol that every runtime keeps; ``tests/edge_agent/test_runtime_conformance.py`` holds them to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from edgepack.oci.digest import Digest

InstanceState = Literal["running", "exited"]


@dataclass(frozen=True)
class ServiceSpec:
    """What to run: ``image`` is the digest of one platform's image manifest, ``port`` a TCP port on ``address``."""

    name: str
    image: Digest
    port: int
    address: str = "127.0.0.1"
    env: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int | None = None
    cpus: float | None = None


@dataclass(frozen=True)
class Instance:
    """A service as its runtime sees it. ``exit_code`` is known once it has exited."""

    service: str
    image: Digest
    state: InstanceState
    port: int
    exit_code: int | None = None


class Runtime(Protocol):
    """Runs at most one instance of each service. Every call may be repeated; none leaves anything half done."""

    name: str

    def prepare(self, image: Digest) -> None:
        """Put in place, durably, all that starting ``image`` needs, from the device's store; no network.

        Raises ``NotFoundError`` for blobs that are not in the store, ``VerificationError`` for altered ones,
        ``IncompatibleError`` for an image that cannot run here, ``NoSpaceError``.
        """

    def start(self, spec: ServiceSpec) -> Instance:
        """Start ``spec``, whose image is prepared; an instance that runs the same spec is left alone.

        Raises ``RuntimeFailedError`` (naming the port when it is taken).
        """

    def stop(self, service: str, timeout: float = 10.0) -> None:
        """Ask the service to end, kill it after ``timeout`` seconds, and forget it; absent is fine."""

    def inspect(self, service: str) -> Instance | None:
        """The instance as it stands, ``None`` when there is none."""

    def logs(self, service: str, lines: int = 100) -> str:
        """The last lines that the service wrote; empty when there are none."""

    def forget_image(self, image: Digest) -> None:
        """Give back the disk that ``prepare`` took, where no instance and no other image needs it."""
