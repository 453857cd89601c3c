"""What is on record for the device, read again only when another process or this one has changed it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_agent.device import Device
from edge_agent.state.goals import Wanted
from edge_agent.state.records import ServiceRecord
from edgepack.errors import EdgepackError

_log = logging.getLogger(__name__)
# Files are compared by times and sizes, which a change might leave as they are; so they are also read now and then.
_AT_LEAST_SECONDS = 60.0


@dataclass
class Records:
    """The services and goals of ``device``; ``problem`` is why they cannot be read, while the last ones are kept."""

    device: Device
    services: Mapping[str, ServiceRecord] = field(default_factory=dict)
    wanted: Wanted = field(default_factory=Wanted)
    problem: str | None = None
    _mark: object = None
    _read_at: float = float("-inf")

    @property
    def lacks_images(self) -> bool:
        """Whether an image of a service that is to run is not here, or it is not known which those are."""
        wanted = {goal.spec.image for goal in self.wanted.goals.values() if goal.spec.status == "running"}
        return self.problem is not None or not all(map(self.device.store.has_digest, wanted))

    def refresh(self, *, force: bool = False) -> bool:
        """Read them when they may have changed; whether they have."""
        mark = self._files()
        if not force and mark == self._mark and time.monotonic() - self._read_at < _AT_LEAST_SECONDS:
            return False
        self._read_at = time.monotonic()
        before = (self.services, self.wanted, self.problem)
        try:
            self.services, self.wanted = self.device.recorded()
            self.problem = None
        except (EdgepackError, OSError) as error:
            if str(error) != self.problem:
                _log.error("%s", error)
            self.problem = str(error)
        # Of before it was read: a change in the middle is read again.
        self._mark = mark
        return (self.services, self.wanted, self.problem) != before

    def _files(self) -> object:
        path = self.device.state_path
        found: list[tuple[int, int, int] | None] = []
        for one in (path, path.with_name(f"{path.name}-wal")):
            try:
                stat = one.stat()
            except OSError:
                found.append(None)
            else:
                found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return found
