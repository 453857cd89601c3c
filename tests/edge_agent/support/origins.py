"""Where a device gets images from in tests: a signed image of random bytes, in a simulated registry or a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.config.configuration import RegistrySource, Source
from edge_agent.device import Device
from edge_agent.sources.meter import Caps
from edge_agent.sources.sources import Sources
from edgepack.bundle.write import write_bundle
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.graph import walk
from edgepack.oci.manifest import Index
from edgepack.oci.reference import referrers_tag
from edgepack.oci.store import Store
from edgepack.signing.keys import PrivateKey, create_key
from edgepack.signing.statement import attach
from tests.edgepack.support.bundles import add_image, add_layer
from tests.edgepack.support.registry_simulator import Simulator

# Tries again at once, and not for long.
SOON = Caps(
    stalled_seconds=0, first_wait=0.01, longest_wait=0.02, attempts=3, backoff=0.01, read_timeout=60, slow_seconds=3600
)


@dataclass(frozen=True)
class Made:
    """A signed image in a store, and the key."""

    store: Store
    key: PrivateKey
    root: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def digest(self) -> Digest:
        return self.root.digest

    def bundle(self, path: Path) -> Path:
        write_bundle(self.store, ["churn:1"], path, key=self.key)
        return path

    def into(self, simulator: Simulator, repository: str = "churn", *, lists: bool = True) -> None:
        """Put it into a registry that ``lists`` what is attached, or has the fallback tag for it."""
        simulator.referrers_api = lists
        attached = self.store.referrers(self.digest)
        for root, tag in ((self.root, "1"), *((one, str(one.digest.hex)) for one in attached)):
            for one in walk(self.store, root):
                data = self.store.path(one.digest).read_bytes()
                if one.media_type in mediatypes.INDEXES | mediatypes.MANIFESTS:
                    simulator.put_manifest(repository, tag if one == root else one.digest.hex, data, one.media_type)
                else:
                    simulator.blobs[str(one.digest)] = data
        if not lists:
            data = Index(attached).to_bytes()
            simulator.put_manifest(repository, referrers_tag(self.digest), data, mediatypes.INDEX)


def make(
    folder: Path, sizes: Sequence[int] = (700_000, 1000, 513), *, signed: bool = True, large: Path | None = None
) -> Made:
    """An image for this machine with layers of these sizes, and one of the bytes of the file ``large``."""
    store = Store.create(folder)
    layers = tuple(add_layer(store, size, f"{folder.name} {number}") for number, size in enumerate(sizes))
    if large is not None:
        with store.writer() as blob, large.open("rb") as file:
            while chunk := file.read(1 << 20):
                blob.write(chunk)
            digest, size = blob.commit()
        layers += (Descriptor(mediatypes.LAYER, digest, size),)
    made = add_image(store, layers, Platform.host())
    root = Descriptor(made.media_type, made.digest, made.size)
    store.tag("churn:1", root)
    key = create_key()
    if signed:
        attach(store, root, "churn:1", key)
    return Made(store, key, root, layers)


def device(folder: Path, *made: Made) -> Device:
    """A device that trusts the keys of ``made``."""
    found = Device(folder)
    for one in made:
        found.trust.add(one.key.public.to_pem())
    return found


def registry(simulator: Simulator, **fields: object) -> RegistrySource:
    """The simulated registry as a source."""
    return RegistrySource(f"127.0.0.1:{simulator.port}", **fields)  # type: ignore[arg-type]


def sources(on: Device, *given: Source, **options: object) -> Sources:
    """What fetches, soon."""
    return Sources(on, given, **{"caps": SOON, "floor_bytes": 0, **options})  # type: ignore[arg-type]


def whole(on: Device, made: Made) -> bool:
    """Whether the device has all of it, byte by byte, and nothing unfinished."""
    for one in walk(made.store, made.root):
        path = on.store.path(one.digest)
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != one.digest.hex:
            return False
    return not on.store.unfinished()
