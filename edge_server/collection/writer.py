"""The thread that writes collected rows, so that no answer waits for a disk."""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_server.collection.ring import PARTS, Ring
from edge_server.collection.table import encode, encode_header
from edge_server.config.sizes import SIZES

_log = logging.getLogger(__name__)

MOST_ROWS = 100_000
MOST_BYTES = SIZES.collected
GATHER_SECONDS = 0.05
REST = 3.0  # pause for each second of work: the thread takes a quarter of a core at most
REPORT_SECONDS = 60.0
_CLOSE_SECONDS = 5.0


# A file's path below the ring's folder, its header, and rows.
Part = tuple[str, Sequence[str], Iterable[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one call: ``make`` is called in the thread and returns the rows for each file.

    ``size`` is about how many bytes it holds, ``count`` how many rows.
    """

    make: Callable[[], Iterable[Part]]
    size: int
    count: int


class Writer:
    """Takes rows from any thread, and writes them in the order in which they came.

    The queue is bounded. Rows beyond it are dropped, as are those that cannot be written; both are counted in the log,
    once a minute at most.
    """

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._queue: queue.SimpleQueue[Rows | None] = queue.SimpleQueue()
        # Changed by several threads without a lock: a lost update shifts the bound a little, until the queue is empty.
        self._waiting_bytes = 0
        self._waiting_rows = 0
        self._dropped = 0
        self._why = ""
        self._reported = float("-inf")
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closed = False

    def put(self, rows: Rows) -> None:
        """Queue rows; returns at once."""
        if self._waiting_bytes + rows.size > MOST_BYTES or self._waiting_rows + rows.count > MOST_ROWS or self._closed:
            self._dropped += rows.count
            self._why = "they come faster than they are written"
            return
        self._waiting_bytes += rows.size
        self._waiting_rows += rows.count
        self._queue.put(rows)
        if self._thread is None:
            self._begin()

    def close(self) -> None:
        """Write the queued rows, for five seconds at most, and end the thread."""
        self._closed = True
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._queue.put(None)
            thread.join(_CLOSE_SECONDS)
        self._report(time.monotonic() + REPORT_SECONDS)

    def _begin(self) -> None:
        # Not before the first rows: a thread does not live on in a forked process.
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="collection", daemon=True)
                self._thread.start()
                atexit.register(self.close)

    def _run(self) -> None:
        going = True
        while going:
            batch = [self._queue.get()]
            if batch[0] is not None:
                # Rows that come close together share one lock and one write.
                time.sleep(0 if self._closed else GATHER_SECONDS)
            while not self._queue.empty():
                batch.append(self._queue.get())
            rows = [one for one in batch if one is not None]
            going = len(rows) == len(batch)
            began = time.thread_time()
            self._write(rows)
            if going and not self._closed:
                time.sleep(min(REST * (time.thread_time() - began), 1.0))
            if going and self._queue.empty():
                self._waiting_bytes = self._waiting_rows = 0
            self._report(time.monotonic())

    def _write(self, batch: list[Rows]) -> None:
        parts: dict[tuple[str, bytes], list[bytes]] = {}
        taken = held = 0
        for rows in batch:
            self._waiting_bytes -= rows.size
            self._waiting_rows -= rows.count
            try:
                made = [((path, encode_header(tuple(header))), encode(lines)) for path, header, lines in rows.make()]
            except Exception as error:  # noqa: BLE001 - a script may hand over anything; the thread must go on
                self._dropped += rows.count
                self._why = f"they cannot be written as text ({type(error).__name__})"
                continue
            # Yield to the thread that answers, which would wait for milliseconds otherwise.
            time.sleep(0)
            size = sum(len(lines) for _, lines in made)
            if held + size > self._ring.quota_bytes // PARTS:
                self._append(parts, taken)
                parts, taken, held = {}, 0, 0
            for key, lines in made:
                parts.setdefault(key, []).append(lines)
            taken += rows.count
            held += size
        self._append(parts, taken)

    def _append(self, parts: dict[tuple[str, bytes], list[bytes]], taken: int) -> None:
        if not parts:
            return
        try:
            if self._ring.append({key: b"".join(lines) for key, lines in parts.items()}):
                self._dropped += 1
                self._why = "they are larger than the quota"
        except OSError as error:
            self._dropped += taken
            self._why = f"the folder does not take them ({error.strerror})"

    def _report(self, now: float) -> None:
        if self._dropped and now - self._reported >= REPORT_SECONDS:
            dropped, self._dropped, self._reported = self._dropped, 0, now
            _log.warning("collected rows were dropped: %s", self._why, extra={"rows": dropped})
