"""A blob's bytes from a registry, going on by Range where a connection broke, or by the whole where it refuses that."""

from __future__ import annotations

import io
import logging
import re
import time
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError, ProtocolError

from edgepack.errors import EdgepackError, RegistryUnavailableError, SizeMismatchError
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.remote.session import Session
from edgepack.oci.remote.transport import Response, unavailable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_log = logging.getLogger(__name__)
_HELD_SECONDS = 1.0

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
# Answers that the whole blob would get too; any other refusal may be of the Range alone (RFC 9110, 14.2).
_REFUSED_WHOLE = frozenset({401, 404, 408, 429, 503})


class ResumingStream(io.RawIOBase):
    """The bytes of ``descriptor`` from ``offset`` on, not verified except for their number.

    A broken connection is made again, at the same byte, ``policy.attempts`` times with less than ``policy.progress``
    bytes between them; also one whose body ends early without a length that would tell, and to a registry that is away
    for a moment. What came before an error is given first, and what has come for a second is not held back for more:
    whoever writes it down has it when the next one breaks. A registry that cannot give the rest is asked for the whole,
    and what is here already is passed over. Raises
    ``SizeMismatchError`` as soon as the registry announces another length, ``NotFoundError``, ``AuthenticationError``
    and ``RegistryUnavailableError``.
    """

    def __init__(self, session: Session, descriptor: Descriptor, offset: int) -> None:
        self._session = session
        self._meter = session.policy.meter
        self._descriptor = descriptor
        self._position = offset
        self._mark = offset
        self._failures = 0
        self._ranges = True
        # How many bytes of the present answer are here already.
        self._behind = 0
        self._response: Response | None = None
        self._error: EdgepackError | None = None
        if offset < descriptor.size:
            self._response = self._connect()

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, as many as come within a second; none at the end."""
        if self._error is not None:
            raise self._error
        parts: list[bytes] = []
        left = self._descriptor.size if size < 0 else size
        end = time.monotonic() + _HELD_SECONDS
        while left and (size < 0 or not parts or time.monotonic() < end):
            try:
                data = self._next(left)
            except EdgepackError as error:
                if not parts:
                    raise
                self._error = error
                break
            if not data:
                break
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def readall(self) -> bytes:
        """All that is left."""
        return self.read()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill ``buffer`` with what comes next; 0 at the end."""
        view = memoryview(buffer).cast("B")
        data = self._next(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Drop the connection."""
        if self._response is not None:
            self._response.close()
            self._response = None
        super().close()

    def _next(self, amount: int) -> bytes:
        left = self._descriptor.size - self._position
        while left > 0:
            if self._response is None:
                self._reconnect()
                continue
            try:
                data = self._response.raw.read1(min(self._behind or min(amount, left), self._piece()))
                if not data:
                    raise ProtocolError("the body ended early")
            except HTTPError as error:
                self._lost(unavailable(self._response.url, error))
                continue
            if self._meter is not None:
                self._meter.took(len(data))
            if self._behind:
                self._behind -= len(data)
                continue
            self._position += len(data)
            return data
        return b""

    def _piece(self) -> int:
        return LIMITS.chunk_bytes if self._meter is None else min(LIMITS.chunk_bytes, max(1, self._meter.piece()))

    def _reconnect(self) -> None:
        try:
            self._response = self._connect()
        except RegistryUnavailableError as error:  # it may be restarting
            self._lost(error)

    def _lost(self, error: RegistryUnavailableError) -> None:
        """Wait before the next try, or raise ``error`` when there were enough."""
        if self._response is not None:
            self._response.close()
            self._response = None
        if self._position - self._mark >= self._session.policy.progress:
            self._failures = 0
        self._mark = self._position
        self._failures += 1
        if self._failures >= self._session.policy.attempts:
            raise error from None
        _log.info("%s broke off after %d bytes, going on", self._where, self._position)
        self._session.http.wait(self._failures, None)

    def _connect(self) -> Response:
        """Ask for the rest, from the registry again: the address that it redirected to may have expired."""
        if self._position and self._ranges:
            response = self._get({"Range": f"bytes={self._position}-"})
            if response.status == 206 and self._continues(response):
                self._behind = 0
                return response
            if response.status == 200:
                return self._whole(response)
            if response.status in _REFUSED_WHOLE:
                self._session.expect(response, 200, 206, what=self._where)
            response.close()
            self._ranges = False
            _log.info("%s does not give a part of %s, asking for the whole", self._session.base, self._where)
        return self._whole(self._get({}))

    def _get(self, headers: dict[str, str]) -> Response:
        return self._session.send("GET", self._session.url(f"blobs/{self._descriptor.digest}"), headers)

    def _continues(self, response: Response) -> bool:
        """Whether a 206 has the bytes that were asked for."""
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != self._position:
            return False
        if match[3] != "*":
            self._check_size(int(match[3]), response)
        return True

    def _whole(self, response: Response) -> Response:
        self._session.expect(response, 200, what=self._where)
        length = response.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit():
            self._check_size(int(length), response)
        self._behind = self._position
        return response

    def _check_size(self, size: int, response: Response) -> None:
        if size != self._descriptor.size:
            response.close()
            raise SizeMismatchError(
                f"the registry has {size} bytes and the descriptor says {self._descriptor.size}", where=self._where
            )

    @property
    def _where(self) -> str:
        return f"blob {self._descriptor.digest}"
