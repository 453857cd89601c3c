"""Publishing the reported state: when something has changed, and now and then."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edge_agent.daemon.report import differs
from edge_agent.link.base import Link
from edgepack.host.files import set_mode
from edgepack.state.reported import ReportedDevice

# A service that comes and goes all the time must not fill the network.
_LEAST_SECONDS = 1.0
# The report as it was last made, for ``edge-agent status``: below the folder ``state``.
FILE = "reported.json"


class Publisher:
    """Publishes what ``make`` makes on ``topic``, and keeps a copy in ``folder``."""

    def __init__(
        self,
        make: Callable[[], ReportedDevice],
        topic: str,
        folder: Path,
        most_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._make = make
        self._topic = topic
        self._folder = folder
        self._most_seconds = most_seconds
        self._clock = clock
        self._last: ReportedDevice | None = None
        self._at = float("-inf")
        self.due = True
        """Whether something may have changed."""

    @property
    def wake(self) -> float:
        """When it is next to be asked, by the clock."""
        return self._at + (_LEAST_SECONDS if self.due else self._most_seconds)

    def go_on(self, link: Link | None) -> None:
        """Publish what has changed, if it is time."""
        now = self._clock()
        if now < self.wake:
            return
        self.due = False
        report = self._make()
        if not differs(report, self._last) and now - self._at < self._most_seconds:
            return
        self._last, self._at = report, now
        data = report.to_bytes()
        self._keep(data)
        if link is not None:
            link.publish(self._topic, data, retain=True)

    def again(self) -> None:
        """Publish whatever it is: there is another link."""
        self._last, self.due = None, True

    def _keep(self, data: bytes) -> None:
        """Write the copy, which nothing depends on: not through to the disk, and not where there is no space."""
        path = self._folder / FILE
        with suppress(OSError):
            temporary = path.with_name(f"{FILE}.tmp")
            temporary.write_bytes(data)
            set_mode(temporary, 0o600)
            temporary.replace(path)
