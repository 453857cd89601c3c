"""``edgepack bundle`` as a site uses it: parts on a stick, verified, served, and put into a real registry."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgepack.bundle.blobs import BundleBlobs, sets
from edgepack.bundle.parts import Wanted
from edgepack.bundle.receipt import Receipt
from edgepack.bundle.served import ServedBundles
from edgepack.errors import (
    MissingPartsError,
    NotFoundError,
    SignatureError,
    UntrustedKeyError,
    UsageError,
    VerificationError,
)
from edgepack.oci.serve import serve
from edgepack.signing.keys import create_key
from packager.commands import bundle_serve
from packager.commands.main import build_cli
from packager.places.mirror import Mapping
from packager.workspaces.workspace import Workspace
from tests.edgepack.support.bundles import add_image, add_layer, snapshot
from tests.support.parts import docker_registry
from tests.support.running import run


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    found = Workspace(tmp_path_factory.mktemp("workspace") / "ws")
    for name in ("sentiment:3", "vision:7"):
        layers = [add_layer(found.store, size, (name, size)) for size in (400_000, 3000)]
        found.store.tag(name, add_image(found.store, [add_layer(found.store, 90_000, "base"), *layers]))
    found.keys.create("release")
    return found


@pytest.fixture
def stick(workspace: Workspace, tmp_path: Path) -> Path:
    done = edgepack(workspace, "create", "sentiment:3", "vision:7", "-o", f"{tmp_path}/usb/", "--key", "release",
                    "--part-size", "300kB", "--output", "json")  # fmt: skip
    assert done.exit_code == 0, done
    assert len(json.loads(done.stdout)["parts"]) > 3
    return tmp_path / "usb"


def edgepack(workspace: Workspace, *words: object) -> Result:
    return CliRunner().invoke(build_cli(), ["bundle", *map(str, words), "--workspace", str(workspace.root)])


def test_a_stick_is_inspected_and_verified_and_left_as_it_is(workspace: Workspace, stick: Path) -> None:
    before = snapshot(stick)
    (found,) = json.loads(edgepack(workspace, "inspect", stick, "--output", "json").stdout)
    assert [one["name"] for one in found["images"]] == ["sentiment:3", "vision:7"]
    assert found["of"] == len(found["files"])
    assert found["missing"] == []
    done = edgepack(workspace, "verify", stick, "--output", "json")
    assert done.exit_code == 0
    (verdict,) = json.loads(done.stdout)
    assert set(verdict["signed_by"]) == {"sentiment:3", "vision:7"}
    assert all(one["problem"] is None for one in verdict["files"])
    assert snapshot(stick) == before


@pytest.mark.parametrize("verb", [["inspect"], ["verify"], ["load", "--to", "127.0.0.1:1/x"], ["serve"]])
def test_a_bundle_that_never_was_there_is_not_a_bad_one(workspace: Workspace, tmp_path: Path, verb: list[str]) -> None:
    error = edgepack(workspace, *verb, tmp_path / "nowhere").exception
    assert isinstance(error, NotFoundError)
    assert error.what == "there is no such bundle"


def test_verify_names_every_bad_and_missing_part_and_asks_for_them(
    workspace: Workspace, stick: Path, tmp_path: Path
) -> None:
    files = sorted(stick.iterdir())
    data = bytearray(files[1].read_bytes())
    data[len(data) - 5000] ^= 1
    files[1].write_bytes(data)
    files[2].write_bytes(files[2].read_bytes()[:-20_000])
    files[0].unlink()
    done = edgepack(workspace, "verify", stick, "--bring-me", tmp_path / "bring.json")
    assert isinstance(done.exception, VerificationError)
    for text in ("part 2 of", "part 3 of", "part 1 of", "is missing"):
        assert text in str(done.exception)
    assert Wanted.from_bytes((tmp_path / "bring.json").read_bytes()).parts == (1, 2, 3)
    done = edgepack(workspace, "create", "--only", tmp_path / "bring.json", "--key", "release", "-o", stick)
    assert done.exit_code == 0, done
    assert edgepack(workspace, "verify", stick).exit_code == 0
    assert isinstance(
        edgepack(workspace, "create", "vision:7", "--only", tmp_path / "bring.json", "-o", stick).exception, UsageError
    )
    sorted(stick.iterdir())[0].unlink()
    assert isinstance(edgepack(workspace, "verify", stick).exception, MissingPartsError)


def test_a_site_trusts_a_key_that_it_is_given(workspace: Workspace, stick: Path, tmp_path: Path) -> None:
    site = Workspace(tmp_path / "site")
    assert isinstance(edgepack(site, "inspect", stick).exception, UntrustedKeyError)
    (tmp_path / "other.pub").write_bytes(create_key().public.to_pem())
    done = edgepack(site, "verify", stick, "--trust", tmp_path / "other.pub")
    assert isinstance(done.exception, VerificationError)
    assert edgepack(site, "verify", stick, "--trust", workspace.keys.public_path("release")).exit_code == 0


@pytest.mark.real("docker-registry")
def test_bundles_go_into_a_registry_and_the_next_one_leaves_out_what_it_holds(
    workspace: Workspace, stick: Path, tmp_path: Path
) -> None:
    with docker_registry(tmp_path / "registry") as port:
        to = f"127.0.0.1:{port}/ml"
        done = edgepack(workspace, "load", stick, "--to", to, "--map", "vision=cameras/vision", "--output", "json")
        assert done.exit_code == 0, done
        found = {one["image"]: one for one in json.loads(done.stdout)}
        assert found["vision:7"]["reference"] == f"{to}/cameras/vision:7"
        image = workspace.store.resolve("sentiment:3")
        assert found["sentiment:3"]["digest"] == str(image.digest)
        words = ["package", "inspect", f"{to}/sentiment:3", "--workspace", str(workspace.root), "--output", "json"]
        shown = json.loads(CliRunner().invoke(build_cli(), words).stdout)
        assert shown["digest"] == str(image.digest)
        assert shown["signed_by"]  # the statement went with it
        again = json.loads(edgepack(workspace, "load", stick, "--to", to, "--output", "json").stdout)
        assert again[0]["moved_bytes"] == 0

        receipts = [tmp_path / "site.receipt", tmp_path / "other.receipt"]
        assert edgepack(workspace, "receipt", f"{to}/sentiment", "-o", receipts[0], "--key", "release").exit_code == 0
        assert (
            edgepack(workspace, "receipt", f"{to}/sentiment:3", f"{to}/cameras/vision:7", "-o", receipts[1]).exit_code
            == 0
        )
    one, both = (Receipt.from_bytes(path.read_bytes()) for path in receipts)
    assert one.blobs < both.blobs
    assert {blob.digest for blob in workspace.store.manifest(image).blobs} < one.blobs
    for given, least in (([receipts[1]], 890_000), (receipts, 490_000)):
        since = [word for path in given for word in ("--since", path)]
        done = edgepack(workspace, "create", "sentiment:3", "vision:7", "-o", tmp_path / "next.bundle",
                        "--key", "release", *since, "--output", "json")  # fmt: skip
        assert least < json.loads(done.stdout)["omitted_bytes"] < least + 20_000


@pytest.mark.real("skopeo")
def test_a_bundle_in_parts_is_served_to_skopeo(workspace: Workspace, stick: Path, tmp_path: Path) -> None:
    files = [BundleBlobs(path, workspace.keys.list().values()).__enter__() for path in sorted(stick.iterdir())]
    with serve(ServedBundles(sets(files))) as port:
        run("skopeo", "copy", "-q", "--preserve-digests", "--src-tls-verify=false", f"docker://127.0.0.1:{port}/vision:7",
            f"oci:{tmp_path}/oci:x")  # fmt: skip
    for blob in workspace.store.manifest(workspace.store.resolve("vision:7")).blobs:
        assert (tmp_path / "oci/blobs/sha256" / blob.digest.hex).read_bytes() == workspace.store.path(
            blob.digest
        ).read_bytes()
    for one in files:
        one.__exit__(None, None, None)


def test_serve_says_which_parts_it_needs(workspace: Workspace, stick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_serve, "_until_interrupted", lambda: None)
    done = edgepack(workspace, "serve", stick, "--host", "127.0.0.1", "--port", "0", "--output", "json")
    assert done.exit_code == 0, done
    assert len(json.loads(done.stdout)["images"]) == 2
    sorted(stick.iterdir())[1].unlink()
    done = edgepack(workspace, "serve", stick, "--host", "127.0.0.1", "--port", "0")
    assert isinstance(done.exception, NotFoundError)
    assert "lacks 2 of its parts" in str(done.exception)


@pytest.mark.parametrize(
    ("image", "rules", "name"),
    [
        ("sentiment:3", [], "r.lan:5000/ml/sentiment:3"),
        ("old.lan/team/sentiment:3", [], "r.lan:5000/ml/team/sentiment:3"),
        ("team/sentiment:3", ["team=t", "team/sentiment=mood"], "r.lan:5000/ml/mood:3"),
        ("teams/sentiment:3", ["team=t"], "r.lan:5000/ml/teams/sentiment:3"),
    ],
)
def test_names_are_mapped_by_rule(image: str, rules: list[str], name: str) -> None:
    assert Mapping.parse("r.lan:5000/ml/", rules).name(image) == name


def test_what_cannot_be_a_destination_or_a_rule_is_refused(workspace: Workspace, stick: Path) -> None:
    for words in (["--to", "ml"], ["--to", "r.lan", "--map", "x"]):
        assert isinstance(edgepack(workspace, "load", stick, *words).exception, UsageError)
    for words in (["--part-size", "10"], ["--part-size", "much"]):
        assert edgepack(workspace, "create", "vision:7", "-o", stick, *words).exit_code == 2
    done = edgepack(workspace, "create", "vision:7", "-o", stick.parent / "file", "--part-size", "1MB")
    assert "parts are written to a folder" in str(done.exception)


def test_an_image_that_nobody_signed_is_not_loaded(workspace: Workspace, tmp_path: Path) -> None:
    other = Workspace(tmp_path / "other")
    other.store.tag("plain:1", add_image(other.store, [add_layer(other.store, 10, "x")]))
    assert edgepack(other, "create", "plain:1", "-o", tmp_path / "plain.bundle").exit_code == 0
    assert isinstance(
        edgepack(workspace, "load", tmp_path / "plain.bundle", "--to", "127.0.0.1:1/x").exception, SignatureError
    )
    shutil.rmtree(tmp_path / "other")
