"""Flow control of one connection: pauses reading while answers are due, and notices a client that does not read."""

from __future__ import annotations

import asyncio

# A client that reads an answer at this rate is never cut off, however long it is.
_LEAST_BYTES_PER_SECOND = 4 * 1024


class FlowControl:
    """``stalled``: the client does not read what was written for it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._paused = False
        self._unsent = 0  # unsent bytes at the last check
        self.stalled = False

    def pause_reading(self) -> None:
        """Read no more until ``resume_reading``."""
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading, if it was paused."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self.stalled = True
        self._unsent = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """The transport's buffer is nearly empty."""
        self.stalled = False

    def end_writing(self) -> bool:
        """Send the end of all answers and go on reading; False where that is not possible, or the client is gone."""
        try:
            if not self._transport.can_write_eof():
                return False
            self._transport.write_eof()
        except OSError:
            return False
        self.resume_reading()
        return True

    def moves(self, seconds: float) -> bool:
        """Whether the client took enough of what was written during the last ``seconds``."""
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        return before - self._unsent >= seconds * _LEAST_BYTES_PER_SECOND
