"""Imports that are killed or run out of disk: the store is whole, has no half image, and the next import finishes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.bundle.read import import_bundle
from edgepack.bundle.write import write_bundle
from edgepack.errors import NoSpaceError
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.platforms import needs
from edgepack.oci.store import Store
from edgepack.signing.keys import TrustStore, create_key
from edgepack.signing.statement import verify_image
from tests.edgepack.support.bundles import blobs, damage, simple

KEY = create_key()
TRUST = [KEY.public]

# Says "go" when everything is loaded, so that the killer's clock starts with the import itself.
_IMPORT = """
import os, signal, sys
from pathlib import Path
import cryptography.hazmat.primitives.serialization, securesystemslib.dsse, securesystemslib.signer
from edgepack.bundle.read import import_bundle
from edgepack.oci.store import Store
from edgepack.signing.keys import TrustStore
left = int(sys.argv[4])
def on_blob(blob, new):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
store, trusted = Store.create(Path(sys.argv[2])), TrustStore(Path(sys.argv[3])).keys()
print("go", flush=True)
import_bundle(Path(sys.argv[1]), store, trusted, on_blob=on_blob)
"""


class Place:
    """A bundle, the trust of a device, and how to import the one there in a process of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = simple(root / "source", [9_000_000, 5_000_000, 100, 12_000_000, 700_000])
        self.bundle = root / "b.tar"
        write_bundle(self.source, ["churn:1"], self.bundle, key=KEY)
        TrustStore(root / "trust").add(KEY.public.to_pem())

    def start(self, device: Path, die_at_blob: int = 0) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", _IMPORT, self.bundle, device, self.root / "trust", str(die_at_blob)]
        child = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"go\n"
        return child

    def check_whole(self, device: Path) -> None:
        """Nothing damaged; and what has a name is complete and verifies."""
        store = Store.open_existing(device)
        assert damage(store) == []
        for image in store.tags().values():
            assert all(store.has(blob) for blob in needs(store, image))
            verify_image(store, image.digest, TRUST)

    def check_finished(self, device: Path) -> None:
        self.check_whole(device)
        store = Store.open_existing(device)
        assert set(store.tags()) == {"churn:1"}
        assert blobs(store) >= {path.digest.hex for path in needs(self.source, self.source.resolve("churn:1"))}
        assert list((device / "ingest").iterdir()) == []


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("crash"))


def test_killed_at_random_moments_it_is_whole_and_finishes(place: Place, tmp_path: Path) -> None:
    child = place.start(tmp_path / "measured")
    started = time.monotonic()
    assert child.wait() == 0
    whole = time.monotonic() - started
    draw = random.Random(20)  # noqa: S311
    killed = tries = 0
    while killed < 14:
        tries += 1
        assert tries < 100, "hardly any import lived long enough to be killed"
        device = tmp_path / f"device{tries}"
        for _ in range(2):  # the second is killed going on with what the first left
            child = place.start(device)
            time.sleep(draw.uniform(0, whole))
            child.send_signal(signal.SIGKILL)
            if child.wait() == -signal.SIGKILL:
                killed += 1
            else:  # the machine was busier when it was measured
                whole *= 0.8
            place.check_whole(device)
        import_bundle(place.bundle, Store.create(device), TRUST)
        place.check_finished(device)


@pytest.mark.parametrize("step", range(1, 11))
def test_killed_at_each_blob_it_is_whole_and_finishes(place: Place, tmp_path: Path, step: int) -> None:
    child = place.start(tmp_path / "device", die_at_blob=step)
    assert child.wait() == -signal.SIGKILL
    place.check_whole(tmp_path / "device")
    assert Store.open_existing(tmp_path / "device").tags() == {}
    import_bundle(place.bundle, Store.create(tmp_path / "device"), TRUST)
    place.check_finished(tmp_path / "device")


def test_two_imports_at_once_both_succeed(place: Place, tmp_path: Path) -> None:
    children = [place.start(tmp_path / "device") for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    place.check_finished(tmp_path / "device")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", mount], check=True)
    yield mount
    subprocess.run(["umount", mount], check=True)


def fill(disk: Path, leave: int) -> Path:
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "ballast").write_bytes(bytes(max(0, free - leave)))
    return disk / "ballast"


@pytest.mark.real("mount")
def test_a_disk_that_is_too_small_is_told_before_anything_is_written(place: Place, small_disk: Path) -> None:
    device = Store.create(small_disk / "device")
    ballast = fill(small_disk, 20 << 20)
    with pytest.raises(NoSpaceError, match="bytes are needed and"):
        import_bundle(place.bundle, device, TRUST)
    assert blobs(device) == set()
    assert list((device.root / "ingest").iterdir()) == []
    ballast.unlink()
    import_bundle(place.bundle, device, TRUST)
    place.check_finished(device.root)
    # Nothing is needed any more, so a full disk does not matter.
    fill(small_disk, 0)
    assert import_bundle(place.bundle, device, TRUST).moved_bytes == 0


@pytest.mark.real("mount")
def test_what_an_earlier_import_left_counts_as_space(place: Place, small_disk: Path) -> None:
    device = Store.create(small_disk / "device")
    largest = max(needs(place.source, place.source.resolve("churn:1")), key=lambda blob: blob.size)
    data = place.source.path(largest.digest).read_bytes()
    (device.root / "ingest" / f"{largest.digest.hex}.partial").write_bytes(data[:-1000])
    fill(small_disk, 17 << 20)
    import_bundle(place.bundle, device, TRUST)
    place.check_finished(device.root)


@pytest.mark.real("mount")
def test_a_disk_that_fills_up_on_the_way_leaves_a_whole_store(place: Place, small_disk: Path) -> None:
    device = Store.create(small_disk / "device")

    def fill_up(blob: Descriptor, new: bool) -> None:
        if blob.size == 12_000_000:
            fill(small_disk, 3 << 20)

    with pytest.raises(NoSpaceError, match="no space left"):
        import_bundle(place.bundle, device, TRUST, on_blob=fill_up)
    place.check_whole(device.root)
    assert device.tags() == {}
    (small_disk / "ballast").unlink()
    import_bundle(place.bundle, device, TRUST)
    place.check_finished(device.root)
