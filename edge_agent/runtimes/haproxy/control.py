"""HAProxy's own socket: one command, one answer."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from edgepack.errors import RuntimeFailedError

SOCKET = "admin.sock"
TIMEOUT_SECONDS = 5.0


class Control:
    """The socket of the process in ``folder``; every call raises ``RuntimeFailedError`` where nothing answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ask(self, command: str) -> str:
        """What HAProxy answers to one command."""
        try:
            # By the folder's descriptor: the path of a socket has at most 107 bytes.
            opened = os.open(self.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as one:
                    one.settimeout(TIMEOUT_SECONDS)
                    one.connect(f"/proc/self/fd/{opened}/{SOCKET}")
                    one.sendall(command.encode() + b"\n")
                    found = bytearray()
                    while data := one.recv(65536):
                        found += data
            finally:
                os.close(opened)
        except OSError as error:
            raise RuntimeFailedError(f"does not answer ({error})", where=f"router in {self.folder}") from error
        return found.decode("utf-8", "replace").strip()

    def tell(self, command: str, answer: str = "") -> None:
        """Raise ``RuntimeFailedError`` unless the answer is empty, or has the word ``answer``."""
        said = self.ask(command)
        if (answer and answer not in said) or (said and not answer):
            first = command.partition("\n")[0]
            raise RuntimeFailedError(f"did not take {first!r}: {said[:200]}", where=f"router in {self.folder}")

    def info(self) -> Mapping[str, str]:
        """What it says of itself."""
        lines = (line.partition(": ") for line in self.ask("show info").splitlines())
        return {key: value for key, _, value in lines}
