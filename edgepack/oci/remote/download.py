"""A blob's bytes from a registry, going on by Range where a connection broke."""

from __future__ import annotations

import io
import logging
import re
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError

from edgepack.errors import RegistryUnavailableError, SizeMismatchError
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.remote.session import Session
from edgepack.oci.remote.transport import Response, unavailable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_log = logging.getLogger(__name__)

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class ResumingStream(io.RawIOBase):
    """The bytes of ``descriptor`` from ``offset`` on, not verified except for their number.

    A broken connection is made again, at the same byte, ``policy.attempts`` times without a mebibyte of progress
    between them. Raises ``SizeMismatchError`` as soon as the registry announces or sends another length,
    ``NotFoundError``, ``AuthenticationError`` and ``RegistryUnavailableError``.
    """

    def __init__(self, session: Session, descriptor: Descriptor, offset: int) -> None:
        self._session = session
        self._descriptor = descriptor
        self._position = offset
        self._mark = offset
        self._failures = 0
        self._response: Response | None = None
        if offset < descriptor.size:
            self._response = self._connect()

    def readable(self) -> bool:
        """Always."""
        return True

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
            try:
                if self._response is None:
                    self._response = self._connect()
                data = self._response.raw.read1(min(amount, left, LIMITS.chunk_bytes))
                if not data:
                    raise SizeMismatchError(
                        f"ends after {self._position} of {self._descriptor.size} bytes", where=self._where
                    )
            except HTTPError as error:
                self._lost(error)
                continue
            self._position += len(data)
            return data
        return b""

    def _lost(self, error: HTTPError) -> None:
        url = self._session.base if self._response is None else self._response.url
        if self._response is not None:
            self._response.close()
            self._response = None
        if self._position - self._mark >= LIMITS.chunk_bytes:
            self._failures = 0
        self._mark = self._position
        self._failures += 1
        if self._failures >= self._session.policy.attempts:
            raise unavailable(url, error) from None
        _log.info("%s broke off after %d bytes, going on", self._where, self._position)
        self._session.http.wait(self._failures, None)

    def _connect(self) -> Response:
        """Ask for the rest, from the registry again: the address that it redirected to may have expired."""
        headers = {} if self._position == 0 else {"Range": f"bytes={self._position}-"}
        response = self._session.send("GET", self._session.url(f"blobs/{self._descriptor.digest}"), headers)
        self._session.expect(response, 200, 206, what=self._where)
        try:
            if response.status == 206:
                self._check_range(response)
            else:
                self._check_length(response)
                self._skip(response)
        except BaseException:
            response.close()
            raise
        return response

    def _check_range(self, response: Response) -> None:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != self._position:
            raise RegistryUnavailableError("the registry sent another range than was asked for", where=self._where)
        if match[3] != "*":
            self._check_size(int(match[3]))

    def _check_length(self, response: Response) -> None:
        length = response.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit():
            self._check_size(int(length))

    def _check_size(self, size: int) -> None:
        if size != self._descriptor.size:
            raise SizeMismatchError(
                f"the registry has {size} bytes and the descriptor says {self._descriptor.size}", where=self._where
            )

    def _skip(self, response: Response) -> None:
        """Read past what is here already: the registry does not know Range."""
        left = self._position
        try:
            while left:
                data = response.raw.read1(min(left, LIMITS.chunk_bytes))
                if not data:
                    raise SizeMismatchError(f"ends before byte {self._position}", where=self._where)
                left -= len(data)
        except HTTPError as error:
            raise unavailable(response.url, error) from None

    @property
    def _where(self) -> str:
        return f"blob {self._descriptor.digest}"
