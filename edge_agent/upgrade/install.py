"""Bring another version of the agent to the device, beside the one that runs, and let it be tried."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from edge_agent.device import Device
from edge_agent.sources.room import free
from edge_agent.upgrade.versions import FILE, Versions
from edgepack.errors import NoSpaceError, NotFoundError, UsageError, disk_errors
from edgepack.host.files import replacing
from edgepack.host.ownership import check_way
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest, VerifyingReader

# The most that a file takes more than its bytes.
_BLOCK = 4096


def install(device: Device, image: Digest, *, allow_unsigned: bool = False) -> str:
    """Put the agent in ``image``, which the store has, beside the one that runs; its version.

    Nothing is unpacked or run before the signature and the hash are checked. Raises ``UsageError`` where the image is
    no agent, or this agent was not installed as one file; ``SignatureError``, ``NotFoundError``, ``IncompatibleError``
    for an image of other platforms, ``VerificationError`` for a damaged blob, ``NoSpaceError``.
    """
    versions = Versions.of(device.root)
    if versions.launcher is None:
        raise UsageError(
            "this agent was not installed as one file, so it cannot take another one's place", where=device.root,
            hint="install the new version as this one was, or begin with: python3 edge-agent.pyz init",
        )  # fmt: skip
    check_way(versions.folder)
    device.check_signed(image, allow_unsigned=allow_unsigned)
    layer = agent_layer(device, image)
    place = versions.folder / layer.digest.hex
    with disk_errors(place):
        place.mkdir(mode=0o755, exist_ok=True)
        with replacing(place / FILE) as file, device.store.open(layer) as source:
            reader = VerifyingReader(source, layer.digest, layer.size)
            while chunk := reader.read(LIMITS.chunk_bytes):
                file.write(chunk)
    versions.note_image(layer.digest.hex, image)
    return layer.digest.hex


def check_room(root: Path, version: str) -> None:
    """Raise ``NoSpaceError`` where ``version``, which is on the device in ``root``, has no room to unpack itself.

    It would be given up for that, which is no fault of its own.
    """
    import zipfile

    place = Versions.of(root).folder / version
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    if (place / tag).is_dir():
        return
    with disk_errors(place), suppress(zipfile.BadZipFile), zipfile.ZipFile(place / FILE) as archive:
        files = [one for one in archive.infolist() if one.filename.partition("/")[0] in ("any", tag)]
        needed = sum(one.file_size + _BLOCK for one in files)
        if needed > (found := free(place)):
            raise NoSpaceError(
                f"{needed} bytes are needed to unpack the agent, and {found} are free", where=place,
                hint="free some space, as by edge-agent gc, and try again",
            )  # fmt: skip


def refuse_agent(device: Device, image: Digest, text: str | None = None) -> None:
    """Raise ``UsageError`` for an image that is the agent, and no service; ``text`` is how an operator names it.

    Says nothing of one that is not here.
    """
    if device.store.has_digest(device.manifest_of(image)) and _agents_in(device, image):
        raise UsageError(
            "is the agent itself, and no service", where=text or f"image {image}",
            hint=f"upgrade to it with: edge-agent upgrade {text or image}, or name it as agent in the desired state",
        )  # fmt: skip


def _agents_in(device: Device, image: Digest) -> list[Descriptor]:
    manifest = device.store.manifest(device.store.describe(device.manifest_of(image)))
    return [layer for layer in manifest.layers if layer.media_type == mediatypes.AGENT]


def agent_layer(device: Device, image: Digest) -> Descriptor:
    """The zip application in ``image`` for this device; raises ``UsageError`` for an image of something else."""
    found = _agents_in(device, image)
    if len(found) != 1:
        raise UsageError(
            "is not an agent", where=f"image {image}", hint="make one with: edgepack bundle create --with agent"
        )
    return found[0]


def named(device: Device, text: str) -> Digest:
    """The digest of the image that ``text`` names, itself or by a tag of the store; raises ``NotFoundError``."""
    from edgepack.nearness import tag_meant
    from edgepack.oci.reference import image_tag

    if text.startswith("sha256:"):
        return Digest.parse(text)
    tags = device.store.tags() if device.store.root.is_dir() else {}
    if (found := tags.get(image_tag(text))) is None:
        hint = tag_meant(image_tag(text), tags, "import a bundle that has it with: edge-agent import")
        raise NotFoundError(f"image {text!r} is not on this device", where=device.root, hint=hint)
    return found.digest
