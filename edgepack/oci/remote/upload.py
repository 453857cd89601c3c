"""A blob's bytes to a registry (distribution-spec 1.1, "Pushing blobs")."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlencode

from edgepack.errors import (
    DigestMismatchError,
    NoRepositoryError,
    RegistryError,
    RegistryUnavailableError,
    SizeMismatchError,
)
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.remote.origin import NO_REGISTRY
from edgepack.oci.remote.session import Session, error_code
from edgepack.oci.remote.transport import Response
from edgepack.oci.sources import BlobSource

_log = logging.getLogger(__name__)

_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
# The session is gone, was never there, or the registry could not take it just now.
_LOST = frozenset({404, 408, 416, 429, 500, 502, 503, 504})
_LOST_CODES = frozenset({"BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "RANGE_INVALID"})
# What is asked of a registry at once after breaks is not less, and a piece of it is what the system is handed at once.
_SMALLEST = 256 << 10
_PIECE = 256 << 10
_OCTETS = {"Content-Type": "application/octet-stream"}


class _LostError(Exception):
    """The upload cannot go on in this request; ``retry_after`` is the registry's header."""

    def __init__(self, retry_after: str | None, reason: RegistryUnavailableError) -> None:
        super().__init__()
        self.retry_after = retry_after
        self.reason = reason


