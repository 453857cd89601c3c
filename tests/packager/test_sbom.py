"""The SBOM of every image: valid by the library's own schema, the same wherever it is built, and true."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from edgepack.errors import EdgepackError
from edgepack.limits import LIMITS
from edgepack.oci.mediatypes import CYCLONEDX
from packager.images.attachments import attached
from packager.images.build import Build
from packager.layers.secrets import Secret
from packager.models.model import ModelFile
from packager.sbom.components import components
from packager.sbom.layers import LayerContent, found_in
from packager.sbom.metadata import read_metadata
from packager.sbom.models import ModelInImage, model_component
from packager.sbom.package import Package
from packager.sbom.systems import alpine_packages, debian_licences, debian_packages, system_of
from packager.sbom.wheels import wheel_packages
from packager.wheels.trim import RULES
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import AMD64, ARM64
from tests.packager.support.described import RECORDS, build, make_described, some_wheels, write_code

APK = b"P:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\n\nP:busybox\nV:1.36\nL:GPL-2.0-only\n"


def sboms(workspace: Workspace, built: Build) -> list[dict[str, Any]]:
    """The SBOMs of an image, each held to the schema."""
    found = []
    for image in built.images:
        (one,) = attached(workspace.store, image.descriptor.digest, CYCLONEDX)
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(one.data.decode()) is None
        found.append(json.loads(one.data))
        refs = [item["bom-ref"] for item in _all(found[-1]["components"])]
        known = {*refs, found[-1]["metadata"]["component"]["bom-ref"]}
        assert len(refs) == len(set(refs))
        assert {one["ref"] for one in found[-1]["dependencies"]} <= known
        assert {ref for one in found[-1]["dependencies"] for ref in one.get("dependsOn", ())} <= known
        assert {ref for one in found[-1]["compositions"] for ref in one["assemblies"]} <= known
    return found


def _all(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for part in parts for one in (part, *_all(part.get("components", [])))]


def by_name(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in _all(document["components"]) if one["name"] == name]
    return found


def test_an_image_says_all_that_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_described(tmp_path, monkeypatch)
    built = build(workspace, source=write_code(tmp_path))
    (document,) = sboms(workspace, built)
    root = document["metadata"]["component"]
    assert root["version"] == str(built.descriptor.digest)
    libc = by_name(document, "libc6")
    assert libc["purl"] == "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12&upstream=glibc"
    assert [one["license"]["id"] for one in libc["licenses"]] == ["GPL-2.0-or-later", "MIT"]
    assert by_name(document, "six")["bom-ref"] == "base/pypi/six"
    assert not [one for one in _all(document["components"]) if one["name"] == "gone"]
    wheel = by_name(document, "numpy")
    assert wheel["purl"] == "pkg:pypi/numpy@2.0"
    assert {one["name"]: one["value"] for one in wheel["properties"]} == {
        "edgepack:wheel": "numpy-2.0-py3-none-any.whl",
        "edgepack:left-out:numpy-tests": "1 files, 1 bytes",
    }
    assert wheel["hashes"][0]["content"] in wheel_hashes(workspace)
    code = by_name(document, "score.py")
    assert [one["name"].rpartition("/")[2] for one in code["components"]] == ["data.txt", "run.sh", "score.py"]
    (model,) = [one for one in document["components"] if one["type"] == "machine-learning-model"]
    assert (model["name"], model["version"]) == ("churn", "1")
    assert [one["name"] for one in model["components"]] == ["m.onnx"]
    assert model["components"][0]["hashes"][0]["content"] == workspace.models.list()[0].files[0].sha256
    needs = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    assert needs["pkg:pypi/helper@1.5"] == ["pkg:pypi/numpy@2.0"]
    assert needs["code"] == ["pkg:pypi/helper@1.5"]
    assert {"base", "server", "config", "code", "model:churn:1"} == set(needs[root["bom-ref"]])
    assert [one["aggregate"] for one in document["compositions"]] == ["incomplete"], "a base of somebody else's"


def wheel_hashes(workspace: Workspace) -> set[str]:
    return {path.name for path in workspace.builder.wheels.root.iterdir()}


@pytest.mark.parametrize(
    ("with_code", "model", "platforms", "base"),
    [(False, True, (AMD64,), "tiny:1"), (True, False, (AMD64,), "full:1"), (False, True, (AMD64, ARM64), "full:1")],
    ids=["no records in the base", "no model", "two platforms"],
)
def test_every_kind_of_image_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_code: bool, model: bool, platforms: Any, base: str
) -> None:
    workspace = make_described(tmp_path, monkeypatch)
    source = write_code(tmp_path) if with_code else None
    built = build(workspace, *platforms, source=source, model=model, base=base)
    found = sboms(workspace, built)
    assert len(found) == len(platforms)
    assert {by_name(one, "CPython")["version"] for one in found} == {"3.11"}, "in no package that a manager knows"


def test_it_is_the_same_to_the_byte_wherever_and_whenever_the_image_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for number, (zone, mask, epoch) in enumerate([("UTC", 0o022, "0"), ("Pacific/Auckland", 0o077, "1700000000")]):
        monkeypatch.setenv("TZ", zone)
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        before = os.umask(mask)
        try:
            workspace = make_described(tmp_path / str(number), monkeypatch)
            built = build(workspace, AMD64, ARM64, source=write_code(tmp_path / str(number)))
        finally:
            os.umask(before)
        found.add(
            (
                built.descriptor.digest,
                *(
                    artifact.digest
                    for image in built.images
                    for artifact in workspace.store.referrers(image.descriptor.digest)
                ),
            )
        )
    assert len(found) == 1
    assert len(next(iter(found))) == 1 + 2 * 3, "SBOM, provenance and lock of each image"


def test_building_again_replaces_what_an_earlier_build_attached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_described(tmp_path, monkeypatch)
    built = build(workspace)
    before = workspace.store.referrers(built.descriptor.digest)
    assert workspace.store.referrers(build(workspace).descriptor.digest) == before
    monkeypatch.setattr("packager.images.sbom.__version__", "99")
    after = workspace.store.referrers(build(workspace).descriptor.digest)
    assert len(after) == len(before)
    assert after != before


def test_what_layers_above_hide_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone: dict[str, bytes | str] = {
        "usr/lib/python3/dist-packages/.wh.six-1.16.0.dist-info": b"",
        "var/lib/dpkg/.wh..wh..opq": b"",
        "lib/apk/db/installed": APK,
    }
    workspace = make_described(tmp_path, monkeypatch, [gone])
    (document,) = sboms(workspace, build(workspace))
    names = {one["name"] for one in _all(document["components"])}
    assert not names & {"six", "libc6"}
    assert {"musl", "busybox"} <= names
    assert "var/lib/dpkg/status" in RECORDS


def test_a_credential_gets_into_no_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_described(tmp_path, monkeypatch)
    secret = Secret("the test", b"edgepack:left-out")
    monkeypatch.setattr("packager.images.build.known_secrets", lambda: (secret,))
    with pytest.raises(EdgepackError, match="sbom: contains the credential from the test") as raised:
        build(workspace)
    assert secret.value.decode() not in str(raised.value)
    assert "churn:1" not in workspace.store.tags()


# ---- The parts ----------------------------------------------------------------------------------------------------


def test_records_of_package_managers_are_read() -> None:
    assert system_of(b"ID=alpine\nVERSION_ID=3.19.1\n") == "alpine-3.19.1"
    assert system_of(b"\xff nothing") == ""
    assert [(one.ref, one.licences) for one in alpine_packages(APK, "alpine-3.19.1")] == [
        ("pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=alpine-3.19.1", ("MIT",)),
        ("pkg:apk/alpine/busybox@1.36?distro=alpine-3.19.1", ("GPL-2.0-only",)),
    ]
    for broken in (b"", b"\xff\xfe", b"Package: x\n", b"Version: 1\n\n\n" * 100):
        assert list(debian_packages(broken, "debian-12")) == []
    assert debian_licences(b"This is free software.\nLicense: none") == ()


@pytest.mark.parametrize(
    ("text", "licences"),
    [
        (b"Name: x\nLicense-Expression: MIT OR Apache-2.0\n", ("MIT OR Apache-2.0",)),
        (b"Name: x\nLicense: MIT License\n", ("MIT",)),
        (
            b"Name: x\nLicense: BSD\n        Copyright me\nClassifier: License :: OSI Approved :: ISC License (ISCL)\n",
            ("BSD",),
        ),
        (b"Name: x\nLicense: UNKNOWN\nClassifier: License :: OSI Approved :: ISC License (ISCL)\n", ("ISC",)),
        (b"Name: x\nClassifier: License :: OSI Approved\n", ()),
        (b"Name: x\nClassifier: broken\n", ()),
        (b"Name: x\nLicense: " + b"a" * 5000 + b"\n", ()),
        (b"Name: x\nLicense: caf\xe9\n", ("caf\ufffd",)),
    ],
)
def test_licences_of_a_distribution(text: bytes, licences: tuple[str, ...], tmp_path: Path) -> None:
    found = read_metadata(text, "x", "1")
    assert found.licences == licences
    (component,) = components([found], tmp_path)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(
        json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [component]})
    ) is None  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [b"", b"\0" * 100, b"Name: other\nVersion: 9\n", b"no fields", "Name: ünï\n".encode(), b"Name: x" * 10_000,
     b"Requires-Dist: ;;;\nName\n", b"License: MIT\n" * 1000],
    ids=["empty", "zeros", "another", "text", "letters", "long", "broken", "nameless"],
)  # fmt: skip
def test_metadata_that_is_wrong_says_nothing_and_that_is_said(text: bytes) -> None:
    found = read_metadata(text, "x", "1")
    assert (found.name, found.version, found.licences) == ("x", "1", ())
    assert [name for name, _ in found.properties] == ["edgepack:unreadable"]


def test_only_the_head_of_huge_metadata_is_read() -> None:
    text = b"Name: x\nLicense: MIT\n\n" + b"a" * (4 * LIMITS.metadata_bytes)
    assert read_metadata(text, "x", "1").licences == ("MIT",)
    assert read_metadata(b"Name: x\nLicense: MIT\n" + b"Keyword: a\n" * LIMITS.metadata_bytes, "x", "1").licences == (
        "MIT",
    )


def test_a_wheel_that_cannot_be_read_any_more_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_described(tmp_path, monkeypatch)
    wheels = some_wheels(workspace, tmp_path / "wheels")
    wheels[0].path.write_bytes(b"PK" + b"x" * 100)
    found = wheel_packages(wheels, RULES, tmp_path / "cache")
    assert {package.name for package in found} == {"numpy", "helper"}
    (broken,) = [package for package in found if package.name == "numpy"]
    assert "edgepack:unreadable" in dict(broken.properties)
    assert broken.sha256 == wheels[0].digest.hex


def test_caches_that_are_damaged_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_described(tmp_path, monkeypatch)
    before = workspace.store.referrers(build(workspace).descriptor.digest)
    for number, path in enumerate(sorted((tmp_path / "cache" / "sbom").iterdir())):
        path.write_bytes([b"", b"[]", b"{}", b'{"format": 1}', b"null"][number % 5])
    assert workspace.store.referrers(build(workspace).descriptor.digest) == before


MANIFEST = {
    "schema": "edgepack.model/v1",
    "source": {"framework": "ScikitLearn", "version": "1.5.2", "digest": f"sha256:{'a' * 64}", "recipe": "logistic"},
    "file": "model.onnx",
    "opset": {"": 21},
    "minimum_runtime": "1.20",
    "inputs": [{"name": "X", "graph_name": "X", "dtype": "float64", "shape": [None, 4], "closed": True}],
    "outputs": [{"name": "y", "graph_name": "y", "role": "label", "dtype": "int64", "shape": [None]}],
    "methods": {"default": "predict"},
    "rejects": {"nan": True, "infinity": False},
    "row_wise": False,
    "parity": {
        "rows": 90,
        "max_abs": 1e-7,
        "max_rel": 0,
        "label_agreement": 1.0,
        "passed": True,
        "accepted": {"y": 0.1},
    },
    "golden": {"file": "golden.json", "digest": f"sha256:{'b' * 64}", "rtol": 0, "atol": 0},
}
FILES = tuple(
    ModelFile(f"var/azureml-app/azureml-models/churn/2/{name}", 1, letter * 64)
    for name, letter in [("golden.json", "b"), ("model.manifest.json", "c"), ("model.onnx", "d")]
)


def test_a_converted_model_has_a_card_of_what_its_manifest_says() -> None:
    found = model_component(ModelInImage("churn", "2", FILES, json.dumps(MANIFEST)))
    assert found["hashes"] == [{"alg": "SHA-256", "content": "d" * 64}]
    card = found["modelCard"]
    assert card["quantitativeAnalysis"]["performanceMetrics"][0] == {
        "type": "largest absolute difference from the original", "value": "1e-07",
        "slice": "90 rows compared with the original",
    }  # fmt: skip
    assert card["considerations"]["technicalLimitations"] == [
        "rejects missing numbers (NaN)",
        "rejects values of X that were not seen in training",
        "the answer to a row depends on the other rows of the request",
    ]
    assert card["modelParameters"]["inputs"] == [{"format": "X: float64[any, 4]"}]
    assert [one["type"] for one in found["components"]] == ["data", "file", "file"]
    _valid(found)


@pytest.mark.parametrize(
    "manifest",
    ["", "{", "[]", "null", '{"schema": "other/v1"}', '{"schema": "edgepack.model/v1"}',
     '{"schema": "edgepack.model/v1", "inputs": [1], "outputs": {}, "parity": [], "opset": 3, "rejects": 1}'],
)  # fmt: skip
def test_a_model_without_a_manifest_or_with_a_broken_one_is_told_by_its_files(manifest: str) -> None:
    found = model_component(ModelInImage("churn", "2", FILES, manifest))
    assert len(found["components"]) == 3
    _valid(found)


def _valid(component: dict[str, Any]) -> None:
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [component]}
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None


def test_files_below_each_other_are_overlaid() -> None:
    lower = LayerContent(
        packages={"a.dist-info/METADATA": Package("pypi", "a", "1")}, systems={"etc/os-release": "x-1"}
    )
    upper = LayerContent(packages={"b.dist-info/METADATA": Package("pypi", "b", "1")}, removed=("a.dist-info",))
    found = found_in([lower, upper])
    assert ([one.name for one in found.packages], found.system) == (["b"], "x-1")
