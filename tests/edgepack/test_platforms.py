"""Which image of an index is for a platform: to run, to build upon, to archive; whatever else the index lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.errors import IncompatibleError, UsageError, VerificationError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.archive.write import write_archive
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.platforms import choose, needs, platform_images, platform_manifest, runs_on, same
from edgepack.oci.store import Store
from tests.edgepack.support.small_images import AMD64, ARM64, small_image

V2, V3 = (Platform("linux", "amd64", variant) for variant in ("v2", "v3"))
V6, V7, V8 = (Platform("linux", "arm", variant) for variant in ("v6", "v7", "v8"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.create(tmp_path_factory.mktemp("platforms") / "source")


def index(source: Store, *listed: Descriptor, stated: dict[str, object] | None = None) -> Descriptor:
    """An index; every entry of ``stated`` takes the place of the platform of the entry of that number."""
    value = json.loads(Index(listed).to_bytes())
    for number, platform in (stated or {}).items():
        value["manifests"][int(number)]["platform"] = platform
    return source.put_bytes(json.dumps(value).encode(), mediatypes.INDEX)


def silent(item: Descriptor) -> Descriptor:
    """An entry that does not say its platform."""
    return replace(item, platform=None)


def attestation(source: Store) -> Descriptor:
    """What BuildKit adds for each image: a manifest with a configuration of unknown platform, layers of in-toto."""
    config = {"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
    layer = source.put_bytes(b'{"_type":"https://in-toto.io/Statement/v0.1"}', mediatypes.IN_TOTO)
    manifest = Manifest(source.put_bytes(json.dumps(config).encode(), mediatypes.CONFIG), (layer,))
    held = source.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST)
    notes = {"vnd.docker.reference.type": "attestation-manifest"}
    return replace(held, annotations=notes, platform=Platform("unknown", "unknown"))


def artifact(source: Store, config: tuple[str, bytes] = (mediatypes.EMPTY, b"{}")) -> Descriptor:
    """An artifact, such as a signature or a chart, which says no platform."""
    media_type, data = config
    layer = source.put_bytes(b"notes", "text/plain")
    manifest = Manifest(source.put_bytes(data, media_type), (layer,), artifact_type="application/vnd.example+type")
    return source.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST)


# What cosign writes: an image's configuration that names no platform.
UNNAMED = (mediatypes.CONFIG, b'{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":[]}}')
Make = Callable[[Store, Descriptor, Descriptor], Descriptor]
INDEXES: dict[str, Make] = {
    "plain": lambda source, amd, arm: index(source, amd, arm),
    "an attestation": lambda source, amd, arm: index(source, amd, attestation(source), arm, attestation(source)),
    "an attestation first": lambda source, amd, arm: index(source, attestation(source), arm, amd),
    "an attestation that says no platform": lambda source, amd, arm: index(
        source, silent(attestation(source)), amd, arm
    ),
    "an artifact": lambda source, amd, arm: index(source, artifact(source), amd, arm),
    "an artifact with a platform": lambda source, amd, arm: index(
        source, *(replace(artifact(source), platform=one.platform, artifact_type="a/b") for one in (amd, arm)), amd, arm
    ),
    "an artifact without a named platform": lambda source, amd, arm: index(source, artifact(source, UNNAMED), amd, arm),
    "an empty platform": lambda source, amd, arm: index(
        source, artifact(source), amd, arm, stated={"0": {"architecture": "", "os": ""}}
    ),
    "amd64 of variant v1": lambda source, amd, arm: index(
        source, amd, arm, stated={"0": {"architecture": "amd64", "os": "linux", "variant": "v1"}}
    ),
    "amd64 of higher variants too": lambda source, amd, arm: index(
        source, small_image(source, Platform("linux", "amd64", "v3"), "v3"), amd, arm
    ),
    "arm64 of variant v8": lambda source, amd, arm: index(
        source, amd, arm, stated={"1": {"architecture": "arm64", "os": "linux", "variant": "v8"}}
    ),
    "another system": lambda source, amd, arm: index(
        source, small_image(source, Platform("windows", "amd64"), "windows"), amd, arm
    ),
    "no platforms": lambda source, amd, arm: index(source, silent(amd), silent(arm)),
    "nested": lambda source, amd, arm: index(source, index(source, amd), index(source, index(source, arm))),
    "nested without platforms": lambda source, amd, arm: index(
        source, artifact(source), index(source, silent(amd), attestation(source)), index(source, silent(arm))
    ),
}


@pytest.mark.parametrize("platform", [AMD64, ARM64], ids=str)
@pytest.mark.parametrize("name", INDEXES)
def test_the_image_of_a_platform_is_found_whatever_else_an_index_lists(
    source: Store, tmp_path: Path, name: str, platform: Platform
) -> None:
    amd, arm = small_image(source, AMD64), small_image(source, ARM64, "hallo")
    root = INDEXES[name](source, amd, arm)
    wanted = amd if platform == AMD64 else arm

    built_upon = choose(platform_images(source, root), platform, same)
    assert built_upon is not None
    assert built_upon.descriptor.digest == wanted.digest
    assert platform_manifest(source, root, platform).digest == wanted.digest
    needed = [item.digest for item in needs(source, root, platform)]
    assert needed[0] == root.digest
    assert {amd.digest, arm.digest} & set(needed) == {wanted.digest}
    archive = tmp_path / "image.tar"
    write_archive(source, {"churn:1": root}, archive, platform=platform)
    assert f"blobs/sha256/{source.manifest(wanted).config.digest.hex}".encode() in archive.read_bytes()


def test_what_names_an_index_without_an_image_is_refused(source: Store, tmp_path: Path) -> None:
    root = index(source, attestation(source), artifact(source))

    assert platform_images(source, root) == ()
    with pytest.raises(IncompatibleError, match="has nothing for linux/amd64, only for no platform"):
        platform_manifest(source, root, AMD64)
    with pytest.raises(UsageError, match="is an index without a container image"):
        write_archive(source, {"churn:1": root}, tmp_path / "image.tar", platform=AMD64)


def test_a_single_image_is_archived_for_another_machine_too(source: Store, tmp_path: Path) -> None:
    root = index(source, small_image(source, ARM64), attestation(source), artifact(source))

    write_archive(source, {"churn:1": root}, tmp_path / "image.tar", platform=AMD64)

    with pytest.raises(IncompatibleError, match="has nothing for linux/amd64, only for linux/arm64"):
        platform_manifest(source, root, AMD64)


@pytest.mark.parametrize(("listed", "machine", "to_run", "to_build_upon"), [
    ([V6, V7, V8], V7, V7, V7),
    ([V8, V6, Platform("linux", "arm", "v5")], V7, V6, None),
    ([V8], V7, None, None),
    ([Platform("linux", "arm"), V6], V7, V6, None),
    ([V7, V6], Platform("linux", "arm"), V6, None),
    ([V3, V2], AMD64, V2, None),
])  # fmt: skip
def test_a_variant_that_is_run_may_be_lower_and_one_that_is_built_upon_may_not(
    source: Store, listed: list[Platform], machine: Platform, to_run: Platform | None, to_build_upon: Platform | None
) -> None:
    root = index(source, *(small_image(source, one, str(one)) for one in listed))
    found = platform_images(source, root)

    for rule, wanted in ((runs_on, to_run), (same, to_build_upon)):
        chosen = choose(found, machine, rule)
        assert (chosen and chosen.platform) == wanted


def test_platforms_that_are_absent_do_not_keep_one_from_being_chosen(source: Store, tmp_path: Path) -> None:
    amd, arm = small_image(source, AMD64), small_image(source, ARM64, "hallo")
    root = index(source, silent(artifact(source)), silent(arm), silent(amd))
    device = Store.create(tmp_path / "device")
    for item in needs(source, root, AMD64):
        device.put_bytes(source.read(item), item.media_type)

    assert not device.has(arm)
    assert platform_manifest(device, root, AMD64).digest == amd.digest
    assert [item.digest for item in needs(device, root, AMD64)] == [item.digest for item in needs(source, root, AMD64)]


def test_indexes_are_not_followed_for_ever(source: Store) -> None:
    root = small_image(source)
    for _ in range(LIMITS.index_depth + 1):
        root = index(source, root, root, root)

    with pytest.raises(VerificationError, match="nested more than"):
        platform_images(source, root)
