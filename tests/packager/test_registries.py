"""Images from and to registries as a user meets them: what registries lack, and how they are reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.errors import SignatureError
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.manifest import Index
from edgepack.oci.store import referrers_tag
from edgepack.signing.statement import attach, verify_image
from packager.places.table import find_destination, find_registry
from packager.workspace import Workspace
from tests.edgepack.support.registry_simulator import Simulator, running
from tests.packager.support.bases import debian, make_base


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
