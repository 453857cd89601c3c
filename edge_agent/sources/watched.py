"""A place while one blob is taken from it: its errors told from the store's, its bytes seen, its speed judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, cast

from edge_agent.sources.base import Place
from edge_agent.sources.meter import Meter
from edge_agent.sources.progress import Seen
from edge_agent.sources.refusals import ENDS
from edgepack.errors import EdgepackError, RegistryUnavailableError
from edgepack.oci.copy import StoppedError
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest


class FromPlaceError(Exception):
    """A place failed, with ``error``, and not the store."""

    def __init__(self, error: EdgepackError) -> None:
        super().__init__(str(error))
        self.error = error


class Watched:
    """A blob source that raises ``FromPlaceError`` for what ``place`` raises, and also where it is slow.

    A read raises ``StoppedError`` once it ``is_stopped``, because another blob's failure has ended all.
    """

    def __init__(self, place: Place, seen: Seen, meter: Meter, is_stopped: Callable[[], bool]) -> None:
        self.place = place
        self.seen = seen
        self.meter = meter
        self.is_stopped = is_stopped

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The blob's bytes from ``offset`` on."""
        with ExitStack() as stack:
            with _of_place():
                stream = stack.enter_context(self.place.open(descriptor, offset))
            self.seen.at(descriptor.digest, offset)
            yield cast(BinaryIO, _Stream(stream, self, descriptor.digest, offset))


class _Stream:
    def __init__(self, stream: BinaryIO, by: Watched, digest: Digest, position: int) -> None:
        self._stream = stream
        self._by = by
        self._digest = digest
        self._position = position
        self._began()

    def read(self, amount: int) -> bytes:
        if self._by.is_stopped():
            raise StoppedError
        with _of_place():
            self._check_speed()  # before: what has come is written by now
            data = self._stream.read(amount)
        self._position += len(data)
        self._by.seen.at(self._digest, self._position)
        return data

    def _began(self) -> None:
        self._from, self._since = self._position, self._by.meter.clock() - self._by.meter.waited

    def _check_speed(self) -> None:
        """Raise ``RegistryUnavailableError`` where another source may be quicker; our own waits do not count."""
        meter = self._by.meter
        seconds, came = meter.clock() - meter.waited - self._since, self._position - self._from
        if seconds < meter.caps.slow_seconds:
            return
        if meter.several and came < meter.caps.slow_bytes * seconds:
            raise RegistryUnavailableError(
                f"is slow: {came} bytes of {self._digest} in {seconds:.0f} seconds", where=self._by.place.name,
                hint="try again later",
            )  # fmt: skip
        self._began()


@contextmanager
def _of_place() -> Iterator[None]:
    try:
        yield
    except ENDS:
        raise
    except EdgepackError as error:
        raise FromPlaceError(error) from error
