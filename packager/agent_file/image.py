"""The agent as an image: signed, put into bundles, pushed and found like those of services, and run by no engine.

Its one layer is the zip application itself, so that ``tar`` alone takes it out of a bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgepack import __version__
from edgepack.host.progress import Progress, unseen
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.store import Store

if TYPE_CHECKING:
    from packager.wheels.cache import WheelCache

TAG = f"edge-agent:{__version__}"
FILE = "edge-agent.pyz"
PLATFORMS = (Platform("linux", "amd64"), Platform("linux", "arm64"))


def agent_image(
    store: Store,
    wheels: WheelCache,
    platforms: Sequence[Platform],
    *,
    offline: bool = False,
    progress: Progress = unseen,
) -> tuple[tuple[Platform, Descriptor], ...]:
    """Put the agent for ``platforms`` into ``store`` as ``TAG``, and return its file for each.

    Raises as ``agent_file`` does.
    """
    from packager.agent_file.build import agent_file

    found, files = [], []
    for platform in platforms:
        data = agent_file(platform, wheels, offline=offline, progress=progress)
        title = {mediatypes.LAYER_TITLE: FILE}
        layer = store.put_bytes(data, mediatypes.AGENT, title)
        config = ImageConfig(platform, (layer.digest,), entrypoint=("python3", f"/{FILE}"))
        described = store.put_bytes(config.to_bytes(), mediatypes.CONFIG)
        manifest = Manifest(described, (layer,), annotations={mediatypes.AGENT_VERSION: __version__})
        made = store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST)
        files.append((platform, layer))
        found.append(Descriptor(made.media_type, made.digest, made.size, platform=platform))
    image = store.put_bytes(Index(tuple(found)).to_bytes(), mediatypes.INDEX)
    store.tag(TAG, image)
    return tuple(files)
