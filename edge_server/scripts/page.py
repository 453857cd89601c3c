"""Memory that the server and one worker share: how far each lane is, and answers that were not sent yet.

The worker joins the answers of short calls in one send. Should the next call hang or crash, the answers before it must
neither wait nor be lost, and the server must know which calls had begun: both are in this memory, where the server
finds them without the worker's help.

Each lane has a block: a word with the number of the call that was begun last, a word with the number of a call whose
time is over, and a byte for each of the lane's next SLOTS calls, which the server sets when it takes the call back.
Words are written whole (8 aligned bytes); each has one writer.
"""

from __future__ import annotations

import mmap
import os

SLOTS = 256
_BLOCK = 512
_SPILL = 64 * 1024
# Words before the blocks: how many bytes of answers wait, and how often they have been sent.
_LENGTH, _TURN = 0, 1
_BLOCKS = 64


class SharedPage:
    """The shared memory of one worker with `lanes` lanes."""

    def __init__(self, descriptor: int, lanes: int) -> None:
        self._spill = _BLOCKS + lanes * _BLOCK
        self._memory = mmap.mmap(descriptor, self.size(lanes))
        self._bytes = memoryview(self._memory)
        self._words = self._bytes.cast("Q")
        self._filled = 0

    @staticmethod
    def size(lanes: int) -> int:
        """How many bytes the memory of that many lanes needs."""
        return _BLOCKS + lanes * _BLOCK + _SPILL

    @classmethod
    def create(cls, lanes: int) -> tuple[SharedPage, int]:
        """A new page and its descriptor, which the caller closes."""
        descriptor = os.memfd_create("edge-server-worker", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, cls.size(lanes))
        return cls(descriptor, lanes), descriptor

    # The worker's side.

    def begin(self, lane: int, number: int) -> bool:
        """Note that the call begins; False when it was taken back."""
        block = _BLOCKS + lane * _BLOCK
        if self._bytes[block + 16 + number % SLOTS]:
            return False
        self._words[block >> 3] = number
        return True

    def overdue(self, lane: int) -> int:
        """The number of the lane's call whose time is over."""
        return self._words[(_BLOCKS + lane * _BLOCK + 8) >> 3]

    def keep(self, frame: bytes) -> bool:
        """Put an answer beside those that wait to be sent; False when there is no room."""
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
        """All answers that waited were sent."""
        self._words[_TURN] += 1
        self._words[_LENGTH] = self._filled = 0

    # The server's side.

    def begun(self, lane: int) -> int:
        """The number of the call that the lane began last; 0 when it began none."""
        return self._words[(_BLOCKS + lane * _BLOCK) >> 3]

    def interrupt(self, lane: int, number: int) -> None:
        """Say that the time of that call is over."""
        self._words[(_BLOCKS + lane * _BLOCK + 8) >> 3] = number

    def take_back(self, lane: int, number: int, taken: bool) -> None:
        """Say whether that call must not begin."""
        self._bytes[_BLOCKS + lane * _BLOCK + 16 + number % SLOTS] = taken

    def peek(self) -> bytes:
        """Answers that wait to be sent; the worker may send them at the same time, so they may come twice."""
        turn, length = self._words[_TURN], self._words[_LENGTH]
        if length > _SPILL:
            return b""  # the script wrote here
        waiting = bytes(self._bytes[self._spill : self._spill + length])
        return waiting if self._words[_TURN] == turn else b""

    def close(self) -> None:
        """Give the memory back."""
        self._words.release()
        self._bytes.release()
        self._memory.close()
