"""Leads connections to the service in a network of its own: one thread, no copies beyond a buffer for each direction.

A service gets no socket of the device's network, not even a connection: with one in its hands it could let it go and
connect it to anything that the device can reach (connect(2), ``AF_UNSPEC``).
"""

from __future__ import annotations

import errno
import select
import socket
import struct

_CHUNK = 1 << 18
_TRIAL_SECONDS = 0.1
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection
_TRANSIENT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_FAILED = select.EPOLLHUP | select.EPOLLERR


class _End:
    """One side of a connection: ``pending`` waits to be sent to it; ``ended`` when it sends nothing more."""

    __slots__ = ("closing", "ended", "inner", "mask", "peer", "pending", "ready", "sock")

    def __init__(self, sock: socket.socket, *, inner: bool) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.inner = inner
        self.peer: _End = self
        self.pending = b""
        self.ready = True
        self.ended = False
        self.closing = False
        self.mask = 0


class Forwarder:
    """Takes connections to the loopback ``port`` of the network that this process is in.

    Those of ``probe`` at once; those of ``listener``, the service's address, wait in its queue until ``take`` is
    called, which ``look`` does when the service listens, unless it is ``told``.
    """

    def __init__(
        self, epoll: select.epoll, listener: socket.socket, port: int, probe: socket.socket, *, told: bool = False
    ) -> None:
        self._epoll = epoll
        self._listener = listener
        self._sockets = [probe]  # that connections are taken from
        self._port = port
        self._ends: dict[int, _End] = {}
        self._listening = False
        self.looks = not told
        for one in (probe, listener):
            one.setblocking(False)
        self._listen(True)

    def look(self) -> None:
        """Begin to take the connections of the service's address if the service listens."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
            trial.settimeout(_TRIAL_SECONDS)
            code = trial.connect_ex(("127.0.0.1", self._port))
        if not code:
            self.take()

    def take(self) -> None:
        """Begin to take the connections of the service's address."""
        self.looks = False
        if self._listener.fileno() >= 0 and self._listener not in self._sockets:
            self._again([*self._sockets, self._listener])

    def retire(self) -> None:
        """Take no more connections of the service's address, which others hold too; those that are there go on."""
        self.looks = False
        self._again([one for one in self._sockets if one is not self._listener])

    @property
    def settled(self) -> bool:
        """Whether everything that the service sent was passed on, after it has ended."""
        return all(end.ended if end.inner else not end.pending for end in self._ends.values())

    def handles(self, fd: int) -> bool:
        """Whether events of ``fd`` are for ``handle``."""
        return fd in self._ends or (self._listening and any(fd == one.fileno() for one in self._sockets))

    def handle(self, fd: int, event: int) -> None:
        """Do what ``event`` of ``fd`` calls for."""
        end = self._ends.get(fd)
        if end is None:
            self._accept(next(one for one in self._sockets if one.fileno() == fd))
            return
        try:
            if not end.ready:
                self._connected(end)
            elif event & (select.EPOLLIN | _FAILED) and end.mask & select.EPOLLIN:
                self._read(end)
            if end.sock.fileno() >= 0 and event & (select.EPOLLOUT | _FAILED) and end.mask & select.EPOLLOUT:
                self._write(end)
        except OSError:
            self._drop(end)

    def stop(self) -> None:
        """Take no more connections: the port is free when this returns, unless others hold its socket."""
        self.looks = False
        self._listen(False)
        for one in {*self._sockets, self._listener}:
            one.close()
        self._sockets = []

    def _again(self, sockets: list[socket.socket]) -> None:
        """Take connections from ``sockets`` from here on."""
        listening = self._listening
        self._listen(False)
        self._sockets = sockets
        self._listen(listening)

    def _listen(self, wanted: bool) -> None:
        if wanted != self._listening:
            self._listening = wanted
            for one in self._sockets:
                if wanted:
                    self._epoll.register(one, select.EPOLLIN)
                else:
                    self._epoll.unregister(one)

    def _accept(self, listener: socket.socket) -> None:
        try:
            # First what may not be had: a connection that was taken cannot be given back.
            inner = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        except OSError:
            self._listen(not self._ends)  # not before one of the others ends
            return
        try:
            outer, _ = listener.accept()
        except OSError as error:
            inner.close()
            if error.errno in _TRANSIENT:
                self._listen(not self._ends)
            return
        one, other = _End(outer, inner=False), _End(inner, inner=True)
        one.peer, other.peer = other, one
        self._ends[outer.fileno()], self._ends[inner.fileno()] = one, other
        other.ready = False
        try:
            inner.connect_ex(("127.0.0.1", self._port))
            self._connected(other)
        except OSError:
            self._drop(one)

    def _connected(self, inner: _End) -> None:
        """Begin, if the connection to the service is there; raises ``OSError`` when there will be none."""
        code = inner.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, "")
        try:
            inner.sock.getpeername()
        except OSError:
            self._watch(inner, select.EPOLLOUT)
            return
        inner.ready = True
        self._watch(inner, select.EPOLLIN)
        self._watch(inner.peer, select.EPOLLIN)

    def _read(self, end: _End) -> None:
        peer = end.peer
        try:
            data = end.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        if not data:
            end.ended = True
            self._watch(end, end.mask & ~select.EPOLLIN)
            self._finish(peer)
            return
        try:
            sent = peer.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            peer.pending = data[sent:]
            self._watch(end, end.mask & ~select.EPOLLIN)
            self._watch(peer, peer.mask | select.EPOLLOUT)

    def _write(self, end: _End) -> None:
        try:
            sent = end.sock.send(end.pending)
        except BlockingIOError:
            return
        end.pending = end.pending[sent:]
        if end.pending:
            return
        self._watch(end, end.mask & ~select.EPOLLOUT)
        if not end.peer.ended:
            self._watch(end.peer, end.peer.mask | select.EPOLLIN)
        if end.closing:
            self._finish(end)

    def _finish(self, end: _End) -> None:
        """Tell ``end`` that nothing more comes, once it has everything; close when that is so for both sides."""
        end.closing = True
        if end.pending:
            return
        if end.peer.ended and end.ended and not end.peer.pending:
            self._drop(end, reset=False)
        else:
            end.sock.shutdown(socket.SHUT_WR)

    def _drop(self, end: _End, *, reset: bool = True) -> None:
        for one in (end, end.peer):
            self._watch(one, 0)
            self._ends.pop(one.sock.fileno(), None)
            if reset and one.sock.fileno() >= 0:
                one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            one.sock.close()
        if self._sockets:
            self._listen(True)

    def _watch(self, end: _End, mask: int) -> None:
        """Wait for ``mask``; without any the descriptor is taken out, for an error would be told again and again."""
        if mask == end.mask:
            return
        if not mask:
            self._epoll.unregister(end.sock)
        elif end.mask:
            self._epoll.modify(end.sock, mask)
        else:
            self._epoll.register(end.sock, mask)
        end.mask = mask
