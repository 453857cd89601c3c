"""One image on its way to a device's store.

First its documents and a statement by a trusted key, then, when the disk has room for all, the layers, each from the
first place that gives it whole. What is here is not asked for. The documents are stored before the layers, so that
whoever collects garbage meanwhile knows what they belong to; what is unfinished stays for the next try.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import cast

from edge_agent.sources.base import OnProgress, Place, unseen
from edge_agent.sources.documents import Documents, OneArtifact
from edge_agent.sources.meter import Meter
from edge_agent.sources.progress import Seen
from edge_agent.sources.refusals import ENDS, PASSING, Refusals
from edge_agent.sources.watched import FromPlaceError, Watched
from edgepack.errors import (
    EdgepackError,
    InvalidDocumentError,
    NotFoundError,
    SignatureError,
    UntrustedKeyError,
    VerificationError,
)
from edgepack.host.lanes import Lanes
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.graph import children
from edgepack.oci.platforms import needs
from edgepack.oci.sources import read_verified
from edgepack.oci.store import Store
from edgepack.signing.keys import PublicKey
from edgepack.signing.statement import verify_image

_log = logging.getLogger(__name__)
_LANES = 3
_DOCUMENTS = mediatypes.INDEXES | mediatypes.MANIFESTS | mediatypes.CONFIGS
# Whoever may push can attach thousands.
_MOST_STATEMENTS = 50


@dataclass(frozen=True)
class Wanted:
    """An image: its descriptor, the documents and layers that it needs here, and the statements to be stored with it.

    ``diff_ids`` are those of ``layers``.
    """

    root: Descriptor
    documents: tuple[Descriptor, ...]
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[Digest, ...]
    statements: tuple[Descriptor, ...] = ()

    @property
    def size(self) -> int:
        """Bytes, of everything but the statements."""
        return sum(one.size for one in (*self.documents, *self.layers))


class Fetch:
    """Brings ``image`` from ``places`` to ``store``.

    ``holding`` is held while something is written to the store; ``check_room`` is told what the image has before the
    first layer moves, and raises ``NoSpaceError``.
    """

    def __init__(
        self,
        image: Digest,
        store: Store,
        places: Sequence[Place],
        trusted: Collection[PublicKey],
        meter: Meter,
        *,
        allow_unsigned: bool = False,
        holding: Callable[[], AbstractContextManager[object]] = nullcontext,
        check_room: Callable[[Wanted], None] = lambda wanted: None,
        on_progress: OnProgress = unseen,
    ) -> None:
        self._image = image
        self._store = store
        self._places = tuple(places)
        self._trusted = trusted
        self._meter = meter
        self._allow_unsigned = allow_unsigned
        self._holding = holding
        self._check_room = check_room
        self._on_progress = on_progress
        self._refusals = Refusals()
        self._roots: dict[str, Descriptor] = {}
        self._finding = threading.Lock()
        self._seen: Seen | None = None
        self._documents = Documents(store, self._ask)

    def run(self) -> Wanted:
        """All of it; what may pass is tried again for as long as the meter allows. Raises as ``Fetcher.fetch``."""
        wanted: Wanted | None = None
        while True:
            try:
                if wanted is None:
                    found = self._describe()
                    self._check_room(found)
                    wanted = found
                with self._holding():
                    lacking = self._bring(wanted)
                if not lacking:
                    return wanted
                error = self._refusals.error(f"image {self._image}", self._places)
                if not self._refusals.passes(self._places, lacking):
                    raise error
            except PASSING as passing:
                error = passing
            self._meter.wait(error)
            _log.info("trying again: %s", error)

    # Documents

    def _describe(self) -> Wanted:
        root = self._root()
        platform = Platform.host()
        found = tuple(needs(self._documents, root, platform))
        documents = tuple(one for one in found if one.media_type in _DOCUMENTS)
        for one in documents:  # what is missing is passed over by whoever walks
            read_verified(self._documents, one)
        manifest = next((one for one in documents if one.media_type in mediatypes.MANIFESTS), root)
        config, *layers = children(self._documents, manifest)
        if config.media_type not in mediatypes.CONFIGS:
            raise InvalidDocumentError(f"image {self._image}", ["is an artifact, not an image"])
        read = ImageConfig.from_bytes(read_verified(self._documents, config), f"configuration {config.digest}")
        return Wanted(root, documents, tuple(layers), read.diff_ids, self._statements(root))

    def _root(self) -> Descriptor:
        if self._store.has_digest(self._image) and self._store.is_sound(self._image):
            return self._store.describe(self._image)
        for place in self._asked(self._image):
            return self._roots[place.name]
        raise self._failure()

    def _failure(self) -> EdgepackError:
        return self._refusals.error(f"image {self._image}", self._places)

    def _asked(self, digest: Digest) -> Iterator[Place]:
        """The places that have the image and may have its blob ``digest``, in their order."""
        for place in self._refusals.usable(self._places, digest):
            try:
                with self._finding:
                    if place.name not in self._roots:
                        self._roots[place.name] = place.find(self._image)
            except EdgepackError as error:
                self._refusals.add(place, self._image, error)
                continue
            yield place

    def _ask(self, descriptor: Descriptor) -> bytes:
        for place in self._asked(descriptor.digest):
            try:
                return read_verified(place, descriptor)
            except ENDS:
                raise
            except EdgepackError as error:
                self._refusals.add(place, descriptor.digest, error)
        raise self._failure()

    # Statements

    def _statements(self, root: Descriptor) -> tuple[Descriptor, ...]:
        """What is to be attached here so that the image is signed by a trusted key; nothing where it is already.

        Each place is asked until one has such a statement: another may lack it, or list those of strangers only.
        """
        try:
            verify_image(self._store, self._image, self._trusted)
        except (SignatureError, VerificationError, NotFoundError) as error:
            refused: EdgepackError = error
        else:
            return ()
        strange: SignatureError | None = None
        passing: EdgepackError | None = None
        for place in self._asked(self._image):
            try:
                listed = place.referrers(self._image, mediatypes.STATEMENT_ARTIFACT)
                found, refusal = self._trusted_of(place, listed[:_MOST_STATEMENTS])
            except ENDS:
                raise
            except EdgepackError as error:
                self._refusals.add(place, self._image, error)
                passing = error if isinstance(error, PASSING) else passing
                continue
            if found:
                return found
            strange = refusal or strange
        if strange is not None:
            raise strange
        if passing is not None:
            raise passing
        if self._allow_unsigned:
            _log.warning("image %s has no statement attached, and is taken because of --allow-unsigned", self._image)
            return ()
        raise refused

    def _trusted_of(
        self, place: Place, listed: Sequence[Descriptor]
    ) -> tuple[tuple[Descriptor, ...], SignatureError | None]:
        """Of the artifacts that a place lists, the statements by a trusted key; and why one of the others is none."""
        found, refusal = [], None
        for artifact in listed:
            try:
                verify_image(OneArtifact(place, artifact, self._documents.kept), self._image, self._trusted)
            except SignatureError as error:
                refusal = error if refusal is None or isinstance(error, UntrustedKeyError) else refusal
                continue
            found.append(artifact)
        return tuple(found), refusal

    # Blobs

    def _bring(self, wanted: Wanted) -> tuple[Digest, ...]:
        """Store what is missing; returns what no place gave."""
        for one in wanted.documents:
            self._store.put_bytes(read_verified(self._documents, one), one.media_type)
        self._attach(wanted)
        missing = [one for one in dict.fromkeys(wanted.layers) if not self._store.has(one)]
        if self._seen is None:
            here = {one.digest: self._store.pending(one) for one in missing}
            whole = wanted.size - sum(one.size for one in missing)
            self._seen = Seen(wanted.size, whole, here, self._on_progress, self._meter.advanced)
        lacking: list[Digest] = []
        with Lanes(_LANES) as lanes:

            def move(blob: Descriptor) -> None:
                if not self._take(blob, lanes):
                    lacking.append(blob.digest)

            for blob in missing:
                lanes.submit(partial(move, blob))
            lanes.wait()
        return tuple(lacking)

    def _attach(self, wanted: Wanted) -> None:
        for artifact in wanted.statements:
            for blob in (*children(self._documents, artifact), artifact):
                self._store.put_bytes(read_verified(self._documents, blob), blob.media_type)
        if wanted.statements:
            self._store.add_referrers(self._image, wanted.statements)

    def _take(self, blob: Descriptor, lanes: Lanes) -> bool:
        """Store a blob from the first place that gives it; returns whether one did."""
        seen = cast(Seen, self._seen)
        for place in self._asked(blob.digest):
            try:
                self._store.put(blob, Watched(place, seen, self._meter, lanes.stopped.is_set))
            except FromPlaceError as error:
                self._refusals.add(place, blob.digest, error.error)
            except VerificationError as error:
                self._refusals.add(place, blob.digest, error)
            else:
                return True
            seen.at(blob.digest, self._store.pending(blob))
        return False
