"""Telling systemd how the agent is: ready, reloading, alive, stopping (sd_notify(3), by its plain protocol)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress


class Notifier:
    """Sends to the socket that the environment names; without one every call does nothing.

    What the environment says is taken out of it: what the agent starts must not speak for it.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        usec = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "") or str(os.getpid())
        # sd_notify(3): a leading "@" stands for the zero byte of an abstract address.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._status = ""
        self.watchdog_seconds = int(usec) / 1e6 if usec.isdecimal() and int(usec) and pid == str(os.getpid()) else None
        """How often systemd wants to hear from the agent; ``None`` when it does not."""

    def ready(self) -> None:
        """The agent has begun, or has read its configuration again."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The agent reads its configuration again."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self) -> None:
        """The agent works."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The agent ends."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """What ``systemctl status`` shows; sent when it has changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def _send(self, text: str) -> None:
        if self._address:
            # Nobody listens any more, or is slow: the agent goes on.
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), self._address)
