"""What a bundle has in it, and that equal inputs make equal bytes."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.bundle.listing import PAYLOAD_TYPE, Contents
from edgepack.bundle.read import import_bundle
from edgepack.bundle.receipt import Receipt
from edgepack.bundle.write import write_bundle
from edgepack.errors import (
    DigestMismatchError,
    IncompatibleError,
    InvalidDocumentError,
    NotFoundError,
    UsageError,
)
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.graph import images
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from edgepack.oci.tar.header import tar_header
from edgepack.signing import envelope
from edgepack.signing.keys import create_key
from edgepack.signing.statement import attach, verify_image
from tests.edgepack.support.bundles import (
    AMD64,
    ARM64,
    add_image,
    add_index,
    add_layer,
    contents_of,
    digest_of,
    members,
    simple,
    snapshot,
)

KEY, OTHER = create_key(), create_key()


def test_the_list_stands_first_and_the_layers_last(tmp_path: Path) -> None:
    store = simple(tmp_path / "store")
    report = write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=KEY)
    parts = members(tmp_path / "b.tar")
    names = [info.name for info, _ in parts]
    assert names[:3] == ["edgepack.bundle.json", "oci-layout", "index.json"]
    contents = Contents.from_bytes(envelope.verify(parts[0][1], PAYLOAD_TYPE, [KEY.public]).payload)
    assert names[3:] == [f"blobs/sha256/{blob.digest.hex}" for blob in contents.blobs]
    assert [blob.media_type for blob in contents.blobs][-3:] == [mediatypes.LAYER] * 3
    assert all(Digest.of(data).hex == info.name[-64:] for info, data in parts[3:])
    assert report.size == (tmp_path / "b.tar").stat().st_size
    assert (report.blobs, report.bytes) == (len(parts) - 3, sum(info.size for info, _ in parts[3:]))
    assert {(info.mode, info.uid, info.gid, info.mtime, info.uname, info.type) for info, _ in parts} == {
        (0o644, 0, 0, 0, "", tarfile.REGTYPE)
    }


def test_equal_stores_make_equal_bundles(tmp_path: Path) -> None:
    for name in ("a", "b"):
        store = simple(tmp_path / name)
        store.tag("again", store.resolve("churn:1"))
        order = ["churn:1", "again"] if name == "a" else ["again", "churn:1", "again"]
        write_bundle(store, order, tmp_path / f"{name}.tar", key=KEY)
    write_bundle(store, order, tmp_path / "c.tar", key=KEY)
    assert digest_of(tmp_path / "a.tar") == digest_of(tmp_path / "b.tar") == digest_of(tmp_path / "c.tar")


def test_an_image_is_signed_unless_that_key_has_signed_it(tmp_path: Path) -> None:
    store = simple(tmp_path / "store")
    image = store.resolve("churn:1")
    attach(store, image, "churn:1", OTHER)
    write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=KEY)
    assert verify_image(store, image.digest, [KEY.public]).key_ids == (KEY.id,)
    before = snapshot(store.root)
    write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=KEY)
    assert snapshot(store.root) == before
    contents, _ = contents_of(tmp_path / "b.tar", [KEY.public])
    assert len(contents.referrers) == 2


def test_everything_that_is_attached_travels(tmp_path: Path) -> None:
    store = simple(tmp_path / "store")
    image = store.resolve("churn:1")
    report = store.put_bytes(b"components", "application/vnd.cyclonedx+json")
    artifact = Manifest(
        store.put_bytes(b"{}", mediatypes.EMPTY), (report,), subject=image, artifact_type="application/x.sbom"
    )
    held = store.put_bytes(artifact.to_bytes(), mediatypes.MANIFEST)
    store.add_referrer(image.digest, replace(held, artifact_type="application/x.sbom"))
    write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=None)
    contents, signers = contents_of(tmp_path / "b.tar")
    assert signers == ()
    assert [one.descriptor.digest for one in contents.referrers] == [held.digest]
    assert report.digest in {blob.digest for blob in contents.body}


def two_platforms(root: Path) -> tuple[Store, Descriptor, Descriptor]:
    store = Store.create(root)
    shared = add_layer(store, 5000, "shared")
    amd = add_image(store, [shared, add_layer(store, 40_000, "amd")], AMD64)
    arm = add_image(store, [shared, add_layer(store, 60_000, "arm")], ARM64)
    store.tag("churn:1", add_index(store, amd, arm))
    return store, amd, arm


def test_a_receipt_leaves_out_what_it_names_and_other_platforms(tmp_path: Path) -> None:
    store, amd, arm = two_platforms(tmp_path / "store")
    shared, own = store.manifest(arm).layers
    receipt = Receipt("lathe-7", ARM64, frozenset([shared.digest, Digest.of(b"unrelated")]))
    report = write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=KEY, receipt=receipt)
    contents, _ = contents_of(tmp_path / "b.tar", [KEY.public])
    assert contents.platform == ARM64
    assert [blob.digest for blob in contents.omitted] == [shared.digest]
    assert report.omitted_bytes == shared.size
    listed = {blob.digest for blob in contents.blobs}
    assert {store.resolve("churn:1").digest, arm.digest, own.digest} <= listed
    assert not listed & {amd.digest, store.manifest(amd).layers[1].digest}


def test_a_bundle_for_one_platform_leaves_out_the_others(tmp_path: Path) -> None:
    store, _, _ = two_platforms(tmp_path / "store")
    whole = write_bundle(store, ["churn:1"], tmp_path / "whole.tar", key=KEY)
    report = write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=KEY, platform=ARM64)
    assert report.bytes < whole.bytes
    assert contents_of(tmp_path / "b.tar", [KEY.public])[0].platform == ARM64
    receipt = Receipt("lathe-7", ARM64, frozenset())
    write_bundle(store, ["churn:1"], tmp_path / "r.tar", key=KEY, receipt=receipt)
    assert (tmp_path / "r.tar").read_bytes() == (tmp_path / "b.tar").read_bytes(), "as for a device that has nothing"
    target = Store.create(tmp_path / "device")
    import_bundle(tmp_path / "b.tar", target, [KEY.public], platform=ARM64)
    with pytest.raises(IncompatibleError, match="is for linux/arm64 and not for linux/amd64"):
        import_bundle(tmp_path / "b.tar", Store.create(tmp_path / "other"), [KEY.public], platform=AMD64)


def test_a_bundle_for_a_platform_that_an_image_has_not_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    store, _, _ = two_platforms(tmp_path / "store")
    for name in ("linux/arm", "linux/riscv64"):
        with pytest.raises(UsageError, match=f"is for linux/amd64, linux/arm64, not for {name}; give one of these"):
            write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=None, platform=Platform.parse(name))
    receipt = Receipt("lathe-7", ARM64, frozenset())
    with pytest.raises(UsageError, match="the receipt is of a device for linux/arm64, not for linux/amd64"):
        write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=None, platform=AMD64, receipt=receipt)
    assert not (tmp_path / "b.tar").exists()


def test_a_receipt_for_a_platform_that_no_image_has_is_refused(tmp_path: Path) -> None:
    store, _, _ = two_platforms(tmp_path / "store")
    with pytest.raises(IncompatibleError, match="linux/arm/v7"):
        write_bundle(
            store, ["churn:1"], tmp_path / "b.tar", key=KEY,
            receipt=Receipt("old", Platform.parse("linux/arm/v7"), frozenset()),
        )  # fmt: skip
    single = simple(tmp_path / "single")
    with pytest.raises(IncompatibleError, match="is for linux/amd64 and not for linux/arm64"):
        write_bundle(single, ["churn:1"], tmp_path / "b.tar", key=None, receipt=Receipt("d", ARM64, frozenset()))
    assert not (tmp_path / "b.tar").exists()


def test_missing_and_damaged_blobs_are_named_and_leave_no_file(tmp_path: Path) -> None:
    store = simple(tmp_path / "store")
    first, second, third = images(store, store.resolve("churn:1"))[0][1].layers
    data = store.path(third.digest).read_bytes()
    store.path(third.digest).write_bytes(b"X" + data[1:])
    with pytest.raises(DigestMismatchError, match=third.digest.hex):
        write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=KEY)
    store.path(first.digest).unlink()
    store.path(second.digest).unlink()
    with pytest.raises(NotFoundError, match=rf"{first.digest}, {second.digest}"):
        write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=KEY)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_unknown_tags_are_named(tmp_path: Path) -> None:
    store = simple(tmp_path / "store")
    with pytest.raises(NotFoundError, match="nope:1"):
        write_bundle(store, ["churn:1", "nope:1"], tmp_path / "b.tar", key=KEY)
    with pytest.raises(UsageError, match="no tag"):
        write_bundle(store, [], tmp_path / "b.tar", key=KEY)
    with pytest.raises(NotFoundError, match="no such folder"):
        write_bundle(store, ["churn:1"], tmp_path / "nowhere" / "b.tar", key=KEY)


def test_a_member_of_eight_gibibytes_and_more_has_a_header_that_tar_reads() -> None:
    size = 9 << 30
    data = tar_header("blobs/sha256/" + "a" * 64, size=size)
    assert len(data) == 3 * 512
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert (tar.firstmember.name[-64:], tar.firstmember.size) == ("a" * 64, size)


@pytest.mark.real("skopeo")
def test_another_tool_reads_a_bundle_as_an_oci_archive(tmp_path: Path) -> None:
    store = simple(tmp_path / "store")
    write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=KEY)
    command = ["skopeo", "inspect", "--raw", f"oci-archive:{tmp_path / 'b.tar'}:churn:1"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    assert Digest.of(raw) == store.resolve("churn:1").digest


def test_a_receipt_survives_its_own_bytes(tmp_path: Path) -> None:
    store = simple(tmp_path / "store")
    receipt = Receipt.of_store(store, "lathe-7", ARM64)
    assert len(receipt.blobs) == 5
    assert Receipt.from_bytes(receipt.to_bytes()) == receipt
    assert json.loads(receipt.to_bytes())["blobs"] == sorted(str(one) for one in receipt.blobs)


@pytest.mark.parametrize("name", ["(none)", "ger\u00e4t", "-x", "a/b", "x" * 255, "localhost.localdomain"])
def test_a_device_may_have_any_name(name: str) -> None:
    receipt = Receipt(name, ARM64, frozenset())
    assert Receipt.from_bytes(receipt.to_bytes()) == receipt


def test_all_violations_of_a_receipt_are_told_together() -> None:
    data = json.dumps(
        {"schema": "edgepack.receipt/v2", "device": "a b", "platform": "arm", "blobs": ["md5:1", 7]}
    ).encode()
    with pytest.raises(InvalidDocumentError) as caught:
        Receipt.from_bytes(data)
    assert len(caught.value.violations) == 5
    for data in (b"", b"[]", b"{}"):
        with pytest.raises(InvalidDocumentError):
            Receipt.from_bytes(data)


def test_all_violations_of_a_list_are_told_together() -> None:
    blob = {"mediaType": "a/b", "digest": f"sha256:{'a' * 64}", "size": 1}
    value = {
        "schema": "other", "platform": "x", "omitted": [blob], "referrers": {},
        "blobs": [blob, {**blob, "size": -1}],
        "images": [{"name": "../up", "descriptor": blob}, {"name": "sha256-" + "a" * 64, "descriptor": blob}, 3],
    }  # fmt: skip
    with pytest.raises(InvalidDocumentError) as caught:
        Contents.from_bytes(json.dumps(value).encode())
    text = str(caught.value)
    for part in ("schema", "platform", "referrers must", "blobs[1]", "'../up'", "sha256-aaa", "images[2]", "twice"):
        assert part in text
