"""What is attached to an image: by the registry's own list, or by the fallback tag (distribution-spec 1.1)."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from edgepack.errors import (
    EdgepackError,
    InvalidDocumentError,
    NotFoundError,
    RegistryError,
    RegistryUnavailableError,
    TooLargeError,
    VerificationError,
)
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Index
from edgepack.oci.reference import referrers_tag
from edgepack.oci.remote.documents import Documents
from edgepack.oci.remote.session import Session

_log = logging.getLogger(__name__)

# How often the fallback tag is written anew when others write it too, and how often it must be found right in a row.
_ROUNDS, _CALM = 40, 2
# One link of several, with any parameters before its relation (RFC 8288, section 3).
_NEXT = re.compile(
    r"<([^>]*)>(?:\s*;\s*(?!rel\b)\w+\s*=\s*(?:\"[^\"]*\"|[^\s;,\"]+))*\s*;\s*rel\s*=\s*\"?(?:[^\",]*\s)?next\b", re.I
)


class Referrers:
    """The artifacts that are attached to the images of one repository."""

    def __init__(self, session: Session, documents: Documents) -> None:
        self._session = session
        self._documents = documents
        self._has_list = True  # until it is found not to

    def list(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The artifacts attached to ``subject``, of one type or all.

        A registry that answers neither the list nor the fallback tag has none, as far as can be known: that is said in
        the log, and whoever needs a signature will miss it.
        """
        found, refused = self._asked(subject, artifact_type)
        if refused is not None and not found:
            _log.warning(
                "%s: the registry does not list what is attached to %s (%s); going on without what it does not list, so"
                " signatures may be missing", self._session.reference.name, subject, refused.what,
            )  # fmt: skip
        return found

    def require(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """As ``list``; raises ``RegistryUnavailableError`` where the registry, asked later, may tell more."""
        found, refused = self._asked(subject, artifact_type)
        if isinstance(refused, RegistryUnavailableError) and not found:
            raise refused
        return found

    def _asked(self, subject: Digest, artifact_type: str | None) -> tuple[tuple[Descriptor, ...], EdgepackError | None]:
        """What is listed, by the list or the fallback tag, and why something may be missing."""
        refused: EdgepackError | None = None
        found: tuple[Descriptor, ...] = ()
        try:
            if self._has_list:
                return self._listed(subject, artifact_type), None
        except NotFoundError:
            self._has_list = False  # it came with distribution-spec 1.1, and is there for an image with nothing too
        except (RegistryError, InvalidDocumentError, TooLargeError) as error:
            refused = error
        try:
            found = self._tagged(subject)
        except (RegistryError, InvalidDocumentError, VerificationError) as error:
            refused = error
        return tuple(one for one in found if artifact_type in (None, one.artifact_type)), refused

    def add(self, subject: Digest, artifacts: Iterable[Descriptor]) -> None:
        """List ``artifacts`` in the fallback tag ("Referrers Tag Schema"), keeping what others list there.

        A registry cannot be asked to replace a tag only if nobody else has: of two who read and then write, the one
        loses whose list is overwritten. So each looks again after a while, as long as another may have been on his
        way, and adds what is gone of all that he has ever seen there.
        """
        seen = {artifact.digest: artifact for artifact in artifacts}
        written, calm = False, 0
        for _ in range(_ROUNDS):
            started = time.monotonic()
            known = {one.digest: one for one in self._tagged(subject)}
            lacking = {digest: one for digest, one in seen.items() if known.get(digest) != one}
            seen = {**known, **seen}
            if not lacking:
                calm += 1
                if not written or calm == _CALM:
                    return
            else:
                calm = 0
                listing = Index(tuple(item for _, item in sorted(seen.items())))
                self._documents.put(referrers_tag(subject), listing.to_bytes(), listing.media_type)
                written = True
            # Longer than another client takes from reading to writing, as far as our own time tells.
            spent = time.monotonic() - started
            time.sleep((self._session.policy.backoff / 5 + 2 * spent) * random.uniform(0.7, 1.3))  # noqa: S311
        raise RegistryError(
            "the list of referrers lacks an artifact that was just added", where=self._session.reference.name,
            hint="others keep writing it; push again",
        )  # fmt: skip

    def _listed(self, subject: Digest, artifact_type: str | None) -> tuple[Descriptor, ...]:
        query = "" if artifact_type is None else f"?artifactType={quote(artifact_type, safe='')}"
        url = self._session.url(f"referrers/{subject}{query}")
        pages = pages_of(self._session, url, {"Accept": mediatypes.INDEX}, "list of referrers")
        found = [one for page in pages for one in Index.from_bytes(page, f"referrers of {subject}").manifests]
        return tuple(one for one in found if artifact_type in (None, one.artifact_type))

    def _tagged(self, subject: Digest) -> tuple[Descriptor, ...]:
        try:
            listing = self._documents.fetch(referrers_tag(subject))
        except NotFoundError:
            return ()
        return Index.from_bytes(self._documents.read(listing), f"referrers of {subject}").manifests


def pages_of(session: Session, url: str, headers: dict[str, str], what: str) -> Iterator[bytes]:
    """The pages of a listing, each led to by the one before (RFC 8288)."""
    for _ in range(LIMITS.listing_pages):
        response = session.expect(session.send("GET", url, headers), 200, what=what)
        yield response.read(LIMITS.manifest_bytes)
        following = _NEXT.search(response.headers.get("Link", ""))
        if following is None:
            return
        url = session.absolute(following[1].strip(), response)
    raise RegistryError(f"the {what} does not end", where=session.reference.name)
