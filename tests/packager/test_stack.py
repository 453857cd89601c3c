"""The scoring stack's wheels: the shipped lock, or one that is resolved once and kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.errors import EdgepackError, UsageError
from packager.bases.facts import CheckedFacts
from packager.wheels.cache import WheelCache
from packager.wheels.locks import direct_requirements
from packager.wheels.stack import scoring_wheels
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import AMD64
from tests.packager.support.wheels import make_wheel, only_folder

# A Python for which no lock is shipped.
FACTS = CheckedFacts("/usr/local/bin/python3.12", "3.12", "2.36", (0,))
VERSIONS = {"httptools": "0.6", "numpy": "2.0", "onnxruntime": "1.27", "orjson": "3.10"}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wheels"
    for name, version in VERSIONS.items():
        make_wheel(folder, name, version)
    only_folder(folder, monkeypatch)
    return folder


def versions(workspace: Workspace, facts: CheckedFacts = FACTS, *, offline: bool = False) -> dict[str, str]:
    groups = scoring_wheels(facts, AMD64, (), WheelCache(workspace.cache), workspace.root / "locks", offline=offline)
    return {wheel.name: wheel.version for group in groups for wheel in group.wheels}


def test_the_stack_is_what_the_server_imports() -> None:
    names = {requirement.partition(">=")[0] for requirement in direct_requirements()}
    assert names == set(VERSIONS)


def test_a_later_build_gets_the_wheels_of_the_first(tmp_path: Path, index: Path) -> None:
    workspace = Workspace(tmp_path / "workspace", tmp_path / "cache")
    assert versions(workspace) == VERSIONS
    make_wheel(index, "numpy", "2.9")
    assert versions(workspace) == VERSIONS
    assert versions(workspace, offline=True) == VERSIONS
    other = Workspace(tmp_path / "other", tmp_path / "cache")
    assert versions(other)["numpy"] == "2.9", "nobody has asked for the older one there"


def test_a_base_with_another_glibc_has_a_lock_of_its_own(tmp_path: Path, index: Path) -> None:
    workspace = Workspace(tmp_path / "workspace", tmp_path / "cache")
    make_wheel(index, "numpy", "2.9", tag="cp312-cp312-manylinux_2_34_x86_64")
    assert versions(workspace)["numpy"] == "2.9"
    older = CheckedFacts("/usr/bin/python3.12", "3.12", "2.31", (0,))
    assert versions(workspace, older)["numpy"] == "2.0"


def test_an_extra_comes_beside_the_stack_and_an_unknown_one_is_refused(tmp_path: Path, index: Path) -> None:
    workspace = Workspace(tmp_path / "workspace", tmp_path / "cache")
    make_wheel(index, "pillow", "11.0")
    groups = scoring_wheels(
        FACTS, AMD64, (), WheelCache(workspace.cache), workspace.root / "locks", extras=("images", "images")
    )
    assert {wheel.name: wheel.version for one in groups for wheel in one.wheels} == {**VERSIONS, "pillow": "11.0"}
    assert versions(workspace) == VERSIONS
    with pytest.raises(UsageError, match="otel cannot be added to an image; choose from images"):
        scoring_wheels(FACTS, AMD64, (), WheelCache(workspace.cache), workspace.root / "locks", extras=("otel",))


def test_offline_without_a_lock_is_one_sentence(tmp_path: Path, index: Path) -> None:
    for path in index.iterdir():
        path.unlink()
    with pytest.raises(EdgepackError) as error:
        versions(Workspace(tmp_path / "workspace", tmp_path / "cache"), offline=True)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "workspace/locks").exists()