class BlobUpload:
    """One blob on its way: a mount when another repository has it, one PUT when it is small, PATCHes otherwise.

    The bytes are hashed as they are read and the last piece is held back until they are known to be right, so that a
    blob that is not what its descriptor says never ends up in the registry.
    """

    def __init__(
        self, session: Session, descriptor: Descriptor, source: BlobSource, present: Callable[[], bool]
    ) -> None:
        self._session = session
        self._descriptor = descriptor
        self._source = source
        self._present = present
        self._what = f"blob {descriptor.digest}"
        self._repository = session.reference.name
        self._least = _SMALLEST
        self._location: str | None = None
        # Whether it went on from the middle of a request that broke, by what the registry said that it kept.
        self._bridged = False
        self._distrusts = False
        self._handed_over = 0
        # What the registry has confirmed, and what it will have when the request under way succeeds.
        self._position = 0
        self._hash = hashlib.sha256()
        self._sent_hash = self._hash

    def run(self, mount_from: Sequence[str]) -> None:
        """Bring the blob over; raises what the source raises, ``VerificationError`` and ``RegistryError``.

        Where the registry kept its session the upload goes on from what it kept; where it lost it the blob starts
        again; either at most ``policy.attempts`` times without progress. After a break the requests are smaller, each
        in a connection of its own: something on the way may cut them at a number of bytes.
        """
        if any(self._mounted(repository) for repository in mount_from):
            return
        failures = restarts = 0
        while True:
            before, chunk = self._position, self._chunk
            try:
                if failures:
                    if self._present():
                        return
                    if not self._recovered():
                        restarts += 1
                        self._restart()
                    before = self._position
                self._advance()
                return
            except DigestMismatchError:
                if not self._bridged:
                    raise
                # What the registry kept was not what it had been sent.
                self._distrusts = True
                self._restart()
                continue
            except _LostError as error:
                lost = error
            except RegistryUnavailableError as error:
                if not failures:
                    raise
                lost = _LostError(None, error)  # it is away for longer: it may be restarting
            failures = 1 if self._position > before else failures + 1
            if self._chunk < chunk:
                restarts = 0
            _log.info("upload of %s broke off at byte %d", self._what, self._position)
            if failures >= self._session.policy.attempts or restarts >= self._session.policy.attempts:
                raise lost.reason from None
            self._session.http.wait(failures, lost.retry_after)

    @property
    def _chunk(self) -> int:
        return max(self._least, self._session.chunk)

    def _mounted(self, repository: str) -> bool:
        query = urlencode({"mount": str(self._descriptor.digest), "from": repository})
        response = self._session.mount(f"blobs/uploads/?{query}", repository)
        if response is None:
            return False
        response.close()
        if response.status == 201:
            return True
        if response.status == 202:  # the registry does not have it there, and opened a session instead
            self._take_location(response)
        return False

    def _advance(self) -> None:
        if self._location is None:
            response = self._session.send("POST", self._session.url("blobs/uploads/"), {"Content-Length": "0"})
            if response.status == 404:
                repository, code = self._session.reference.repository, error_code(response)
                raise NoRepositoryError(
                    f"the registry has no repository {repository} ({' '.join(filter(None, ('404', code)))})",
                    where=self._repository, hint="create it there, or check its name",
                )  # fmt: skip
            self._take_location(self._session.expect(response, 202, what=self._what))
            response.close()
        size = self._descriptor.size
        if size > self._chunk:
            while self._position < size:
                self._patch(min(self._position + self._chunk, size))
        self._finish()

    def _take_location(self, response: Response) -> None:
        location = response.headers.get("Location")
        if location is None:
            raise RegistryError(
                "the registry opened an upload without a Location", where=self._repository,
                hint=NO_REGISTRY,
            )  # fmt: skip
        self._location = self._session.absolute(location, response)
        least = response.headers.get("OCI-Chunk-Min-Length", "")
        if least.isascii() and least.isdigit():
            self._least = max(self._least, int(least))

    def _patch(self, end: int) -> None:
        headers = {"Content-Range": f"{self._position}-{end - 1}", "Content-Length": str(end - self._position)}
        response = self._send("PATCH", self._location or "", {**_OCTETS, **headers}, end)
        self._check(response, 202, 201, 204)
        match = _RANGE.fullmatch(response.headers.get("Range", f"0-{end - 1}").strip())
        response.close()
        self._take_location(response)
        # Only what the registry says that it has counts: some append whatever comes.
        if match is None or int(match[1]) != end - 1:
            raise self._lost_error(None, "the registry kept another number of bytes than it was sent")
        self._position, self._hash = end, self._sent_hash

    def _finish(self) -> None:
        size, location = self._descriptor.size, self._location or ""
        url = f"{location}{'&' if '?' in location else '?'}digest={self._descriptor.digest}"
        headers = {**_OCTETS, "Content-Length": str(size - self._position)}
        response = self._send("PUT", url, headers, size)
        self._check(response, 201, 204)
        response.close()

    def _send(self, method: str, url: str, headers: dict[str, str], end: int) -> Response:
        if self._session.one_request_each:
            headers = {**headers, "Connection": "close"}
        try:
            return self._session.send(method, url, headers, lambda: self._pieces(end), retry=False)
        except RegistryUnavailableError as error:
            self._ask_for_less()
            raise _LostError(None, error) from None

    def _ask_for_less(self) -> None:
        """Keep below where a connection was cut, of which some more than arrived was handed to the system."""
        session, half = self._session, self._handed_over // 2
        if half >= self._least:
            session.chunk = min(session.chunk, half)
            session.one_request_each = True

    def _check(self, response: Response, *statuses: int) -> None:
        if response.status in statuses:
            return
        if response.status in _LOST:
            response.close()
            raise self._lost_error(response.headers.get("Retry-After"), f"answered {response.status}")
        if response.status == 400:
            code = error_code(response)
            if code in _LOST_CODES:
                raise self._lost_error(None, f"answered 400 {code}")
            if code == "DIGEST_INVALID":
                raise DigestMismatchError("the registry received other bytes", where=self._what, hint="push it again")
            raise self._session.error(400, code, self._what)
        self._session.expect(response, *statuses, what=self._what)

    def _lost_error(self, retry_after: str | None, what: str) -> _LostError:
        reason = RegistryUnavailableError(
            f"the registry lost the upload of {self._what} ({what})", where=self._repository, hint="push it again"
        )
        return _LostError(retry_after, reason)

    def _pieces(self, end: int) -> Iterator[bytes]:
        """The bytes from the confirmed position to ``end``."""
        digest, left = self._hash.copy(), end - self._position
        self._handed_over = 0
        whole = end == self._descriptor.size
        with self._source.open(self._descriptor, self._position) as stream:
            while left:
                data = stream.read(min(_PIECE, left))
                if not data:
                    raise SizeMismatchError(
                        f"ends after {end - left} of {self._descriptor.size} bytes", where=self._what
                    )
                digest.update(data)
                left -= len(data)
                if left == 0 and whole:
                    self._verify(digest.hexdigest(), longer=bool(stream.read(1)))
                self._handed_over += len(data)
                yield data
            if self._position == end and whole:
                self._verify(digest.hexdigest(), longer=bool(stream.read(1)))
        self._sent_hash = digest

    def _verify(self, found: str, *, longer: bool) -> None:
        if longer:
            raise SizeMismatchError(f"is longer than {self._descriptor.size} bytes", where=self._what)
        if found != self._descriptor.digest.hex:
            raise DigestMismatchError(f"the content hashes to sha256:{found}", where=self._what, hint="fetch it again")

    def _recovered(self) -> bool:
        """Ask the registry how much it kept; whether the upload can go on from there.

        That may be more than it confirmed, when a request broke in the middle.
        """
        if self._location is None or self._distrusts:
            return False
        response = self._session.send("GET", self._location)
        response.close()
        match = _RANGE.fullmatch(response.headers.get("Range", "").strip())
        if response.status not in (202, 204) or match is None:
            return False
        kept = int(match[1]) + 1
        # "0-0" means none to some registries and one byte to others.
        if not self._position <= kept <= self._position + self._handed_over or kept == 1:
            return False
        if "Location" in response.headers:
            self._take_location(response)
        if kept > self._position:
            self._hash_until(kept)
            self._bridged = True
        return True

    def _hash_until(self, end: int) -> None:
        with self._source.open(self._descriptor, self._position) as stream:
            while self._position < end:
                data = stream.read(min(LIMITS.chunk_bytes, end - self._position))
                if not data:
                    raise SizeMismatchError(f"ends after {self._position} bytes", where=self._what)
                self._hash.update(data)
                self._position += len(data)

    def _restart(self) -> None:
        self._location, self._position, self._hash = None, 0, hashlib.sha256()
        self._bridged = False
