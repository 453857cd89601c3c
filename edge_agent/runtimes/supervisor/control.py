"""What the agent asks of a supervisor while its service runs: one word for each connection to a socket in its folder.

``socket``: a copy of the listening socket (SCM_RIGHTS, unix(7)), so that it outlives this service. ``serve``: lead the
connections of the service's address to it. ``retire``: take no more of them, for another supervisor does. ``release``:
close the listening socket. ``words``: the last that the service wrote. Each is answered, so that the asker knows when
it is done.
"""

from __future__ import annotations

import os
import select
import socket
import struct

from edge_agent.runtimes.supervisor import CONTROL

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing would stay in the supervisor's memory
    from edge_agent.runtimes.supervisor.forward import Forwarder

# Whoever may connect is this user, and sends its word at once.
_PATIENCE_SECONDS = 0.5
_KEPT_BYTES = 2048


class Control:
    """Answers the agent for the service whose folder is ``folder``; ``listener`` is its listening socket, if it has."""

    def __init__(
        self, epoll: select.epoll, folder: str, listener: socket.socket | None, forwarder: Forwarder | None
    ) -> None:
        self._listener = listener
        self._forwarder = forwarder
        self.said = b""
        self._fd = -1
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            os.chdir(folder)  # a socket's path may have 107 bytes, and the folder's more
            self._socket.bind(CONTROL)
            self._socket.listen(8)
        except OSError:  # a disk that is full: the service runs, and can only be stopped before another one starts
            return
        finally:
            os.chdir("/")
        self._fd = self._socket.fileno()
        epoll.register(self._fd, select.EPOLLIN)

    def handles(self, fd: int) -> bool:
        """Whether events of ``fd`` are for ``handle``."""
        return fd == self._fd

    def note(self, data: bytes) -> None:
        """Remember the end of what the service writes."""
        self.said = (self.said + data[-_KEPT_BYTES:])[-_KEPT_BYTES:]

    def handle(self) -> None:
        """Answer one connection."""
        try:
            asker, _ = self._socket.accept()
        except OSError:
            return
        try:
            asker.settimeout(_PATIENCE_SECONDS)
            # unix(7): the process, the user and the group of who has connected.
            credentials = asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if struct.unpack("3i", credentials)[1] == os.geteuid():
                self._answer(asker, asker.recv(16))
        except OSError:
            pass
        finally:
            asker.close()

    def _answer(self, asker: socket.socket, word: bytes) -> None:
        forwarder, listener = self._forwarder, self._listener
        if word == b"words":
            asker.sendall(self.said or b"\n")
            return
        if word == b"socket" and listener is not None:
            socket.send_fds(asker, [b"+"], [listener.fileno()])
            return
        if word == b"serve" and forwarder is not None:
            forwarder.take()
        elif word == b"retire" and forwarder is not None:
            forwarder.retire()
        elif word == b"release":
            if forwarder is not None:
                forwarder.stop()
            elif listener is not None:
                listener.close()
            self._listener = None
        else:
            asker.sendall(b"-")
            return
        asker.sendall(b"+")
