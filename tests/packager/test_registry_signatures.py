"""Signatures that travel with an image to a registry, and who takes them: this project's own verification and cosign's.

The tests by cosign itself run where ``EDGEPACK_COSIGN2`` and ``EDGEPACK_COSIGN3`` name the programs (2.5 and 3.1 were
tried); the others hold what it reads to its documents (cosign's specs/ATTESTATION_SPEC.md and specs/BUNDLE_SPEC.md).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgepack.signing.rules import PREDICATE_TYPE
from packager.commands.main import build_cli
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import debian, make_base
from tests.support import forked
from tests.support.parts import docker_registry

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
pytestmark = pytest.mark.real("docker-registry", "openssl")


class Site:
    """A workspace with an image, ``churn:1``, and two keys, beside a registry."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.name = f"127.0.0.1:{port}/churn:1"
        self.api = f"http://127.0.0.1:{port}/v2/churn"
        self.workspace = Workspace(folder / "workspace", folder / "cache")
        self.root = make_base(self.workspace.store, [debian()])
        self.workspace.store.tag("churn:1", self.root)
        for name in ("release", "second"):
            self.workspace.keys.create(name)
        self.public = self.workspace.keys.public_path("release")

    def edgepack(self, *words: object, workspace: Path | None = None) -> Result:
        here = ("--workspace", str(workspace or self.workspace.root))
        return CliRunner().invoke(build_cli(), [*map(str, words), *here])

    def push(self, *words: str) -> None:
        done = self.edgepack("package", "push", "churn:1", self.name, *words)
        assert done.exit_code == 0, done.output

    def manifest(self, reference: str) -> dict[str, Any]:
        kinds = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
        asked = urllib.request.Request(f"{self.api}/manifests/{reference}", headers={"Accept": kinds})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def blob(self, digest: str) -> bytes:
        with urllib.request.urlopen(f"{self.api}/blobs/{digest}", timeout=60) as answer:
            data: bytes = answer.read()
        return data

    def listed(self, kind: str) -> list[dict[str, Any]]:
        entries = self.manifest(f"sha256-{self.root.digest.hex}")["manifests"]
        return [one for one in entries if one.get("artifactType") == kind]

    def attestations(self) -> list[dict[str, Any]]:
        layers: list[dict[str, Any]] = self.manifest(f"sha256-{self.root.digest.hex}.att")["layers"]
        return layers


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with docker_registry(tmp_path / "registry") as port:
        yield Site(tmp_path, port)


