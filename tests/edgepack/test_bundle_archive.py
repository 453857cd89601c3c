"""A bundle of one whole image in one file is an archive too, which Docker's engine and skopeo read."""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory  # a socket's path may have 107 bytes

import pytest

from edgepack.bundle.receipt import Receipt
from edgepack.bundle.receive import import_media
from edgepack.bundle.verify import verify_bundle
from edgepack.bundle.write import write_bundle
from edgepack.bundle.write_parts import write_to_folder
from edgepack.errors import UnsafeArchiveError, VerificationError
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.layer import LayerEntry, NoCompression, write_layer
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from edgepack.signing.keys import create_key
from tests.edgepack.support.bundles import (
    AMD64,
    contents_of,
    digest_of,
    forge,
    member,
    members,
    simple,
    write_tar,
)
from tests.support.parts import docker_engine
from tests.support.running import run

KEY = create_key()
TRUST = [KEY.public]


def real_image(root: Path) -> Store:
    """An image with a layer that an engine can unpack."""
    store = Store.create(root)
    layer = write_layer([LayerEntry.of_bytes("hello.txt", b"hello")], store, NoCompression(), kind="code")
    config = ImageConfig(AMD64, diff_ids=(layer.diff_id,))
    held = store.put_bytes(config.to_bytes(), mediatypes.CONFIG)
    manifest = store.put_bytes(Manifest(held, (layer.descriptor,)).to_bytes(), mediatypes.MANIFEST)
    store.tag("churn:1", replace(manifest, platform=AMD64))
    return store


def test_docker_lists_a_member_more_and_a_device_imports_it(tmp_path: Path) -> None:
    store = simple(tmp_path / "store")
    path = write_bundle(store, ["churn:1"], tmp_path / "b", key=KEY, docker=True).path
    assert members(path)[-1][0].name == "manifest.json"
    contents, _ = contents_of(path, TRUST)
    assert contents.docker
    assert verify_bundle([path], TRUST).is_good
    device = Store.create(tmp_path / "device")
    import_media([path], device, TRUST)
    assert set(device.tags()) == {"churn:1"}
    folder = write_to_folder(store, ["churn:1"], tmp_path / "usb", key=KEY, docker=True)
    assert digest_of(folder.path) == digest_of(path)


def test_what_cannot_be_an_archive_keeps_its_form(tmp_path: Path) -> None:
    store = simple(tmp_path / "store")
    layer = store.manifest(store.resolve("churn:1")).layers[0]
    receipt = Receipt("d", AMD64, frozenset({layer.digest}))
    for name, given in (("a", receipt), ("b", None)):
        if given is None:
            store.tag("latest", store.resolve("churn:1"))
        tag = "churn:1" if given else "latest"
        write_bundle(store, [tag], tmp_path / name, key=KEY, receipt=given, docker=True)
        write_bundle(store, [tag], tmp_path / f"{name}-plain", key=KEY, receipt=given)
        assert digest_of(tmp_path / name) == digest_of(tmp_path / f"{name}-plain")


def test_another_list_for_docker_is_refused(tmp_path: Path) -> None:
    store, device = simple(tmp_path / "store"), Store.create(tmp_path / "device")
    path = write_bundle(store, ["churn:1"], tmp_path / "b", key=KEY, docker=True).path
    parts = members(path)
    entries = json.loads(parts[-1][1])
    entries[0]["Layers"].reverse()
    other = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
    for changed in ([*parts[:-1], member("manifest.json", other)], parts[:-1], [*parts, parts[-1]]):
        write_tar(path, changed)
        with pytest.raises(VerificationError):
            import_media([path], device, TRUST)
        assert device.index().manifests == ()
    forge(path, replace(contents_of(path, TRUST)[0], docker=False), store, KEY)
    with tarfile.open(path) as tar:
        assert "manifest.json" not in tar.getnames()
    write_tar(path, [*members(path), parts[-1]])
    with pytest.raises(UnsafeArchiveError, match="which its list does not name"):
        import_media([path], device, TRUST)


@pytest.mark.real("skopeo")
def test_skopeo_reads_it_in_both_ways(tmp_path: Path) -> None:
    store = real_image(tmp_path / "store")
    path = write_bundle(store, ["churn:1"], tmp_path / "b", key=KEY, docker=True).path
    for kind in ("oci-archive", "docker-archive"):
        shown = json.loads(run("skopeo", "inspect", "--override-arch", "amd64", f"{kind}:{path}"))
        assert shown["Architecture"] == "amd64"
    run("skopeo", "copy", "-q", "--preserve-digests", f"oci-archive:{path}", f"dir:{tmp_path}/dir")


@pytest.mark.real("dockerd", "docker")
def test_docker_loads_it(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can start a Docker engine")
    store = real_image(tmp_path / "store")
    path = write_bundle(store, ["churn:1"], tmp_path / "b", key=KEY, docker=True).path
    with TemporaryDirectory(prefix="edp-b-", dir="/tmp") as folder, docker_engine(Path(folder)) as address:
        assert "churn:1" in run("docker", "-H", address, "load", "-i", path)
        shown = json.loads(run("docker", "-H", address, "image", "inspect", "churn:1"))
    assert shown[0]["Id"] == str(store.manifest(store.resolve("churn:1")).config.digest)
