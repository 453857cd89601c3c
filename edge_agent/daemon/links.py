"""The link of a configuration to its broker."""

from __future__ import annotations

from edge_agent.config.configuration import Configuration
from edge_agent.link.base import Link
from edge_agent.state.clock import WallTime


def make_link(configuration: Configuration, session: int, wall: WallTime) -> Link | None:
    """The link, or ``None`` without a broker; ``session`` counts the starts of the agent."""
    one = configuration
    if one.broker is None:
        return None
    # A device without a broker is spared the client's memory.
    from edge_agent.link.mqtt import MqttLink

    return MqttLink(one.broker, one.device, one.groups, session, now=wall.now)
