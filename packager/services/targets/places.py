"""Where a workspace keeps what it has of services beside their records."""

from __future__ import annotations

# The folder of the device that a workspace has on its own machine.
LOCAL_DEVICE = "device"
# The folder of what a workspace keeps of its services: locks, copies of sources, how they were last.
SERVICES = "services"
