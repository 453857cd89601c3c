"""Importing good bundles: all of it, sparse ones, one platform, from a pipe, again, with flat memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgepack.bundle.read import ImportedImage, import_bundle
from edgepack.bundle.receipt import Receipt
from edgepack.bundle.write import write_bundle
from edgepack.errors import IncompatibleError, NotFoundError, SignatureError, UsageError, VerificationError
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.platforms import needs, platform_manifest
from edgepack.oci.store import Store
from edgepack.signing.keys import TrustStore, create_key
from edgepack.signing.statement import attach, verify_image
from tests.edgepack.support.bundles import (
    AMD64,
    ARM64,
    add_image,
    add_index,
    add_layer,
    blobs,
    damage,
    simple,
    snapshot,
)

KEY, OTHER = create_key(), create_key()
TRUST = [KEY.public]


@pytest.fixture
def device(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "device")


def test_an_imported_image_is_whole_named_and_verifies(tmp_path: Path, device: Store) -> None:
    store = simple(tmp_path / "store")
    report = write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=KEY)
    image = store.resolve("churn:1")
    found = import_bundle(tmp_path / "b.tar", device, TRUST)
    assert found.images == (ImportedImage("churn:1", image.digest, (KEY.id,)),)
    assert (found.moved_bytes, found.present_bytes) == (report.bytes, 0)
    assert device.resolve("churn:1") == image
    assert damage(device) == []
    assert all(device.has(blob) for blob in needs(device, image))
    assert verify_image(device, image.digest, TRUST).key_ids == (KEY.id,)
    assert list((device.root / "ingest").iterdir()) == []


def test_importing_again_touches_nothing(tmp_path: Path, device: Store) -> None:
    write_bundle(simple(tmp_path / "store"), ["churn:1"], tmp_path / "b.tar", key=KEY)
    first = import_bundle(tmp_path / "b.tar", device, TRUST)
    before = snapshot(device.root)
    second = import_bundle(tmp_path / "b.tar", device, TRUST)
    assert (second.moved_bytes, second.present_bytes) == (0, first.moved_bytes)
    assert second.images == first.images
    assert snapshot(device.root) == before


def test_a_sparse_bundle_moves_only_what_the_device_lacks(tmp_path: Path, device: Store) -> None:
    store = simple(tmp_path / "store")
    write_bundle(store, ["churn:1"], tmp_path / "one.tar", key=KEY)
    import_bundle(tmp_path / "one.tar", device, TRUST)
    receipt = Receipt.from_bytes(Receipt.of_store(device, "lathe-7", AMD64).to_bytes())
    base = store.manifest(store.resolve("churn:1")).layers[:2]
    store.tag("churn:2", add_image(store, [*base, add_layer(store, 3000, "new")]))
    report = write_bundle(store, ["churn:2"], tmp_path / "two.tar", key=KEY, receipt=receipt)
    found = import_bundle(tmp_path / "two.tar", device, TRUST, platform=AMD64)
    assert found.moved_bytes == report.bytes < 3000 + 4000
    assert found.present_bytes == report.omitted_bytes >= sum(one.size for one in base)
    assert set(device.tags()) == {"churn:1", "churn:2"}
    assert damage(device) == []
    # On a device that holds less than the receipt says, exactly what is missing is named.
    empty = Store.create(tmp_path / "empty")
    with pytest.raises(VerificationError, match="fresh receipt") as caught:
        import_bundle(tmp_path / "two.tar", empty, TRUST)
    text = str(caught.value)
    omitted = [one.digest for one in base] + [blob.digest for blob in needs(store, store.resolve("churn:2"))]
    held = blobs(device) & receipt_names(receipt)
    assert {one.hex for one in omitted if one.hex in text} == held & {one.hex for one in omitted}
    assert caught.value.exit_code == 4
    assert blobs(empty) == set()


def receipt_names(receipt: Receipt) -> set[str]:
    return {one.hex for one in receipt.blobs}


def test_of_several_platforms_only_the_device_s_own_comes_in(tmp_path: Path, device: Store) -> None:
    store = Store.create(tmp_path / "store")
    amd = add_image(store, [add_layer(store, 40_000, "amd")], AMD64)
    arm = add_image(store, [add_layer(store, 60_000, "arm")], ARM64)
    index = add_index(store, amd, arm)
    store.tag("churn:1", index)
    write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=KEY)
    import_bundle(tmp_path / "b.tar", device, TRUST, platform=ARM64)
    assert device.resolve("churn:1").digest == index.digest
    assert device.has(store.manifest(arm).layers[0])
    assert not device.has(store.manifest(amd).layers[0])
    assert platform_manifest(device, index, ARM64).digest == arm.digest
    assert verify_image(device, arm.digest, TRUST, index=index).key_ids == (KEY.id,)
    import_bundle(tmp_path / "b.tar", device, TRUST)
    assert device.has(store.manifest(amd).layers[0])
    with pytest.raises(IncompatibleError, match="nothing for linux/s390x, only for linux/amd64, linux/arm64"):
        import_bundle(tmp_path / "b.tar", device, TRUST, platform=Platform("linux", "s390x"))


def test_a_bundle_for_another_platform_is_refused(tmp_path: Path, device: Store) -> None:
    store = simple(tmp_path / "store")
    write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=KEY)
    write_bundle(store, ["churn:1"], tmp_path / "c.tar", key=KEY, receipt=Receipt("d", AMD64, frozenset()))
    for name in ("b.tar", "c.tar"):
        with pytest.raises(IncompatibleError, match="not for linux/arm64"):
            import_bundle(tmp_path / name, device, TRUST, platform=ARM64)
    assert blobs(device) == set()


def test_several_images_share_their_blobs(tmp_path: Path, device: Store) -> None:
    store = simple(tmp_path / "store", tag="a:1")
    base = store.manifest(store.resolve("a:1")).layers
    store.tag("b:1", add_image(store, [*base, add_layer(store, 100, "b")]))
    store.tag("c:1", store.resolve("a:1"))
    write_bundle(store, ["a:1", "b:1", "c:1"], tmp_path / "b.tar", key=KEY)
    found = import_bundle(tmp_path / "b.tar", device, TRUST)
    assert [one.name for one in found.images] == ["a:1", "b:1", "c:1"]
    assert set(device.tags()) == {"a:1", "b:1", "c:1"}


def test_an_unsigned_bundle_needs_to_be_allowed(tmp_path: Path, device: Store) -> None:
    store = simple(tmp_path / "store")
    write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=None)
    with pytest.raises(SignatureError, match="not signed"):
        import_bundle(tmp_path / "b.tar", device, TRUST)
    assert blobs(device) == set()
    found = import_bundle(tmp_path / "b.tar", device, TRUST, allow_unsigned=True)
    assert found.images[0].key_ids == ()


def test_allowing_the_unsigned_does_not_allow_strangers(tmp_path: Path, device: Store) -> None:
    store = simple(tmp_path / "store")
    attach(store, store.resolve("churn:1"), "churn:1", OTHER)
    write_bundle(store, ["churn:1"], tmp_path / "statement.tar", key=None)
    write_bundle(store, ["churn:1"], tmp_path / "list.tar", key=OTHER)
    for name in ("statement.tar", "list.tar"):
        with pytest.raises(SignatureError, match=OTHER.id):
            import_bundle(tmp_path / name, device, TRUST, allow_unsigned=True)
    assert blobs(device) == set()


def test_an_unsigned_list_over_a_signed_image_tells_who_signed_it(tmp_path: Path, device: Store) -> None:
    store = simple(tmp_path / "store")
    attach(store, store.resolve("churn:1"), "churn:1", KEY)
    write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=None)
    found = import_bundle(tmp_path / "b.tar", device, TRUST, allow_unsigned=True)
    assert found.images[0].key_ids == (KEY.id,)


def test_a_bundle_by_an_unknown_key_is_refused_and_the_key_named(tmp_path: Path, device: Store) -> None:
    write_bundle(simple(tmp_path / "store"), ["churn:1"], tmp_path / "b.tar", key=OTHER)
    with pytest.raises(SignatureError, match=OTHER.id):
        import_bundle(tmp_path / "b.tar", device, TRUST)
    assert blobs(device) == set()


def test_files_that_are_no_bundles_get_one_sentence(tmp_path: Path, device: Store) -> None:
    with pytest.raises(NotFoundError, match="no such bundle"):
        import_bundle(tmp_path / "b.tar", device, TRUST)
    with pytest.raises(UsageError, match="cannot be read"):
        import_bundle(tmp_path, device, TRUST)
    for data in (b"", b"x" * 100, b"x" * 5000, bytes(2048)):
        (tmp_path / "b.tar").write_bytes(data)
        with pytest.raises(VerificationError):
            import_bundle(tmp_path / "b.tar", device, TRUST)


_IMPORT = """
import resource, sys
from pathlib import Path
from edgepack.bundle.read import import_bundle
from edgepack.oci.store import Store
from edgepack.signing.keys import TrustStore
report = import_bundle(Path(sys.argv[1]), Store.create(Path(sys.argv[2])), TrustStore(Path(sys.argv[3])).keys())
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print(report.moved_bytes, peak)
"""


def run_import(bundle: Path | str, store: Path, trust: Path, stdin: Path | None = None) -> tuple[int, int]:
    """Import in a process of its own; gives the moved bytes and its peak memory in KiB."""
    command = [sys.executable, "-c", _IMPORT, str(bundle), str(store), str(trust)]
    if stdin is None:
        done = subprocess.run(command, check=True, capture_output=True)
    else:
        with subprocess.Popen(["cat", stdin], stdout=subprocess.PIPE) as cat:
            done = subprocess.run(command, check=True, capture_output=True, stdin=cat.stdout)
    moved, peak = done.stdout.split()
    return int(moved), int(peak)


def test_memory_is_flat_and_a_pipe_does_as_well(tmp_path: Path) -> None:
    TrustStore(tmp_path / "trust").add(KEY.public.to_pem())
    peaks = []
    for name, size in (("small", 1 << 20), ("large", 96 << 20)):
        store = simple(tmp_path / name, [size, 10_000])
        write_bundle(store, ["churn:1"], tmp_path / f"{name}.tar", key=KEY)
        moved, peak = run_import(tmp_path / f"{name}.tar", tmp_path / f"{name}.device", tmp_path / "trust")
        piped, piped_peak = run_import("-", tmp_path / f"{name}.piped", tmp_path / "trust", tmp_path / f"{name}.tar")
        assert moved == piped > size
        assert damage(Store.create(tmp_path / f"{name}.piped")) == []
        peaks.append((peak, piped_peak))
    # 95 MiB more to move, and less than 8 MiB more in memory.
    assert max(peaks[1]) - min(peaks[0]) < 8 << 10


def partial(device: Store, blob: Descriptor, data: bytes) -> Path:
    path = device.root / "ingest" / f"{blob.digest.hex}.partial"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("good", [True, False])
def test_an_unfinished_blob_is_gone_on_with_or_when_it_is_damaged_begun_again(
    tmp_path: Path, device: Store, good: bool
) -> None:
    store = simple(tmp_path / "store")
    layer = store.manifest(store.resolve("churn:1")).layers[0]
    write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=KEY)
    left = partial(device, layer, store.path(layer.digest).read_bytes()[:30_000] if good else bytes(30_000))
    node = left.stat().st_ino
    import_bundle(tmp_path / "b.tar", device, TRUST)
    assert damage(device) == []
    if good:  # the same file, renamed
        assert device.path(layer.digest).stat().st_ino == node


def test_a_damaged_unfinished_blob_does_not_stand_in_the_way_of_a_pipe_for_ever(tmp_path: Path) -> None:
    TrustStore(tmp_path / "trust").add(KEY.public.to_pem())
    store, device = simple(tmp_path / "store"), Store.create(tmp_path / "device")
    layer = store.manifest(store.resolve("churn:1")).layers[0]
    write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=KEY)
    partial(device, layer, bytes(30_000))
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_import("-", device.root, tmp_path / "trust", tmp_path / "b.tar")
    assert b"a pipe cannot be read twice" in caught.value.stderr
    run_import("-", device.root, tmp_path / "trust", tmp_path / "b.tar")
    assert damage(device) == []
    assert set(device.tags()) == {"churn:1"}
