"""What a broker must let a device do, as Mosquitto's ``acl_file`` has it (mosquitto.conf(5))."""

from __future__ import annotations

from edgepack.state.topics import DeviceTopics, group_desired
from packager.fleet.device import Device


def acl_lines(device: Device, user: str | None = None) -> tuple[str, ...]:
    """The lines for ``device``, which logs in as ``user``, by default its name: its own topics, and no others.

    It reads what it is told and writes what it tells, so that one device cannot speak for another.
    """
    topics = DeviceTopics(device.name)
    reads = (topics.desired, topics.command, topics.status, *map(group_desired, device.groups))
    writes = (topics.reported, topics.status, topics.events)
    rights = dict.fromkeys(reads, "read") | dict.fromkeys(writes, "write")
    rights[topics.status] = "readwrite"  # by which it finds out that another device has its name
    return f"user {user or device.name}", *(f"topic {right} {topic}" for topic, right in rights.items())
