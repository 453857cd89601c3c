"""The topics of a broker by which a device is told what to run, and tells what it runs.

``desired`` and ``reported`` are retained and sent with QoS 1. ``status`` is the last will: it carries the session
counter of the connection that it is about, so that the late death of an earlier one is ignored.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from edgepack.names import check_device_name, check_group_name

ROOT = "edgepack/v1"
# The scope of the documents that are for one device alone, and of what an operator does on the device itself.
DEVICE = "device"
COMMAND = "command"
_GROUP = "group "


@dataclass(frozen=True)
class DeviceTopics:
    """The topics of the device ``name``; raises ``InvalidReferenceError`` for a name that no device may have."""

    name: str

    def __post_init__(self) -> None:
        check_device_name(self.name)

    def _topic(self, last: str) -> str:
        return f"{ROOT}/devices/{self.name}/{last}"

    @property
    def desired(self) -> str:
        """What the device is to run; retained."""
        return self._topic("desired")

    @property
    def reported(self) -> str:
        """What the device runs; retained."""
        return self._topic("reported")

    @property
    def status(self) -> str:
        """Whether the device is connected; retained, and its last will."""
        return self._topic("status")

    @property
    def events(self) -> str:
        """What happened on the device."""
        return self._topic("events")

    @property
    def command(self) -> str:
        """What the device is asked to do once."""
        return self._topic("command")


def group_desired(group: str) -> str:
    """The topic of what all devices of ``group`` are to run; retained. Raises ``InvalidReferenceError``."""
    return f"{ROOT}/groups/{check_group_name(group)}/desired"


def group_scope(group: str) -> str:
    """The scope of the documents of ``group``."""
    return f"{_GROUP}{group}"


def group_of(scope: str) -> str | None:
    """The group whose documents have this ``scope``; ``None`` for another scope."""
    return scope.removeprefix(_GROUP) if scope.startswith(_GROUP) else None


def scope_of(topic: str, device: str, groups: Collection[str]) -> str | None:
    """The scope of a document that came by ``topic`` to ``device``, which is in ``groups``, or ``None``."""
    if topic == DeviceTopics(device).desired:
        return DEVICE
    return next((group_scope(group) for group in groups if topic == group_desired(group)), None)
