"""The ordered list of sources of a device: ``Sources(device, configuration.sources)`` is its ``Fetcher``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from edge_agent.config.configuration import Bandwidth, Configuration, FolderSource, NeighbourSource, Source
from edge_agent.device import IMPORT_AGAIN, STORE, Device
from edge_agent.sources import room
from edge_agent.sources.base import OnProgress, Place, unseen
from edge_agent.sources.meter import Caps, Meter
from edge_agent.sources.pace import Pace
from edgepack.errors import EdgepackError, IncompatibleError, NotFoundError, SignatureError
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.reference import image_tag

if TYPE_CHECKING:
    from edge_agent.sources.fetch import Wanted

_log = logging.getLogger(__name__)
FLOOR_BYTES = 64 << 20


class Sources:
    """Brings images from ``sources``, in their order, to ``device``; without any, only what is here can be had.

    ``make_room`` is asked once to free so many bytes when the disk has too little room. ``now`` is the local time, by
    which the windows of ``bandwidth`` open.
    """

    def __init__(
        self,
        device: Device,
        sources: Sequence[Source] = (),
        *,
        bandwidth: Bandwidth | None = None,
        floor_bytes: int = FLOOR_BYTES,
        allow_unsigned: bool = False,
        caps: Caps | None = None,
        make_room: Callable[[int], None] | None = None,
        now: Callable[[], datetime] = datetime.now,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._device = device
        self._sources = tuple(sources)
        self._bandwidth = bandwidth or Bandwidth()
        self._floor_bytes = floor_bytes
        self._allow_unsigned = allow_unsigned
        self._caps = caps or Caps()
        self._make_room = make_room
        self._now, self._clock, self._sleep = now, clock, sleep

    @classmethod
    def of(
        cls,
        device: Device,
        configuration: Configuration,
        make_room: Callable[[int], None] | None = None,
        caps: Caps | None = None,
    ) -> Sources:
        """As the configuration says."""
        return cls(
            device, configuration.sources, bandwidth=configuration.bandwidth, floor_bytes=configuration.floor_bytes,
            allow_unsigned=configuration.allow_unsigned_images, make_room=make_room, caps=caps,
            now=_local_time(device) if configuration.bandwidth.windows else datetime.now,
        )  # fmt: skip

    def fetch(self, image: Digest, on_progress: OnProgress = unseen, *, names: Sequence[str] = ()) -> None:
        """See ``Fetcher``."""
        here = self._bytes_here(image)
        if here is not None:
            on_progress(here, here)
            return
        if not self._sources:
            raise NotFoundError("is not on this device, and no sources are configured", where=f"image {image}",
                                hint=IMPORT_AGAIN)  # fmt: skip
        from edge_agent.sources.fetch import Fetch

        pace = self._pace()
        pace.check()
        with self._device.using():  # makes the store, and mends its index
            pass
        meter = Meter(self._caps, pace, clock=self._clock, sleep=self._sleep)

        def check_room(wanted: Wanted) -> None:
            self._check_room(wanted, meter)

        with self._places(meter, pace, names) as places:
            meter.several = len(places) > 1
            Fetch(
                image, self._device.store, places, self._device.trust.keys(), meter,
                allow_unsigned=self._allow_unsigned, holding=self._device.using, check_room=check_room,
                on_progress=on_progress,
            ).run()  # fmt: skip

    def signers(self, image: Digest) -> tuple[str, ...]:
        """The trusted keys that signed ``image``, which is here."""
        from edgepack.signing.statement import verify_image

        try:
            return verify_image(self._device.store, image, self._device.trust.keys()).key_ids
        except SignatureError:
            return ()

    def find(self, name: str) -> Digest:
        """The image that ``name``, a digest or a name with a tag, means: here, or else at the first source that knows.

        Raises ``NotFoundError`` where none does, ``InvalidReferenceError``, and what the sources raise.
        """
        held = self.find_here(name)
        return self.look_up(image_tag(name)) if held is None else held

    def find_here(self, name: str) -> Digest | None:
        """The image that ``name`` means without asking anybody; ``None`` for a name that this device does not know.

        Raises ``InvalidReferenceError``.
        """
        if name.startswith("sha256:"):
            return Digest.parse(name)
        tags = self._tags()
        return tags.get(name) or tags.get(image_tag(name))

    def look_up(self, tag: str) -> Digest:
        """What ``tag`` means at the first source that knows it; raises as ``find``."""
        from edge_agent.sources.refusals import Refusals

        refusals = Refusals()
        meter = Meter(self._caps, self._pace(), clock=self._clock, sleep=self._sleep)
        with self._places(meter, self._pace(), ()) as places:
            for place in places:
                try:
                    return place.find(tag).digest
                except EdgepackError as error:
                    refusals.add(place, Digest.of(tag.encode()), error)
            if not places:
                raise NotFoundError("is not on this device", where=f"image {tag}", hint=IMPORT_AGAIN)
            raise refusals.error(f"image {tag}", places)

    def _pace(self) -> Pace:
        file = self._device.root / "state" / "bandwidth" if (self._device.root / "state").is_dir() else None
        return Pace(self._bandwidth, file, now=self._now, clock=self._clock, sleep=self._sleep)

    @contextmanager
    def _places(self, meter: Meter, pace: Pace, names: Sequence[str]) -> Iterator[list[Place]]:
        """The sources as places, each while the block lasts."""
        with ExitStack() as stack:
            hints = (*names, *self._known_names())
            yield [self._place(one, stack, meter, pace, hints) for one in self._sources]

    def _place(self, source: Source, stack: ExitStack, meter: Meter, pace: Pace, names: Sequence[str]) -> Place:
        if isinstance(source, FolderSource):
            from edge_agent.sources.folders import FolderPlace

            place = FolderPlace(
                source.name, source.folder, self._device.trust.keys(), allow_unsigned=self._allow_unsigned
            )
            stack.callback(place.close)
            return place
        from edge_agent.sources.registries import neighbour_place, registry_place

        watch, limited = meter.of(source.name), pace.limited
        if isinstance(source, NeighbourSource):
            remote = neighbour_place(source, watch, names, limited=limited)
        else:
            remote = registry_place(source, watch, names, limited=limited)
        stack.callback(remote.close)
        return remote

    def _known_names(self) -> tuple[str, ...]:
        """The repositories of the images that are here: a new version is mostly where the last one was."""
        return tuple(dict.fromkeys(tag.rpartition(":")[0] for tag in self._tags()))

    def _tags(self) -> dict[str, Digest]:
        if not (self._device.root / STORE / "index.json").exists():
            return {}
        return {tag: one.digest for tag, one in self._device.store.tags().items()}

    def _bytes_here(self, image: Digest) -> int | None:
        """The image's bytes when all of it is in the store, with a trusted statement where one is asked for."""
        store = self._device.store
        if not store.has_digest(image):
            return None
        from edgepack.oci.platforms import needs

        try:
            found = tuple(needs(store, store.describe(image), Platform.host()))
            if not all(store.has(one) for one in found):
                return None
            if not self._allow_unsigned:
                self._device.check_signed(image, allow_unsigned=False)
        except IncompatibleError:
            raise
        except EdgepackError as error:
            _log.debug("image %s is not whole here: %s", image, error)
            return None
        return sum(one.size for one in found)

    def _check_room(self, wanted: Wanted, meter: Meter) -> None:
        store, root = self._device.store, self._device.root
        missing = [one for one in (*wanted.documents, *wanted.layers) if not store.has(one)]
        meter.expect(sum(one.size for one in missing))
        absent = {one.digest for one in missing}
        folders = [folder for folder in (root / "layers", root / "layers-kept") if folder.is_dir()]
        unpacked = [
            layer
            for layer, diff_id in zip(wanted.layers, wanted.diff_ids, strict=False)
            # An engine has what it was sent; what we unpack ourselves can be seen.
            if (layer.digest in absent or folders) and not any((one / diff_id.hex).is_dir() for one in folders)
        ]
        found = room.need([(one, store.pending(one)) for one in missing], unpacked, self._floor_bytes)
        lacking = room.lacking(found, store.root)
        if lacking and self._make_room is not None:
            self._make_room(lacking)
        room.check(found, store.root)


def _local_time(device: Device) -> Callable[[], datetime]:
    """The local time by the device's own reckoning, for a clock that begins at 1970."""
    ahead = device.state.time_floor(time.time()) - time.time()
    return lambda: datetime.fromtimestamp(time.time() + max(0.0, ahead))  # noqa: DTZ006 - windows are in local time
