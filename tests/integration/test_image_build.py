"""What ``package build`` makes of a model: small, equal wherever it is built, and cheap to change."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from edgepack.oci.store import Store
from edgepack.oci.validate import validate
from tests.integration.support.images import PLATFORMS, Commands, Second, Site, image_of, measure
from tests.support.running import run
from tests.support.sampling import WHOLE

IMAGE_FIELDS = {"platform", "digest", "size", "unpacked_size", "new_bytes", "seconds", "layers"}
LAYER_FIELDS = {"digest", "kind", "title", "size", "unpacked_size", "new"}
KINDS = ["base", "wheel", "wheel", "wheels", "server", "config", "model"]


def test_the_answer_has_its_fields(site: Site) -> None:
    assert set(site.built) == {"tag", "digest", "platforms"}
    assert [image["platform"] for image in site.built["platforms"]] == PLATFORMS.split(",")
    for image in site.built["platforms"]:
        assert set(image) == IMAGE_FIELDS
        assert image["seconds"] > 0
        assert all(set(layer) == LAYER_FIELDS for layer in image["layers"])
        assert [layer["kind"] for layer in image["layers"]] == KINDS
        # The model's layer was made at registration, so it is not new.
        assert [layer["new"] for layer in image["layers"]][-1] is False
        assert image["new_bytes"] <= image["size"]


def test_the_image_is_small_by_its_answer_and_by_its_blobs(site: Site) -> None:
    image = image_of(site.built, "linux/amd64")
    assert image["size"] <= 48_000_000
    assert image["unpacked_size"] <= 130_000_000
    for image in site.built["platforms"]:
        found = measure(site.commands.blobs, image["digest"])
        assert found.size == image["size"]
        assert found.unpacked_size == image["unpacked_size"]
        assert found.layers == tuple(layer["digest"] for layer in image["layers"])


def test_the_second_opinion_finds_nothing(site: Site) -> None:
    store = Store.open_existing(site.commands.workspace / "store")
    assert validate(store, store.resolve("mlp:1")) == []


def test_inspect_tells_what_build_told(site: Site) -> None:
    found = site.commands.edgepack("package", "inspect", "mlp:1").json
    assert found["digest"] == site.built["digest"]
    for shown, built in zip(found["platforms"], site.built["platforms"], strict=True):
        assert (shown["digest"], shown["size"]) == (built["digest"], built["size"])
        assert shown["user"] == "10001:10001"
        assert [layer["digest"] for layer in shown["layers"]] == [layer["digest"] for layer in built["layers"]]


def test_a_new_version_of_the_model_adds_its_own_bytes_and_little_else(site: Site, second: Second) -> None:
    new = {name: size for name, size in second.after.items() if name not in second.before}
    assert sum(new.values()) <= site.models[2].stat().st_size + 64 * 1024
    assert set(second.before) <= set(second.after)
    for image in second.built["platforms"]:
        old = image_of(site.built, image["platform"])
        assert image["digest"] != old["digest"]
        kept = [a["digest"] == b["digest"] for a, b in zip(image["layers"], old["layers"], strict=True)]
        assert kept == [True] * 5 + [False] * 2


def test_the_same_again_adds_nothing(site: Site, second: Second) -> None:
    before = site.commands.blob_sizes()
    again = site.commands.build("mlp:2", "again:2")
    assert site.commands.blob_sizes() == before
    assert again["digest"] == second.built["digest"]
    assert [image["new_bytes"] for image in again["platforms"]] == [0, 0]
    assert not any(layer["new"] for image in again["platforms"] for layer in image["layers"])


def test_a_dry_run_shows_the_layers_and_makes_none(site: Site) -> None:
    before, tags = site.commands.blob_sizes(), site.commands.edgepack("package", "list").json
    argv = ("package", "build", "-m", "mlp:1", "-t", "dry:1", "--dry-run", "--platform", PLATFORMS)
    plans = site.commands.edgepack(*argv).json
    assert [[layer["kind"] for layer in plan["layers"]] for plan in plans] == [KINDS, KINDS]
    assert site.commands.blob_sizes() == before
    assert site.commands.edgepack("package", "list").json == tags


def test_other_folders_clocks_and_masks_give_the_same_digests(site: Site, place: Path) -> None:
    other = {"umask": 0o077, "tz": "Pacific/Auckland", "seed": "4711", "mtime": 1_000_000_000}
    one = fresh_build(place / "elsewhere/one", site.models[1], **other)
    assert layers(one) == layers(site.built)
    assert one["digest"] == site.built["digest"]
    if WHOLE:
        two = fresh_build(place / "two", site.models[1], umask=0o022, tz="UTC", seed="0", mtime=None)
        assert layers(two) == layers(site.built)
        assert two["digest"] == site.built["digest"]


def layers(built: Any) -> list[list[tuple[str, str]]]:
    return [[(layer["title"], layer["digest"]) for layer in image["layers"]] for image in built["platforms"]]


def fresh_build(folder: Path, model: Path, *, umask: int, tz: str, seed: str, mtime: int | None) -> Any:
    """Register and build in a new workspace, as another user at another place would."""
    folder.mkdir(parents=True)
    copy = folder / "mlp.onnx"
    copy.write_bytes(model.read_bytes())
    copy.chmod(0o600 if umask == 0o077 else 0o664)
    if mtime is not None:
        os.utime(copy, (mtime, mtime))
    commands = Commands(folder, folder / "space", {"TZ": tz, "PYTHONHASHSEED": seed, "LC_ALL": "C"})
    for words in (
        ("model", "register", "-n", "mlp", "-p", "mlp.onnx"),
        ("package", "build", "-m", "mlp", "-t", "other/name:9", "--platform", PLATFORMS),
    ):
        told = run(*commands.argv("edgepack", *words), cwd=folder, env=commands.environment(), umask=umask)
    return json.loads(told)


def test_it_has_an_sbom_that_knows_the_base_and_is_built_again_to_the_same_digest(site: Site) -> None:
    found = site.commands.edgepack("package", "inspect", "mlp:1", "--sbom").json
    assert set(found) == set(PLATFORMS.split(","))
    for document in found.values():
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None
        base = document["components"][0]
        libc = next(one for one in base["components"] if one["name"] == "libc6")
        assert len(libc["hashes"][0]["content"]) == 64, "of the package's file, by the lock"
        assert document["compositions"][0] == {"aggregate": "complete", "assemblies": ["base"]}
        wheels = {one["name"] for one in document["components"] if one.get("purl", "").startswith("pkg:pypi/")}
        assert {"numpy", "onnxruntime", "orjson", "httptools"} <= wheels
    verified = site.commands.edgepack("package", "verify", "mlp:1", "--rebuild", "--offline").json
    assert [one["same"] for one in verified["rebuilt"]] == [True, True]
    assert verified["findings"] == []
