"""A wire to a server that breaks connections after a number of bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def breaking(target: int, budgets: list[int] | None = None, *, every: int | None = None) -> Iterator[int]:
    """A wire to the port ``target``, itself a port.

    Its next connections break after as many bytes have gone there as ``budgets`` say, which are taken from it; or
    ``every`` one after so many bytes in either direction.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    left = [] if budgets is None else budgets

    def pump(source: socket.socket, sink: socket.socket, budget: list[int]) -> None:
        try:
            while data := source.recv(65536):
                if budget and sum(budget) < len(data):
                    break
                if budget:
                    budget[0] -= len(data)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def accept() -> None:
        while True:
            try:
                near = listener.accept()[0]
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", target))
            there = [left.pop(0)] if left else [] if every is None else [every]
            back = [] if every is None else [every]
            threading.Thread(target=pump, args=(near, far, there), daemon=True).start()
            threading.Thread(target=pump, args=(far, near, back), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.close()
