"""``edgepack package diff`` on images that are really built, from every place, beside what umoci unpacks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edgepack.bundle.receipt import Receipt
from edgepack.oci.descriptor import Platform
from edgepack.oci.store import Store
from tests.integration.support.images import Commands, Site
from tests.support.running import run

pytestmark = pytest.mark.usefixtures("second")
AMD64 = Platform("linux", "amd64")


def diff(site: Site, first: object, second: object, *more: str) -> dict[str, Any]:
    (found,) = (
        one
        for one in site.commands.edgepack("package", "diff", first, second, *more).json["platforms"]
        if one["platform"] == "linux/amd64"
    )
    assert isinstance(found, dict)
    return found


@pytest.mark.real("skopeo", "umoci", "diff")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks owners")
def test_files_differ_as_in_what_umoci_unpacks(site: Site, rootfs: dict[str, Path], place: Path) -> None:
    site.commands.edgepack("package", "push", "mlp:2", f"oci:{place}/diff-layout:two")
    run("skopeo", "copy", "--override-arch", "amd64", f"oci:{place}/diff-layout:two", f"oci:{place}/diff-single:two")
    run("umoci", "unpack", "--image", f"{place}/diff-single:two", place / "diff-unpacked")
    other = place / "diff-unpacked/rootfs"
    said = run("diff", "-rq", "--no-dereference", rootfs["amd64"], other, code=1).splitlines()
    found = diff(site, "mlp:1", "mlp:2")
    files = {one["name"]: one["change"] for one in found["files"]}
    models = "var/azureml-app/azureml-models/mlp"
    expected = {str(path.relative_to(top)): change
                for top, version, change in ((rootfs["amd64"], 1, "removed"), (other, 2, "added"))
                for path in (top / models / str(version)).rglob("*") if path.is_file()}  # fmt: skip
    expected["opt/edgepack/service.json"] = "changed"
    assert files == expected
    # diff names the two folders of the model, and the one file that differs.
    assert len(said) == 3


def test_the_moved_bytes_are_those_that_a_bundle_for_the_device_has(site: Site, place: Path) -> None:
    other = Commands(place / "has-one", place / "has-one/workspace")
    site.commands.edgepack("package", "push", "mlp:1", f"oci:{place}/one-layout:mlp:1")
    other.edgepack("package", "load", f"oci:{place}/one-layout:mlp:1", "-t", "mlp:1")
    receipt = place / "receipt-of-one.json"
    receipt.write_bytes(Receipt.of_store(Store.open_existing(other.workspace / "store"), "device", AMD64).to_bytes())
    path = place / "mlp-2.bundle"
    made = site.commands.edgepack(
        "bundle", "create", "mlp:2", "-o", path, "--key", "test", "--since", receipt, "--platform", "linux/amd64"
    ).json
    found = diff(site, "mlp:1", f"bundle:{path}")
    assert [one["name"] for one in found["models"]] == ["mlp"]
    # A bundle has the index, the signature, the SBOM, the provenance and the lock besides.
    assert 0 <= made["bytes"] - found["moved_bytes"] < 40_000
    assert found == diff(site, "mlp:1", "mlp:2")


def test_every_place_gives_the_same_difference(site: Site, archive: Path, layout: Path) -> None:
    expected = diff(site, "mlp:1", "mlp:2")
    for place in (f"docker-archive:{archive}", f"oci-archive:{archive}", f"oci:{layout}:one"):
        assert diff(site, place, "mlp:2") == expected
