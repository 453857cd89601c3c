"""``edge-agent verify``"""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.commands.options import allow_unsigned, common, naming_trust, short_keys
from edge_agent.device import STORE, Device
from edgepack.errors import NotFoundError, UsageError
from edgepack.host.console import answer, human, note
from edgepack.nearness import tag_meant
from edgepack.oci.digest import Digest


@click.command("verify")
@click.argument("reference")
@allow_unsigned
@common
def command(device: Device, reference: str, allow_unsigned: bool, output: str) -> None:
    """Read all of the image REFERENCE, a tag or digest, and check it against its digests and signature; no network."""
    from edge_agent.sources.verify import verify

    image = _found(device, reference)
    with naming_trust():
        sound = verify(device.store, image, device.trust.keys(), allow_unsigned=allow_unsigned)
    value = {
        "image": reference, "digest": str(image), "signed_by": list(sound.key_ids), "blobs": sound.blobs,
        "bytes": sound.bytes,
    }  # fmt: skip
    row = {"image": reference, "digest": image.short, "signed_by": short_keys(sound.key_ids)}
    answer(output, value, [row])
    note(f"read {human(sound.bytes)} in {sound.blobs} blobs; all is what its digests say")


def _found(device: Device, reference: str) -> Digest:
    """The image that a digest, a tag, or the reference of a registry means on this device."""
    from edgepack.oci.reference import Reference, image_tag

    if reference.startswith("sha256:"):
        return Digest.parse(reference)
    tags = device.store.tags() if (device.root / STORE / "index.json").exists() else {}
    if reference in tags:
        return tags[reference].digest
    if Path(reference).is_file():
        raise UsageError(
            "is a file, not an image that is here", where=reference,
            hint=f"a bundle is verified before anything of it is taken, by: edge-agent import {reference}",
        )  # fmt: skip
    found = Reference.parse(reference)
    if found.digest is not None:
        return found.digest
    names = [image_tag(reference), f"{found.repository}:{found.tag}"]
    held = next((tags[name].digest for name in names if name in tags), None)
    if held is None:
        otherwise = (
            f"bring it with: edge-agent pull {reference}" if found.registry in reference else "import or pull it"
        )
        raise NotFoundError(
            f"image {reference!r} not found", where=device.root, hint=tag_meant(names[0], tags, otherwise)
        )
    return held
