"""The protocol that every runtime keeps; ``tests/edge_agent/test_runtime_conformance.py`` holds them to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService

InstanceState = Literal["running", "exited"]


@dataclass(frozen=True)
class Instance:
    """A service as its runtime sees it. ``exit_code`` is known once it has exited, 128 and more after a signal.

    ``out_of_memory``: it, or something that it had started, was killed because there was no memory left for it.
    ``counters`` are the files that count such kills while it runs (``kills``), where there are any.
    ``fault``: what is wrong with how it is kept although it runs, and is right again when it is started anew; its
    image and port are ``None`` where that is not known.
    """

    service: str
    image: Digest | None
    state: InstanceState
    port: int | None
    exit_code: int | None = None
    out_of_memory: bool = False
    fault: str | None = None
    counters: tuple[Path, ...] = field(default=(), compare=False)


class Watch(Protocol):
    """Notices the end of one instance without asking for it again and again; to be closed by who got it."""

    def fileno(self) -> int:
        """A descriptor for ``select``, readable when the instance may have ended."""

    def ended(self) -> bool:
        """Whether it has ended, or who runs it does not answer any more; never waits. ``inspect`` says the rest."""

    def close(self) -> None:
        """Give the descriptor back."""


class Runtime(Protocol):
    """Runs at most one instance of each service. Every call may be repeated; none leaves anything half done."""

    name: str

    def prepare(self, image: Digest) -> None:
        """Put in place, durably, all that starting ``image`` needs, from the device's store; no network.

        Raises ``NotFoundError`` for blobs that are not in the store, ``VerificationError`` for altered ones,
        ``IncompatibleError`` for an image that cannot run here, ``NoSpaceError``.
        """

    def mend(self, image: Digest) -> bool:
        """Read all that ``prepare`` put on the disk for ``image``, and mend what is damaged; returns whether any was.

        Raises what ``prepare`` raises. For an image that does not run as it should: it takes a while.
        """

    def start(self, spec: DesiredService) -> Instance:
        """Start ``spec``; an instance that already runs with the same values is left alone, and sees another ``auth``.

        One type says what is desired and what is run: here ``image`` is the manifest of this device's platform, which
        is prepared, and ``status`` and the health check are not looked at. Raises ``RuntimeFailedError``, which names
        the port when it is taken.
        """

    def stop(self, service: str, timeout: float = 10.0) -> None:
        """Ask the service to end, kill it after ``timeout`` seconds, and remove its instance; absent is fine."""

    def inspect(self, service: str) -> Instance | None:
        """The current instance; ``None`` when the service has no instance."""

    def logs(self, service: str, lines: int = 100, *, since_start: bool = False) -> str:
        """The last lines that the service wrote; empty when it wrote nothing.

        With ``since_start`` only those of its present instance, and not of those before, where they are kept.
        """

    def follow(self, service: str, lines: int = 0) -> Iterator[str]:
        """The last ``lines`` lines, and then what the service writes, as it comes: over its restarts, without end."""

    def watch(self, service: str) -> Watch | None:
        """What notices the end of the running instance; ``None`` when nothing runs, or when only asking helps."""

    def forget_image(self, image: Digest) -> None:
        """Remove what ``prepare`` put on the disk, except what an instance or another image needs."""


@runtime_checkable
class Foreseeing(Protocol):
    """A runtime that sees, while the old version of a service still runs, what would keep the new one from starting."""

    def check(self, spec: DesiredService, *, held: bool) -> None:
        """Raise what ``start`` would raise for ``spec``, whose image is prepared; changes nothing.

        ``held``: the port is held by a service that is stopped before this one starts.
        """


@dataclass(frozen=True)
class Alone:
    """Why a version of a service cannot be started beside the one that runs."""

    reason: str
    short_of_memory: bool = False


class Beside(Protocol):
    """A new version of a service that was started beside the one that runs, and that nobody but the agent asks yet."""

    def connect(self, timeout: float) -> socket.socket:
        """A connection to this version and to no other; raises ``OSError``."""

    def inspect(self) -> Instance | None:
        """Its instance; ``None`` when there is none any more."""

    def last_words(self) -> str:
        """The last that it wrote."""

    def take_over(self) -> None:
        """Let it be the service's instance, and end the one that was: that one finishes what it has begun.

        Raises ``EdgepackError`` where it cannot be.
        """

    def discard(self) -> None:
        """End it; the one that runs is left alone."""


@runtime_checkable
class Relieving(Runtime, Protocol):
    """A runtime under which one version of a service takes the listening socket over from another."""

    def holding(self, service: str) -> AbstractContextManager[None]:
        """Hold the listening socket of ``service`` meanwhile: whoever connects while nothing runs waits, and is served.

        It may be held already.
        """

    def alone(self, spec: DesiredService) -> Alone | None:
        """Why ``spec``, whose image is prepared, cannot be started beside the instance that runs; ``None`` if it can.

        Only for a service of which one runs.
        """

    def start_beside(self, spec: DesiredService) -> Beside:
        """Start ``spec`` beside the instance that runs; raises what ``start`` raises."""


@runtime_checkable
class Fronted(Relieving, Protocol):
    """A runtime that keeps callers of a service waiting until a version has taken over, even while none runs."""

    def fronts(self, spec: DesiredService) -> bool:
        """Whether it does so for ``spec``, whose image is prepared: it is started beside though nothing may run."""


def holding(runtime: Runtime, service: str) -> AbstractContextManager[None]:
    """Hold the listening socket of ``service`` meanwhile, under a runtime that can; see ``Relieving``."""
    return runtime.holding(service) if isinstance(runtime, Relieving) else nullcontext()


@runtime_checkable
class Placed(Protocol):
    """A runtime that unpacks images below the device's folder, and cannot run a service from every path."""

    def check_place(self) -> None:
        """Raise ``IncompatibleError`` where no service can run from there, whatever its image; changes nothing."""
