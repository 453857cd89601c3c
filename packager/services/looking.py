"""How services are, whether or not their targets answer: with the reason, and how they were when they last did."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import EdgepackError
from edgepack.host.files import atomic_write, make_dirs
from edgepack.state.times import age
from packager.services.configuration.values import ComputeType
from packager.services.service import Service
from packager.services.states import State
from packager.services.targets.base import Observation
from packager.services.targets.places import SERVICES
from packager.services.targets.table import target_of
from packager.workspaces.workspace import Workspace

# How long a look may take: a device that is not there is not waited for, and other targets need far less.
_SECONDS = 30.0


@dataclass(frozen=True)
class Sightings:
    """How services were when their targets last answered, a file each in ``folder``."""

    folder: Path

    @classmethod
    def of(cls, workspace: Workspace) -> Sightings:
        """Those of a workspace."""
        return cls(workspace.root / SERVICES)

    def put(self, name: str, seen: Observation) -> None:
        """Keep ``seen`` as of now."""
        make_dirs(self.folder)
        data = json.dumps({"state": seen.state.value, "at": int(time.time())}).encode()
        atomic_write(self._file(name), data)

    def last(self, name: str) -> str | None:
        """How the service was and how long ago, in a few words; ``None`` where that is not known."""
        try:
            found = json.loads(self._file(name).read_bytes())
            return f"it was {State(found['state'])} {age(time.time() - found['at'])}"
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def forget(self, name: str) -> None:
        """Keep nothing of it."""
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.seen"


def look(workspace: Workspace, services: Sequence[Service], seconds: float = _SECONDS) -> dict[str, Observation]:
    """How each of ``services`` is, by name. All targets are asked at the same time, each device once.

    Of a target elsewhere that does not answer, or not within ``seconds``, it is not known, with the reason.
    """
    here = [one for one in services if one.compute_type is ComputeType.LOCAL]
    looks = [_Look(workspace, group) for group in _by_target(services)]
    for one in looks:
        one.start()
    seen = _ask(workspace, here) if here else {}
    end, sightings = time.monotonic() + seconds, Sightings.of(workspace)
    for one in looks:
        one.join(max(0.0, end - time.monotonic()))
        answer = one.answer or EdgepackError(f"its target has not answered within {seconds:g} seconds")
        for service in one.services:
            if isinstance(answer, Exception):
                seen[service.name] = _unanswered(sightings, service, answer)
            else:
                seen[service.name] = answer[service.name]
                sightings.put(service.name, answer[service.name])
    return seen


def _by_target(services: Iterable[Service]) -> list[list[Service]]:
    """Those elsewhere: the services of one device together."""
    groups: dict[tuple[str | None, ...], list[Service]] = {}
    for one in services:
        if one.compute_type is ComputeType.DEVICE:
            groups.setdefault((one.target,), []).append(one)
        elif one.compute_type is ComputeType.KUBERNETES:
            groups[one.target, one.name] = [one]
    return list(groups.values())


def _ask(workspace: Workspace, services: Sequence[Service]) -> dict[str, Observation]:
    target = target_of(workspace, services[0])
    return dict(zip([one.name for one in services], target.observations(services), strict=True))


def _unanswered(sightings: Sightings, service: Service, error: Exception) -> Observation:
    before = sightings.last(service.name)
    reason = str(error) if before is None else f"{before}; {error}"
    return Observation(State.UNKNOWN, reason, port=service.port)


class _Look(threading.Thread):
    """A look at ``services`` of one target, which is left behind when nobody waits for it any more."""

    def __init__(self, workspace: Workspace, services: Sequence[Service]) -> None:
        super().__init__(daemon=True)
        self.services = services
        self.answer: Mapping[str, Observation] | Exception | None = None
        self._workspace = workspace

    def run(self) -> None:
        """See ``Thread``."""
        try:
            self.answer = _ask(self._workspace, self.services)
        except EdgepackError as error:
            self.answer = error
