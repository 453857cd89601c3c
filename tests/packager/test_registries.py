"""Images from and to registries as a user meets them: what registries lack, and how they are reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgepack.errors import SignatureError, UsageError
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.manifest import Index
from edgepack.oci.reference import referrers_tag
from edgepack.signing.statement import attach, verify_image
from packager.bases.find import find_base
from packager.commands.main import build_cli
from packager.places.table import find_destination, find_registry
from packager.registries.access import Access
from packager.workspaces.workspace import Workspace
from tests.edgepack.support.authority import Authority
from tests.edgepack.support.registry_simulator import Simulator, running
from tests.packager.support.bases import AMD64, debian, make_base
from tests.support.parts import docker_registry


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace", tmp_path / "cache")


@pytest.fixture
def other(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "other", tmp_path / "cache")


@pytest.fixture
def image(workspace: Workspace) -> Descriptor:
    """A signed image, ``churn:1``."""
    root = make_base(workspace.store, [debian()])
    workspace.store.tag("churn:1", root)
    attach(workspace.store, root, "churn:1", workspace.keys.create("mine"))
    return root


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Simulator]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with running(Simulator()) as simulator:
        yield simulator


def test_an_image_is_pulled_without_what_the_registry_does_not_list(
    sim: Simulator, workspace: Workspace, other: Workspace, image: Descriptor, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"127.0.0.1:{sim.port}/churn:1"
    find_destination(name).send(workspace.store, "churn:1", image)
    sim.referrers_answer, sim.fallback_answer = (403, b"", {}), (405, b"", {})
    assert find_registry(name).load(other.store, name).root.digest == image.digest
    assert other.store.tags()[name].digest == image.digest
    assert "signatures may be missing" in caplog.text
    key = workspace.keys.get("mine").public
    with pytest.raises(SignatureError):
        verify_image(other.store, image.digest, [key])
    sim.fallback_answer = None
    find_registry(name).load(other.store, name)
    verify_image(other.store, image.digest, [key])


def test_an_artifact_that_is_listed_and_not_there_does_not_keep_an_image_back(
    sim: Simulator, workspace: Workspace, other: Workspace, image: Descriptor, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"127.0.0.1:{sim.port}/churn:1"
    find_destination(name).send(workspace.store, "churn:1", image)
    listing = sim.manifests[f"churn:{referrers_tag(image.digest)}"][1]
    (statement,) = Index.from_bytes(listing).manifests
    kept = sim.manifests.pop(f"churn:{statement.digest}")
    assert find_registry(name).load(other.store, name).root.digest == image.digest
    assert f"going on without {statement.digest}" in caplog.text
    sim.manifests[f"churn:{statement.digest}"] = (kept[0], kept[1].replace(b"{", b"{ ", 1))
    assert find_registry(name).load(other.store, name).root.digest == image.digest
    with pytest.raises(SignatureError):
        verify_image(other.store, image.digest, [workspace.keys.get("mine").public])


# ---- How they are reached -----------------------------------------------------------------------------------------


def edgepack(*words: object, env: dict[str, str] | None = None) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(build_cli(), list(map(str, words)), env=env)


@pytest.mark.real("docker-registry", "openssl")
def test_every_command_reaches_a_registry_of_a_private_authority(
    workspace: Workspace, other: Workspace, image: Descriptor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.signed("server", "IP:127.0.0.6")
    tls = {"certificate": str(certificate), "key": str(key)}
    with docker_registry(tmp_path / "registry", host="127.0.0.6", tls=tls) as port:
        name, here = f"127.0.0.6:{port}/churn:1", ("--workspace", other.root)
        assert edgepack("package", "push", "churn:1", name, "--workspace", workspace.root, "--ca",
                        authority.file).exit_code == 0  # fmt: skip
        env = {"EDGEPACK_CA": str(authority.file)}
        for words in (["pull", name], ["load", f"docker://{name}", "-t", "x:1"], ["inspect", f"docker://{name}"]):
            assert edgepack("package", *words, *here).exit_code != 0
            assert edgepack("package", *words, *here, env=env).exit_code == 0
            assert edgepack("package", *words, *here, "--ca", authority.file).exit_code == 0
        access = Access.of((), authority.file)
        assert find_base(name, AMD64, other.store, other.bases, access=access).descriptor.digest == image.digest


def test_a_registry_without_tls_is_named_as_in_references(tmp_path: Path) -> None:
    assert Access.of(("a.lan, b.lan:5000", "[::1]:5000", ""), None).plain_http == ("a.lan", "b.lan:5000", "[::1]:5000")
    assert edgepack("package", "push", "--help", env={"EDGEPACK_PLAIN_HTTP": "a.lan b.lan"}).exit_code == 0
    for wrong, hint in (
        ("http://a.lan:5000/", "here a.lan:5000"), ("a.lan/team", "here a.lan"), ("ann:pw@a.lan", r"HOST\[:PORT\]$"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=hint):
            Access.of((wrong,), None)
        done = edgepack("package", "pull", "a.lan/x:1", "--plain-http", wrong, "--workspace", tmp_path / "w")
        assert isinstance(done.exception, UsageError)


def test_the_options_reach_every_client(
    workspace: Workspace, image: Descriptor, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Access] = []
    env = {"EDGEPACK_PLAIN_HTTP": "a.lan b.lan,c.lan"}
    monkeypatch.setattr(Access, "policy", lambda self: found.append(self))
    for words in (
        ["package", "pull", f"127.0.0.1:{sim.port}/x:1"],
        ["package", "load", f"docker://127.0.0.1:{sim.port}/x:1"],
        ["package", "inspect", f"127.0.0.1:{sim.port}/x:1"],
        ["package", "build", "-m", "x", "-t", "x:1", "--base", f"127.0.0.1:{sim.port}/x:1"],
    ):
        edgepack(*words, "--workspace", workspace.root, "--ca", "c.pem", env=env)
    assert found == [Access(("a.lan", "b.lan", "c.lan"), Path("c.pem"))] * 3


@pytest.mark.real("docker-registry")
def test_an_image_that_goes_on_to_another_repository_of_its_registry_moves_nothing(
    workspace: Workspace, other: Workspace, image: Descriptor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    with docker_registry(tmp_path / "registry") as port:
        sent = find_destination(f"127.0.0.1:{port}/dev/churn:1").send(workspace.store, "churn:1", image)
        assert sent.moved_bytes > image.size
        again = find_destination(f"127.0.0.1:{port}/test/churn:1").send(workspace.store, "churn:1", image)
        layers = {layer.digest for layer in workspace.store.manifest(image).layers}
        assert layers <= sent.blobs
        assert not layers & again.blobs
        assert again.moved_bytes + again.present_bytes == sent.moved_bytes + sent.present_bytes

        # What was pulled is known too; and nothing depends on what is known.
        known = tmp_path / "cache/registries.json"
        known.unlink()
        find_registry(f"127.0.0.1:{port}/test/churn:1").load(other.store, "churn:1")
        promoted = find_destination(f"127.0.0.1:{port}/prod/churn:1").send(other.store, "churn:1", image)
        assert not layers & promoted.blobs
        known.write_bytes(b'{"127.0.0.1": [3]}')
        assert layers <= find_destination(f"127.0.0.1:{port}/last/churn:1").send(other.store, "churn:1", image).blobs
        loaded = find_registry(f"127.0.0.1:{port}/prod/churn:1").load(workspace.store, "churn:2")
        assert loaded.root.digest == image.digest
