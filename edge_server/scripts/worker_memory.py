"""Memory that the server and one worker share: the progress of each slot, and answers that are not sent yet.

The worker joins the answers of short calls in one send. If the next call hangs or crashes, the answers before it must
neither wait nor be lost, and the server must know which calls had begun. Both are in this memory, which the server
reads without the worker's help.

Each slot has a block: a word with the number of the call that was begun last, a word with the number of a call that has
exceeded its time, and a byte for each of the slot's next CALLS_MARKED calls, which the server sets to cancel the call.
Words are written whole (8 aligned bytes); each has one writer.
"""

from __future__ import annotations

import mmap
import os

from edge_server.config.sizes import SIZES

CALLS_MARKED = 256
_BLOCK = 512
_SPILL = SIZES.worker_answers
# Words before the blocks: how many bytes of answers wait, and how often they have been sent.
_LENGTH, _TURN = 0, 1
_BLOCKS = 64


class WorkerMemory:
    """The shared memory of one worker with ``slots`` slots."""

    def __init__(self, descriptor: int, slots: int) -> None:
        self._spill = _BLOCKS + slots * _BLOCK
        self._memory = mmap.mmap(descriptor, self.size(slots))
        self._bytes = memoryview(self._memory)
        self._words = self._bytes.cast("Q")
        self._filled = 0

    @staticmethod
    def size(slots: int) -> int:
        """How many bytes the memory of that many slots needs."""
        return _BLOCKS + slots * _BLOCK + _SPILL

    @classmethod
    def create(cls, slots: int) -> tuple[WorkerMemory, int]:
        """New memory and its descriptor, which the caller closes."""
        descriptor = os.memfd_create("edge-server-worker", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, cls.size(slots))
        return cls(descriptor, slots), descriptor

    # The worker's side.

    def begin(self, slot: int, number: int) -> bool:
        """Note that the call begins; False when it was cancelled."""
        block = _BLOCKS + slot * _BLOCK
        if self._bytes[block + 16 + number % CALLS_MARKED]:
            return False
        self._words[block >> 3] = number
        return True

    def overdue(self, slot: int) -> int:
        """The number of the slot's call that has exceeded its time."""
        return self._words[(_BLOCKS + slot * _BLOCK + 8) >> 3]

    def keep(self, frame: bytes) -> bool:
        """Add an answer to those that wait to be sent; False when there is no room."""
        start = self._spill + self._filled
        filled = self._filled + len(frame)
        if filled > _SPILL:
            return False
        self._bytes[start : start + len(frame)] = frame
        self._words[_LENGTH] = self._filled = filled
        return True

    def waiting(self) -> memoryview:
        """The answers that wait."""
        return self._bytes[self._spill : self._spill + self._filled]

    def sent(self) -> None:
        """Note that all waiting answers were sent."""
        self._words[_TURN] += 1
        self._words[_LENGTH] = self._filled = 0

    # The server's side.

    def begun(self, slot: int) -> int:
        """The number of the call that the slot began last; 0 when it began none."""
        return self._words[(_BLOCKS + slot * _BLOCK) >> 3]

    def interrupt(self, slot: int, number: int) -> None:
        """Note that the call has exceeded its time."""
        self._words[(_BLOCKS + slot * _BLOCK + 8) >> 3] = number

    def take_back(self, slot: int, number: int, taken: bool) -> None:
        """Say whether that call must not begin."""
        self._bytes[_BLOCKS + slot * _BLOCK + 16 + number % CALLS_MARKED] = taken

    def peek(self) -> bytes:
        """Answers that wait to be sent; the worker may send them at the same time, so they may come twice."""
        turn, length = self._words[_TURN], self._words[_LENGTH]
        if length > _SPILL:
            return b""  # the script wrote here
        waiting = bytes(self._bytes[self._spill : self._spill + length])
        return waiting if self._words[_TURN] == turn else b""

    def close(self) -> None:
        """Free the memory."""
        self._words.release()
        self._bytes.release()
        self._memory.close()
