"""Independent tools on the images: skopeo, umoci, a real registry; and what is in an unpacked image."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.signing.keys import TrustStore
from edgepack.signing.statement import verify_image
from tests.integration.support.images import SITE_PACKAGES, Commands, Second, Site, image_of, measure
from tests.support.parts import docker_registry
from tests.support.running import run


def inspect(architecture: str, image: str) -> Any:
    """What skopeo shows of the image for ``architecture``."""
    return json.loads(run("skopeo", "inspect", "--override-arch", architecture, "--tls-verify=false", image))


def diff_ids(image: str, architecture: str) -> list[str]:
    argv = ("skopeo", "inspect", "--config", "--override-arch", architecture, image)
    ids: list[str] = json.loads(run(*argv))["rootfs"]["diff_ids"]
    return ids


@pytest.mark.real("skopeo")
@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_skopeo_reads_the_layout(site: Site, layout: Path, architecture: str) -> None:
    found = inspect(architecture, f"oci:{layout}:one")
    built = image_of(site.built, f"linux/{architecture}")
    assert (found["Architecture"], found["Os"], found["Digest"]) == (architecture, "linux", site.built["digest"])
    assert found["Layers"] == [layer["digest"] for layer in built["layers"]]
    assert found["Labels"]["io.edgepack.models"] == "mlp:1"


@pytest.mark.real("skopeo")
def test_skopeo_copies_everything_unchanged(site: Site, layout: Path, place: Path) -> None:
    run("skopeo", "copy", "--all", "--preserve-digests", f"oci:{layout}:one", f"oci:{place}/copied:one")
    copied = place / "copied/blobs/sha256"
    assert (copied / site.built["digest"].removeprefix("sha256:")).exists()
    for image in site.built["platforms"]:
        assert measure(copied, image["digest"]) == measure(layout / "blobs/sha256", image["digest"])


@pytest.mark.real("skopeo")
def test_skopeo_turns_it_into_a_docker_archive_and_back(layout: Path, place: Path) -> None:
    archive, back = f"docker-archive:{place}/skopeo.tar", f"oci:{place}/back:one"
    run("skopeo", "copy", "--override-arch", "amd64", f"oci:{layout}:one", f"{archive}:mlp:1")
    run("skopeo", "copy", "--override-arch", "amd64", archive, back)
    wanted = diff_ids(f"oci:{layout}:one", "amd64")
    assert diff_ids(archive, "amd64") == wanted
    assert diff_ids(back, "amd64") == wanted


@pytest.mark.real("skopeo")
@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
def test_skopeo_reads_our_archive_either_way(site: Site, archive: Path, layout: Path, transport: str) -> None:
    assert diff_ids(f"{transport}:{archive}", "amd64") == diff_ids(f"oci:{layout}:one", "amd64")


@pytest.mark.real("skopeo")
def test_an_archive_that_skopeo_wrote_can_be_loaded(site: Site, layout: Path, place: Path) -> None:
    file = place / "by-skopeo.tar"
    run("skopeo", "copy", "--override-arch", "amd64", f"oci:{layout}:one", f"docker-archive:{file}:mlp:1")
    other = Commands(place / "loader", place / "loader/workspace")
    assert other.edgepack("package", "load", file).json["tag"].endswith("mlp:1")
    found = other.edgepack("package", "list").json
    assert len(found) == 1
    shown = other.edgepack("package", "inspect", found[0]["tag"]).json["platforms"]
    assert [layer["diff_id"] for layer in shown[0]["layers"]] == diff_ids(f"oci:{layout}:one", "amd64")


def test_an_archive_and_a_layout_are_loaded_unchanged(site: Site, archive: Path, layout: Path, place: Path) -> None:
    other = Commands(place / "loaded", place / "loaded/workspace")
    assert other.edgepack("package", "load", archive).json["digest"] == site.built["digest"]
    # An archive holds the image alone; of a layout its SBOM, provenance and lock come with it.
    again = other.edgepack("package", "load", layout, "-t", "from-layout:1").json
    assert again["digest"] == site.built["digest"]
    assert again["moved_bytes"] < 100_000
    assert other.edgepack("package", "load", layout, "-t", "from-layout:1").json["moved_bytes"] == 0
    assert {one["tag"] for one in other.edgepack("package", "list").json} == {"mlp:1", "from-layout:1"}


# ---- What is inside -----------------------------------------------------------------------------------------------


@pytest.mark.real("skopeo", "umoci")
@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_records_of_the_wheels_are_true_and_complete(rootfs: dict[str, Path], architecture: str) -> None:
    site_packages = rootfs[architecture] / SITE_PACKAGES
    records = sorted(site_packages.glob("*.dist-info/RECORD"))
    assert {path.parent.name.split("-")[0] for path in records} >= {"numpy", "onnxruntime", "orjson"}
    listed = set()
    for record in records:
        with record.open(newline="") as file:
            for name, digest, size in csv.reader(file):
                path = Path(os.path.normpath(site_packages / name))
                assert path not in listed, f"{name} is listed twice"
                listed.add(path)
                check_listed(path, digest, size, record)
    present = {path for path in site_packages.rglob("*") if not path.is_dir()}
    assert present - listed == set()
    scripts = rootfs[architecture] / "opt/edgepack/bin"
    assert set(scripts.glob("*")) - listed == set()


def check_listed(path: Path, digest: str, size: str, record: Path) -> None:
    data = path.read_bytes()
    if path == record:
        assert (digest, size) == ("", "")
        return
    algorithm, _, value = digest.partition("=")
    found = base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest()).decode().rstrip("=")
    assert (found, str(len(data))) == (value, size), path


@pytest.mark.real("skopeo", "umoci")
@pytest.mark.parametrize(("architecture", "machine"), [("amd64", 62), ("arm64", 183)])
def test_every_native_file_is_for_its_processor(rootfs: dict[str, Path], architecture: str, machine: int) -> None:
    found = {}
    for path in rootfs[architecture].rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                head = file.read(20)
            if head[:4] == b"\x7fELF":
                found[path.name] = int.from_bytes(head[18:20], "little")
    assert set(found.values()) == {machine}
    assert {"libc.so.6", "python3.11"} <= set(found)


@pytest.mark.real("skopeo", "umoci")
@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_files_belong_to_root_and_only_tmp_is_writable(rootfs: dict[str, Path], architecture: str) -> None:
    root = rootfs[architecture]
    for path in root.rglob("*"):
        info = path.lstat()
        name = str(path.relative_to(root))
        if stat.S_ISLNK(info.st_mode):
            target = str(path.readlink())
            inside = root / target.lstrip("/") if target.startswith("/") else path.parent / target
            assert Path(os.path.normpath(inside)).is_relative_to(root), name
            assert os.path.lexists(inside), f"{name} leads nowhere"
            continue
        assert (info.st_uid, info.st_gid) == (0, 0), name
        mode = stat.S_IMODE(info.st_mode)
        assert not mode & (stat.S_ISUID | stat.S_ISGID), name
        assert not mode & stat.S_IWOTH or mode & stat.S_ISVTX, name
        if name.startswith(("opt/", "var/azureml-app")):
            assert mode in ((0o755,) if path.is_dir() else (0o644, 0o755)), name
        # Whoever the container runs as must be able to read what it serves.
        assert mode & stat.S_IROTH or name.startswith(("etc/", "root", "var/", "usr/")), name


@pytest.mark.real("skopeo", "umoci")
def test_the_model_and_the_configuration_lie_where_they_should(site: Site, rootfs: dict[str, Path]) -> None:
    for root in rootfs.values():
        model = root / "var/azureml-app/azureml-models/mlp/1/mlp.onnx"
        assert model.read_bytes() == site.models[1].read_bytes()
        service = json.loads((root / "opt/edgepack/service.json").read_bytes())
        named = service["models"][0]
        assert (root / "opt/edgepack" / named["path"] / named["file"]).resolve() == model.resolve()
        scripts = root / "opt/edgepack/bin"
        for script in scripts.iterdir():
            assert script.read_bytes().startswith(b"#!/usr/bin/python3.11\n")
            assert script.stat().st_mode & 0o111 == 0o111


# ---- A registry ---------------------------------------------------------------------------------------------------


@pytest.mark.real("docker-registry", "skopeo")
def test_a_registry_takes_and_gives_both_versions_and_the_signature(site: Site, second: Second, place: Path) -> None:
    with docker_registry(place / "registry of its own") as port:  # that has no blob of another repository
        _takes_and_gives(site, second, port, place)


def _takes_and_gives(site: Site, second: Second, registry: int, place: Path) -> None:
    commands, name = site.commands, f"127.0.0.1:{registry}/team/mlp"
    commands.edgepack("bundle", "create", "mlp:1", "-o", site.folder / "for-its-signature", "--key", "test")
    first = commands.edgepack("package", "push", "mlp:1", f"{name}:1").json
    assert first["digest"] == site.built["digest"]
    assert first["moved_bytes"] > 60_000_000
    assert commands.edgepack("package", "push", "mlp:1", f"{name}:1").json["moved_bytes"] == 0
    new = sum(size for blob, size in second.after.items() if blob not in second.before)
    moved = commands.edgepack("package", "push", "mlp:2", f"{name}:2").json["moved_bytes"]
    assert 1_000_000 < moved <= new + 4096  # and the lists of what is attached, which the store has in its index
    assert inspect("arm64", f"docker://{name}:1")["Digest"] == site.built["digest"]

    other = Commands(place / "puller", place / "puller/workspace")
    pulled = other.edgepack("package", "pull", f"{name}:1").json
    assert (pulled["tag"], pulled["digest"]) == (f"{name}:1", site.built["digest"])
    by_digest = other.edgepack("package", "pull", f"{name}@{second.built['digest']}", "-t", "mlp:2").json
    assert by_digest["digest"] == second.built["digest"]
    assert by_digest["moved_bytes"] == moved
    trust = TrustStore(place / "puller/trust")
    trust.add((place / "test.pub").read_bytes())
    store = Store.open_existing(other.workspace / "store")
    verify_image(store, Digest.parse(site.built["digest"]), trust.keys())
    # What is loaded from a registry by its full name brings its signature too.
    loader = Commands(place / "loader", place / "loader/workspace")
    loader.edgepack("package", "load", f"docker://{name}:1", "-t", "mlp:1")
    verify_image(Store.open_existing(loader.workspace / "store"), Digest.parse(site.built["digest"]), trust.keys())
