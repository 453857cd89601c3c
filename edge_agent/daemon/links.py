"""The link of a configuration to its broker, and what is told of how it is."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from edge_agent.config.configuration import Configuration
from edge_agent.daemon.single import runs
from edge_agent.device import Device
from edge_agent.link.base import Link, LinkState, LinkStatus
from edge_agent.state.clock import WallTime
from edgepack.host.files import set_mode
from edgepack.state.reported import Answer, ReportedProblem

# How the link is, for ``edge-agent status``: below the folder ``state``.
FILE = "broker.json"


def make_link(configuration: Configuration, session: int, wall: WallTime) -> Link | None:
    """The link, or ``None`` without a broker; ``session`` counts the starts of the agent."""
    one = configuration
    if one.broker is None:
        return None
    # A device without a broker is spared the client's memory.
    from edge_agent.link.mqtt import MqttLink

    return MqttLink(one.broker, one.device, one.groups, session, now=wall.now)


def problems_of(link: Link | None) -> tuple[ReportedProblem, ...]:
    """What the broker refuses although there is a connection. That there is none cannot be reported to it."""
    if link is None or link.status.state is not LinkState.CONNECTED or link.status.reason is None:
        return ()
    return (ReportedProblem(link.status.broker, Answer.FAILED, link.status.reason),)


class LinkCopy:
    """A copy of how the link is, in ``folder``; nothing depends on it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._last: LinkStatus | None = LinkStatus(LinkState.CLOSED)  # a copy of an earlier agent may be there

    def changed(self, link: Link | None) -> bool:
        """Write the copy where it is another one than before."""
        status = None if link is None else link.status
        if status == self._last:
            return False
        self._last = status
        with suppress(OSError):
            if status is None:
                self._path.unlink(missing_ok=True)
                return True
            temporary = self._path.with_name(f"{FILE}.tmp")
            temporary.write_text(json.dumps(status.to_json()))
            set_mode(temporary, 0o600)
            temporary.replace(self._path)
        return True


def said_of_broker(device: Device) -> dict[str, object] | None:
    """How the link of the device's agent is, if one runs and has one; writes nothing."""
    try:
        if not runs(device.root):
            return None
        found = json.loads((device.root / "state" / FILE).read_bytes())
    except (OSError, ValueError):  # it has told nothing yet, or it may not be read
        return None
    return found if isinstance(found, dict) else None
