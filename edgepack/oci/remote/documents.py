"""The manifests and indexes of one repository: fetched whole and verified, put, remembered."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from edgepack.documents import parse_foreign
from edgepack.errors import DigestMismatchError, InvalidDocumentError, RegistryUnavailableError, TooLargeError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Index, Manifest, check_schema
from edgepack.oci.reference import checked_tag
from edgepack.oci.remote.origin import NO_REGISTRY
from edgepack.oci.remote.session import Session, error_code
from edgepack.oci.remote.transport import Response

_log = logging.getLogger(__name__)

TYPES = mediatypes.INDEXES | mediatypes.MANIFESTS
_ACCEPT = {
    "Accept": ", ".join((mediatypes.INDEX, mediatypes.MANIFEST, mediatypes.DOCKER_INDEX, mediatypes.DOCKER_MANIFEST))
}
# The distribution-spec says 201; each of these has been seen.
_TAKEN = (201, 200, 202, 204)


class Documents:
    """The manifests and indexes of the session's repository. Not for several threads at once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        # The last ones, verified: reading one after resolving it costs no second request.
        self._kept: dict[Digest, bytes] = {}

    def fetch(self, target: str) -> Descriptor:
        """What a tag or digest names, its bytes verified and remembered.

        Raises what ``Session.expect`` raises, ``DigestMismatchError`` when the bytes are not those of the digest asked
        for or announced, ``InvalidDocumentError`` when they are neither a manifest nor an index.
        """
        attempts = self._session.policy.attempts
        for attempt in range(1, attempts + 1):
            response = self._send("GET", target, _ACCEPT)
            self._session.expect(response, 200, what=f"manifest {target}")
            try:
                return self._checked(target, response, response.read(LIMITS.manifest_bytes))
            except RegistryUnavailableError:
                if attempt == attempts:
                    raise
            except (DigestMismatchError, InvalidDocumentError):
                # Without a length a broken connection looks like the end.
                if response.delimited or attempt == attempts:
                    raise
            self._session.http.wait(attempt, None)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def read(self, descriptor: Descriptor) -> bytes:
        """The verified bytes; raises as ``fetch`` does, and ``TooLargeError``."""
        if descriptor.size > LIMITS.manifest_bytes:
            raise TooLargeError(
                f"is {descriptor.size} bytes; at most {LIMITS.manifest_bytes} are read", where=descriptor.digest
            )
        if descriptor.digest not in self._kept:
            self.fetch(str(descriptor.digest))
        return self._kept[descriptor.digest]

    def has(self, descriptor: Descriptor) -> bool:
        """Whether it is there, with the announced size."""
        response = self._send("HEAD", str(descriptor.digest), _ACCEPT)
        return self._session.has_answered(
            response, descriptor, f"manifest {descriptor.digest}",
            lambda: self._send("GET", str(descriptor.digest), _ACCEPT),
        )  # fmt: skip

    def put(self, target: str, data: bytes, media_type: str) -> Response:
        """Put the document under a tag or its digest; the answer, closed. Raises ``DigestMismatchError`` too."""
        response = self._send("PUT", target, {"Content-Type": media_type}, data)
        self._session.expect(response, *_TAKEN, what=f"manifest {target}")
        response.close()
        digest = Digest.of(data)
        if response.headers.get("Docker-Content-Digest", str(digest)) != str(digest):
            raise DigestMismatchError(
                "the registry stored other bytes",
                where=f"{self._session.reference.name}@{digest}",
                hint="push it again",
            )
        self._keep(digest, data)
        return response

    def _send(self, method: str, target: str, headers: Mapping[str, str], data: bytes | None = None) -> Response:
        """Send the request, again where another client is just writing the same name.

        Docker's registry reads a tag that is being written as an empty digest, and answers 400 DIGEST_INVALID.
        """
        url = self._session.url(f"manifests/{target if target.startswith('sha256:') else checked_tag(target)}")
        for attempt in range(1, self._session.policy.attempts + 1):
            response = self._session.send(method, url, headers, data)
            if response.status != 400 or method == "HEAD":
                break
            code = error_code(response)
            if code != "DIGEST_INVALID" or attempt == self._session.policy.attempts:
                raise self._session.error(400, code, f"manifest {target}")
            _log.info("%s is being written by another client, attempt %d", target, attempt)
            self._session.http.wait(attempt, None)
        return response

    def _checked(self, target: str, response: Response, data: bytes) -> Descriptor:
        where, digest = self._session.reference.name, Digest.of(data)
        announced = response.headers.get("Docker-Content-Digest", "")
        for name in (target, announced):
            if name.startswith("sha256:") and name != str(digest):
                raise DigestMismatchError(
                    f"the content hashes to {digest}", where=f"{where}@{name}", hint="do not trust it"
                )
        what = f"{where} manifest {target}"
        try:
            media_type = _media_type(data, response.headers.get("Content-Type", ""), what)
            # Whole, or not taken at all.
            (Index if media_type in mediatypes.INDEXES else Manifest).from_bytes(data, what)
        except InvalidDocumentError as error:
            raise InvalidDocumentError(error.where, error.violations, hint=error.hint or NO_REGISTRY) from error
        self._keep(digest, data)
        return Descriptor(media_type, digest, len(data))

    def _keep(self, digest: Digest, data: bytes) -> None:
        self._kept.pop(digest, None)
        self._kept[digest] = data
        while sum(map(len, self._kept.values())) > LIMITS.kept_manifest_bytes:
            del self._kept[next(iter(self._kept))]


def _media_type(data: bytes, content_type: str, where: str) -> str:
    """What the document is; the header and the document must not contradict each other (image-spec, "mediaType")."""
    value = parse_foreign(data, where)
    check_schema(value, where)
    said, header = value.get("mediaType"), content_type.partition(";")[0].strip().lower()
    if said in TYPES:
        if header in TYPES and header != said:
            raise InvalidDocumentError(where, [f"says that it is {said} and was sent as {header}"])
        return str(said)
    if said is None and header in TYPES:
        return header
    if said is None and "manifests" in value:
        return mediatypes.INDEX
    if said is None and "layers" in value:
        return mediatypes.MANIFEST
    raise InvalidDocumentError(where, ["is neither an image manifest nor an image index"])
