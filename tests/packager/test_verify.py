"""Proof: what is attached travels and stays true, images are verified, and built again to the same digest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.bundle.read import import_bundle
from edgepack.bundle.write import write_bundle
from edgepack.errors import InvalidDocumentError, NotFoundError, UsageError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.attachments import Attachment, attach, attached
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.layer import LayerEntry
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.reachable import reachable
from edgepack.oci.store import Store
from packager.images.build import Build
from packager.images.documents import documents
from packager.images.rebuild import rebuild
from packager.images.verify import verify
from packager.layers.compressors import write_best_layer
from packager.places.table import find_destination, find_file, find_registry
from packager.registries.access import Access
from packager.workspaces.collect import collect
from packager.workspaces.workspace import Workspace
from tests.edgepack.support.registry_simulator import Simulator, running
from tests.packager.support.bases import AMD64, ARM64
from tests.packager.support.described import build, make_described, write_code
from tests.support import forked
from tests.support.parts import remove_tree
from tests.support.running import Done


def package(workspace: Workspace, *words: object) -> Done:
    env = {**os.environ, "EDGEPACK_CACHE": str(workspace.cache)}
    return forked.finish("edgepack", "package", *words, "--workspace", workspace.root, env=env)


KINDS = {mediatypes.CYCLONEDX, mediatypes.IN_TOTO, mediatypes.LOCK_ARTIFACT}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    return make_described(tmp_path, monkeypatch)


@pytest.fixture
def both(workspace: Workspace, tmp_path: Path) -> Build:
    """An index of two platforms, of a model and code."""
    return build(workspace, AMD64, ARM64, source=write_code(tmp_path))


def kinds(store: Store, built: Build) -> list[set[str | None]]:
    """What is attached to each platform's image, each once."""
    found = []
    for image in built.images:
        listed = store.referrers(image.descriptor.digest)
        found.append({one.artifact_type for one in listed})
        assert len(listed) == len(found[-1])
        for kind in KINDS & found[-1]:
            assert attached(store, image.descriptor.digest, str(kind)), "readable too"
    return found


# ---- What is attached travels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_api", [True, False], ids=["a registry with a list", "by the fallback tag"])
def test_a_push_and_a_pull_take_along_what_is_attached_to_each_platform(
    workspace: Workspace, both: Build, tmp_path: Path, has_api: bool
) -> None:
    with running(Simulator(referrers_api=has_api)) as simulator:
        host = f"127.0.0.1:{simulator.port}"
        reference, access = f"{host}/churn:1", Access((host,))
        find_destination(reference, access).send(workspace.store, "churn:1", both.descriptor)
        moved = find_destination(reference, access).send(workspace.store, "churn:1", both.descriptor)
        assert moved.moved_bytes == 0
        other = Workspace(tmp_path / "other", tmp_path / "cache")
        find_registry(reference, access).load(other.store, "churn:1")
        place = find_registry(reference, access)
        with place.open() as (source, root):
            assert len(documents(source, root, "sbom", reference)) == 2
    assert kinds(other.store, both) == [KINDS, KINDS]
    assert verify(other.store, both.descriptor, {}).findings == ()


