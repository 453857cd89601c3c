"""How devices are shown in tables."""

from __future__ import annotations

from packager.fleet.device import Device


def device_row(device: Device) -> dict[str, object]:
    """The row of a device."""
    return {
        "name": device.name, "platform": device.platform, "groups": " ".join(device.groups),
        "key": f"{device.key.id[:12]}…", "added": device.added,
    }  # fmt: skip