def openssl_takes(site: Site, envelope: dict[str, Any], key: Path) -> bool:
    """Whether ``openssl`` finds the signature good for the DSSE pre-authentication encoding."""
    kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    encoding = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    (site.folder / "pae").write_bytes(encoding)
    (site.folder / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    words = ["pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", "pae", "-sigfile", "sig"]
    return subprocess.run(["openssl", *words], cwd=site.folder, capture_output=True, check=False).returncode == 0


def test_a_signed_push_attaches_what_devices_and_cosign_read(site: Site) -> None:
    site.push("--sign", "release", "--compat", "cosign2")
    site.push("--sign", "release", "--compat", "cosign2")  # and again, nothing more
    (entry,) = site.listed(BUNDLE)
    artifact = site.manifest(entry["digest"])
    assert artifact["subject"]["digest"] == str(site.root.digest)
    assert artifact["annotations"] == {
        "dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": PREDICATE_TYPE,
    }  # fmt: skip
    bundle = json.loads(site.blob(artifact["layers"][0]["digest"]))
    assert (bundle["mediaType"], set(bundle["verificationMaterial"])) == (BUNDLE, {"publicKey"})
    (layer,) = site.attestations()
    envelope = json.loads(site.blob(layer["digest"]))
    assert {**envelope, "signatures": [{"sig": envelope["signatures"][0]["sig"]}]} == bundle["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["subject"] == [{"name": "churn:1", "digest": {"sha256": site.root.digest.hex}}]
    assert openssl_takes(site, envelope, site.public)
    assert not openssl_takes(site, envelope, site.workspace.keys.public_path("second"))


def test_the_recipe_of_the_documentation_checks_a_statement_with_openssl_alone(site: Site) -> None:
    site.push("--sign", "release", "--compat", "cosign2")
    text = (Path(__file__).parents[2] / "docs/how-to/registries.md").read_text()
    at = text.index("openssl pkeyutl")
    recipe = text[text.rindex("```\n", 0, at) + 4 : text.index("```", at)]
    (layer,) = site.attestations()
    (site.folder / "statement.json").write_bytes(site.blob(layer["digest"]))
    (site.folder / "release.pub").write_bytes(site.public.read_bytes())

    def done() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-ec", recipe], cwd=site.folder, capture_output=True, text=True, check=False)

    good = done()
    assert (good.returncode, "Signature Verified Successfully" in good.stdout) == (0, True), good.stderr
    assert site.root.digest.hex in good.stdout
    (site.folder / "release.pub").write_bytes(site.workspace.keys.public_path("second").read_bytes())
    assert done().returncode != 0


def test_another_workspace_pulls_and_verifies_what_was_signed(site: Site) -> None:
    site.push("--sign", "release")
    other = Workspace(site.folder / "other", site.folder / "cache")
    assert site.edgepack("package", "pull", site.name, workspace=other.root).exit_code == 0
    checked = site.edgepack("package", "verify", site.name, workspace=other.root)
    assert checked.exit_code == 0
    assert "signed by no key of this workspace, and by a key that is not in it" in checked.output
    (other.root / "keys").mkdir(mode=0o700, exist_ok=True)
    for name in ("release.key", "release.pub"):
        (other.root / "keys" / name).write_bytes((site.workspace.root / "keys" / name).read_bytes())
    checked = site.edgepack("package", "verify", site.name, workspace=other.root)
    assert "signed by release" in checked.output


def test_several_signers_each_add_theirs(site: Site) -> None:
    for key in ("release", "second", "release"):
        site.push("--sign", key, "--compat", "cosign2")
    assert len(site.listed(BUNDLE)) == 2
    assert len(site.attestations()) == 2
    config = json.loads(site.blob(site.manifest(f"sha256-{site.root.digest.hex}.att")["config"]["digest"]))
    assert config["rootfs"]["diff_ids"] == [one["digest"] for one in site.attestations()]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--sign", "relaese"], 3, "did you mean 'release'"),
        (["--compat", "cosign2"], 2, "add --sign KEY"),
        (["--sign", "release", "--compat", "cosign1"], 2, "did you mean 'cosign2'"),
    ],
)
def test_a_mistake_is_told_before_anything_is_pushed(site: Site, words: list[str], code: int, told: str) -> None:
    done = forked.finish(
        "edgepack", "package", "push", "churn:1", site.name, *words, "--workspace", str(site.workspace.root)
    )
    assert (done.code, told in done.stderr) == (code, True), done.stderr
    with pytest.raises(urllib.error.HTTPError):
        site.manifest("1")


@pytest.mark.parametrize("place", ["docker-archive:x.tar", "oci-archive:x.tar"])
def test_a_place_for_an_image_alone_is_refused(site: Site, place: str) -> None:
    done = forked.finish(
        "edgepack", "package", "push", "churn:1", place, "--sign", "release", "--workspace", str(site.workspace.root),
        cwd=site.folder,
    )  # fmt: skip
    assert (done.code, "carries an image alone" in done.stderr) == (2, True), done.stderr
    assert not (site.folder / "x.tar").exists()


def cosign(number: int, *words: str | Path) -> subprocess.CompletedProcess[str]:
    program = os.environ.get(f"EDGEPACK_COSIGN{number}")
    if not program:
        pytest.skip(f"EDGEPACK_COSIGN{number} names no program")
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("form", ["cosign2", "cosign3 old", "cosign3"])
def test_cosign_takes_a_signed_image_and_no_other(site: Site, form: str) -> None:
    site.push("--sign", "release", *(["--compat", "cosign2"] if form != "cosign3" else []))
    number = 2 if form == "cosign2" else 3
    options = ["--type", PREDICATE_TYPE, "--insecure-ignore-tlog", "--allow-insecure-registry"]
    if number == 3:
        options.append("--new-bundle-format" if form == "cosign3" else "--new-bundle-format=false")

    def verified(key: Path) -> subprocess.CompletedProcess[str]:
        return cosign(number, "verify-attestation", "--key", key, *options, site.name)

    done = verified(site.public)
    assert done.returncode == 0, done.stderr
    payload = json.loads(base64.b64decode(json.loads(done.stdout.splitlines()[0])["payload"]))
    assert payload["subject"][0]["digest"]["sha256"] == site.root.digest.hex
    assert verified(site.workspace.keys.public_path("second")).returncode != 0