def test_a_layout_and_a_bundle_take_them_along_and_an_archive_does_not(
    workspace: Workspace, both: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Workspace(tmp_path / "other", tmp_path / "cache")
    find_destination(f"oci:{tmp_path}/layout").send(workspace.store, "churn:1", both.descriptor)
    find_file(str(tmp_path / "layout")).load(other.store)
    assert kinds(other.store, both) == [KINDS, KINDS]
    write_bundle(workspace.store, ["churn:1"], tmp_path / "b.edgepack", key=None)
    device = Store.create(tmp_path / "device")
    import_bundle(tmp_path / "b.edgepack", device, [], allow_unsigned=True, platform=ARM64)
    assert kinds(device, both) == [set(), KINDS], "of the platform that the device takes"
    third = Workspace(tmp_path / "third", tmp_path / "cache")
    find_file(str(tmp_path / "b.edgepack")).load(third.store)
    assert kinds(third.store, both) == [KINDS, KINDS], "a bundle is a layout in a tar"
    caplog.set_level("INFO")
    find_destination(f"oci-archive:{tmp_path}/a.tar").send(workspace.store, "churn:1", both.descriptor)
    assert "its SBOM and provenance go to oci:DIR" in caplog.text
    assert "signed" not in caplog.text
    fourth = Workspace(tmp_path / "fourth", tmp_path / "cache")
    find_file(str(tmp_path / "a.tar")).load(fourth.store)
    assert kinds(fourth.store, both) == [set(), set()]


def test_they_are_kept_as_long_as_their_image_and_collected_with_it(workspace: Workspace, both: Build) -> None:
    fresh = Workspace(workspace.root, workspace.cache)
    collect(fresh)
    assert kinds(fresh.store, both) == [KINDS, KINDS]
    listed = {one.digest for image in both.images for one in fresh.store.referrers(image.descriptor.digest)}
    assert listed <= reachable(fresh.store).blobs
    fresh.store.untag(["churn:1"])
    assert not listed & reachable(fresh.store).blobs
    collect(Workspace(workspace.root, workspace.cache))
    assert {item.annotations[mediatypes.REF_NAME] for item in fresh.store.index().manifests} == {"full:1", "tiny:1"}


def test_a_lying_source_attaches_nothing_that_is_not_the_images(
    workspace: Workspace, both: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (image.descriptor for image in both.images)
    layout = Store.create(tmp_path / "layout")
    find_destination(f"oci:{tmp_path}/layout").send(workspace.store, "churn:1", both.descriptor)
    foreign = [replace(one, annotations={"lies": "yes"}) for one in layout.referrers(second.digest)]
    absent = Descriptor(mediatypes.MANIFEST, Digest.of(b"absent"), 6, artifact_type=mediatypes.CYCLONEDX)
    layout.add_referrers(first.digest, [*foreign, absent])
    other = Workspace(tmp_path / "other", tmp_path / "cache")
    find_file(str(tmp_path / "layout")).load(other.store)
    assert kinds(other.store, both) == [KINDS, KINDS]
    assert caplog.text.count("going on without") == 3, "what is listed and is not there is passed over by the layout"


def test_of_thousands_of_artifacts_ours_are_taken_first(
    workspace: Workspace, both: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edgepack.oci.attachments.LIMITS", replace(LIMITS, referrers=5))
    image = both.images[0].descriptor
    found = find_destination(f"oci:{tmp_path}/layout")
    for number in range(20):
        attach(workspace.store, image, Attachment("application/x.junk", "text/plain", str(number).encode()))
    found.send(workspace.store, "churn:1", both.descriptor)
    listed = Store.open_existing(tmp_path / "layout").referrers(image.digest)
    assert len(listed) == 5
    assert {one.artifact_type for one in listed} > KINDS
    assert "has 23 artifacts attached; 5 are taken" in caplog.text


def test_ten_thousand_artifacts_are_listed_by_one_change_and_no_list_grows_beyond_reading(workspace: Workspace) -> None:
    subject = Digest.of(b"image")
    many = [
        Descriptor(mediatypes.MANIFEST, Digest.of(str(one).encode()), 9, artifact_type="application/x.junk")
        for one in range(10_000)
    ]
    workspace.store.add_referrers(subject, many)
    assert len(workspace.store.referrers(subject)) == 10_000
    with pytest.raises(UsageError, match="more than a list can hold"):
        workspace.store.add_referrers(subject, [replace(one, annotations={"a": "b" * 500}) for one in many])
    assert len(workspace.store.referrers(subject)) == 10_000


# ---- Inspecting and verifying ---------------------------------------------------------------------------------------


def test_a_document_of_another_image_is_refused(workspace: Workspace, both: Build, tmp_path: Path) -> None:
    first, second = (image.descriptor for image in both.images)
    for kind, artifact_type in (("sbom", mediatypes.CYCLONEDX), ("provenance", mediatypes.IN_TOTO)):
        (foreign,) = attached(workspace.store, second.digest, artifact_type)
        attach(workspace.store, first, foreign)
        with pytest.raises(InvalidDocumentError, match="is about another image"):
            documents(workspace.store, both.descriptor, kind, "churn:1")
    findings = verify(workspace.store, both.descriptor, {}).findings
    assert ["is about another image" in one.what for one in findings] == [True, True]
    done = package(workspace, "verify", "churn:1")
    assert done.code == 4, done.stderr
    assert "is about another image" in done.stderr


@pytest.mark.parametrize("what", ["layer", "config", "manifest", "sbom"])
def test_a_damaged_blob_is_found(workspace: Workspace, both: Build, what: str) -> None:
    store, image = workspace.store, both.images[0].descriptor
    manifest = store.manifest(image)
    (artifact,) = store.referrers(image.digest, mediatypes.CYCLONEDX)
    damaged = {
        "layer": manifest.layers[-1], "config": manifest.config, "manifest": image,
        "sbom": store.manifest(artifact).layers[0],
    }[what]  # fmt: skip
    path = store.path(damaged.digest)
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    assert verify(store, both.descriptor, {}).findings


def test_a_layer_that_is_not_what_the_configuration_says_is_found(workspace: Workspace) -> None:
    built = build(workspace)
    store = workspace.store
    manifest = store.manifest(built.descriptor)
    config = ImageConfig.from_bytes(store.read(manifest.config))
    wrong = replace(config, diff_ids=(*config.diff_ids[:-1], Digest.of(b"another")))
    made = replace(manifest, config=store.put_bytes(wrong.to_bytes(), mediatypes.CONFIG))
    root = store.put_bytes(made.to_bytes(), mediatypes.MANIFEST)
    assert ["its tar hashes to" in one.what for one in verify(store, root, {}).findings] == [True]


def test_a_signature_covers_the_sbom_and_the_provenance(workspace: Workspace, both: Build, tmp_path: Path) -> None:
    key = workspace.keys.create("release")
    store, bundle = workspace.store, tmp_path / "b.edgepack"
    write_bundle(store, ["churn:1"], bundle, key=key)
    checked = verify(store, both.descriptor, workspace.keys.list())
    assert checked.signed_by == ("release",)
    assert {one.signed_by for one in checked.attachments if one.kind in ("sbom", "provenance", "lock")} == {
        ("release",)
    }
    before = bundle.read_bytes()
    write_bundle(store, ["churn:1"], bundle, key=key)
    assert bundle.read_bytes() == before
    image = both.images[0].descriptor
    forged = Attachment(mediatypes.CYCLONEDX, mediatypes.CYCLONEDX, b"{}", {mediatypes.ATTACHMENT_KIND: "sbom"})
    attach(store, image, forged)
    checked = verify(store, both.descriptor, workspace.keys.list())
    assert [one.signed_by for one in checked.attachments if one.subject == image.digest and one.kind == "sbom"].count(
        ()
    ) == 1
    assert checked.findings, "it is no SBOM"
    stranger = verify(store, both.descriptor, {})
    assert (stranger.signed_by, stranger.unknown_keys) == ((), True)


def test_inspect_shows_the_documents(workspace: Workspace, tmp_path: Path) -> None:
    built = build(workspace, source=write_code(tmp_path))
    find_destination(f"oci:{tmp_path}/layout").send(workspace.store, "churn:1", built.descriptor)
    write_bundle(workspace.store, ["churn:1"], tmp_path / "b.edgepack", key=None)
    (data,) = attached(workspace.store, built.descriptor.digest, mediatypes.CYCLONEDX)
    for place in ("churn:1", f"oci:{tmp_path}/layout", f"oci-archive:{tmp_path}/b.edgepack"):
        shown = package(workspace, "inspect", place, "--sbom", "--output", "json")
        assert shown.code == 0, shown.stderr
        assert json.loads(shown.stdout) == json.loads(data.data)
    table = package(workspace, "inspect", "churn:1", "--sbom").stdout
    assert "libc6" in table
    assert "GPL-2.0-or-later, MIT" in table
    table = package(workspace, "inspect", "churn:1", "--provenance").stdout
    assert "pkg:pypi/numpy@2.0" in table
    find_destination(f"oci-archive:{tmp_path}/a.tar").send(workspace.store, "churn:1", built.descriptor)
    none = package(workspace, "inspect", f"oci-archive:{tmp_path}/a.tar", "--sbom")
    assert none.code == 3
    assert "has no SBOM attached" in none.stderr


# ---- Built again ----------------------------------------------------------------------------------------------------


def test_an_image_is_built_again_to_the_same_digest(workspace: Workspace, both: Build, tmp_path: Path) -> None:
    found = rebuild(workspace.builder, both.descriptor, where="churn:1", offline=True)
    assert [(one.made, one.is_same, one.others) for one in found] == [
        (image.descriptor.digest, True, ()) for image in both.images
    ]
    from_source = rebuild(
        workspace.builder, both.descriptor, where="churn:1", offline=True, source_directory=tmp_path / "source"
    )
    assert all(one.is_same for one in from_source)
    write_code(tmp_path, "VALUE = 2")
    (changed, _) = rebuild(
        workspace.builder, both.descriptor, where="churn:1", offline=True, source_directory=tmp_path / "source"
    )
    assert not changed.is_same
    assert changed.difference is not None
    assert changed.layer.endswith("code score.py")
    assert changed.difference.path == "var/azureml-app/source/score.py"
    assert changed.difference.how.startswith("has other content")


@pytest.mark.parametrize(
    ("entry", "how"),
    [
        (LayerEntry.of_bytes("opt/edgepack/service.json", b"{}"), "has other content"),
        (LayerEntry.of_bytes("opt/edgepack/service.json", b"", 0o755), "has"),
        (LayerEntry.of_bytes("opt/edgepack/another.json", b"{}"), "is in the image, and not in what was built again"),
        (LayerEntry("opt/edgepack/service.json", "symlink", 0o777, linkname="x"), "is a symlink in the image"),
    ],
    ids=["content", "mode", "added", "kind"],
)
def test_the_first_layer_and_path_that_differ_are_named(workspace: Workspace, entry: LayerEntry, how: str) -> None:
    built = build(workspace)
    root = with_other_layer(workspace.store, built.descriptor, "config", entry)
    workspace.store.tag("churn:1", root)
    done = package(workspace, "verify", "churn:1", "--rebuild", "--offline")
    assert done.code == 4, done.stderr
    assert f"/{entry.path} {how}" in done.stderr
    assert "config service.json" in done.stderr


def with_other_layer(store: Store, image: Descriptor, kind: str, entry: LayerEntry) -> Descriptor:
    """The image with another layer of ``kind``, and with its provenance made out to that."""
    manifest = store.manifest(image)
    config = ImageConfig.from_bytes(store.read(manifest.config))
    (number,) = [number for number, layer in enumerate(manifest.layers) if layer.kind == kind]
    layer = write_best_layer([entry], store, kind=kind, title="service.json")
    layers = (*manifest.layers[:number], layer.descriptor, *manifest.layers[number + 1 :])
    diff_ids = (*config.diff_ids[:number], layer.diff_id, *config.diff_ids[number + 1 :])
    described = store.put_bytes(replace(config, diff_ids=diff_ids).to_bytes(), mediatypes.CONFIG)
    root = store.put_bytes(replace(manifest, config=described, layers=layers).to_bytes(), mediatypes.MANIFEST)
    for kind_of in (mediatypes.IN_TOTO, mediatypes.LOCK_ARTIFACT):
        (document,) = attached(store, image.digest, kind_of)
        data = document.data.replace(image.digest.hex.encode(), root.digest.hex.encode())
        attach(store, root, replace(document, data=data))
    return root


def test_an_input_that_is_missing_is_named(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    built = build(workspace)
    wheels = sorted((workspace.cache / "wheels").glob("*/helper*.whl"))
    for wheel in wheels:
        wheel.unlink()
    (found,) = rebuild(workspace.builder, built.descriptor, where="churn:1", offline=True)
    assert found.made is None
    assert "helper 1.5 not cached" in found.missing
    workspace.models.delete(workspace.models.list()[0].ref)
    (found,) = rebuild(workspace.builder, built.descriptor, where="churn:1", offline=True)
    assert "churn:1" in found.missing
    done = package(workspace, "verify", "churn:1", "--rebuild", "--offline")
    assert done.code == 3, done.stderr


def test_another_compressor_is_named_and_the_contents_compared(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(workspace)
    for module in ("layers.compressors", "images.provenance", "images.rebuild", "wheels.settings"):
        monkeypatch.setattr(f"packager.{module}.compressor_name", lambda level=6: "libdeflate by deflate 0.1 level 6")
    monkeypatch.setattr("packager.layers.compressors.LEVEL", 9)
    (found,) = rebuild(workspace.builder, built.descriptor, where="churn:1", offline=True)
    assert found.made != found.image
    assert found.is_same, found
    assert "compressor libdeflate by deflate" in found.others[0]


def test_a_document_that_leaves_something_out_is_not_what_is_made_again(workspace: Workspace) -> None:
    built = build(workspace)
    store, image = workspace.store, built.descriptor
    (true,) = attached(store, image.digest, mediatypes.CYCLONEDX)
    value = json.loads(true.data)
    del value["components"][0]
    store.add_referrers(image.digest, [], lambda one: one.artifact_type == mediatypes.CYCLONEDX)
    attach(store, image, replace(true, data=json.dumps(value).encode()))
    assert verify(store, image, {}).findings == ()
    done = package(workspace, "verify", "churn:1", "--rebuild", "--offline")
    assert done.code == 4, done.stderr
    assert "the attached sbom is not what is made again" in done.stderr


@pytest.mark.parametrize("statement", [b"{}", b'{"predicate": 1}'])
def test_a_statement_by_which_nothing_can_be_built_is_refused(workspace: Workspace, statement: bytes) -> None:
    built = build(workspace)
    store, image = workspace.store, built.descriptor
    value = {
        "predicateType": "https://slsa.dev/provenance/v1",
        "subject": [{"digest": {"sha256": image.digest.hex}}],
        **json.loads(statement),
    }
    store.add_referrers(image.digest, [], lambda one: one.artifact_type == mediatypes.IN_TOTO)
    with pytest.raises(NotFoundError, match="no provenance attached"):
        rebuild(workspace.builder, image, where="churn:1", offline=True)
    data = json.dumps(value).encode()
    kind = {mediatypes.ATTACHMENT_KIND: "provenance"}
    attach(store, image, Attachment(mediatypes.IN_TOTO, mediatypes.IN_TOTO, data, kind))
    with pytest.raises(InvalidDocumentError, match="is not one by which to build again"):
        rebuild(workspace.builder, image, where="churn:1", offline=True)


# ---- Two machines' worth of differences -----------------------------------------------------------------------------


def _is_packages(path: str) -> bool:
    return path.endswith("site-packages")


_OTHER = Path("/usr/bin/python3.11")


@pytest.mark.parametrize(
    ("python", "user"),
    [(Path(sys.executable), ""), (_OTHER, "nobody")],
    ids=["this Python", "another patch release, not as root"],
)
def test_another_machine_makes_the_same_image_sbom_and_provenance(
    workspace: Workspace, tmp_path: Path, python: Path, user: str, request: pytest.FixtureRequest
) -> None:
    if not python.exists():
        pytest.skip("there is no other Python 3.11 here")
    built = build(workspace, AMD64, ARM64, source=write_code(tmp_path))
    here = sorted(
        str(one.digest) for image in built.images for one in workspace.store.referrers(image.descriptor.digest)
    )
    there = Path(tempfile.mkdtemp(prefix="another machine"))  # which another user may enter
    request.addfinalizer(lambda: remove_tree(there))
    program = Path(__file__).parents[1] / "support" / "programs" / "other_machine.py"
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(there / "home"), "TZ": "Asia/Kathmandu", "LC_ALL": "C",
        "PYTHONHASHSEED": "4711", "SOURCE_DATE_EPOCH": "1700000000", "PYTHONUTF8": "0",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(_is_packages, sys.path)]),
    }  # fmt: skip
    done = subprocess.run(
        [python, program, there, user], cwd=there, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["image"] == str(built.descriptor.digest)
    assert said["attached"] == here
    assert Index.from_bytes(workspace.store.read(built.descriptor)).manifests
    assert Manifest.from_bytes(workspace.store.read(built.images[0].descriptor)).layers
