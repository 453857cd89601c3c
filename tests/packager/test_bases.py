"""Bases: found by recipe or place, built once, and told apart by everything that decides their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgepack.errors import EdgepackError, IncompatibleError, NotFoundError, UsageError
from edgepack.oci import mediatypes
from edgepack.oci.archive.write import write_archive
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.layer import LayerEntry
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.store import Store
from packager.bases import cache
from packager.bases.cache import recipe_tag
from packager.bases.debian.recipe import load_recipe
from packager.bases.find import DEFAULT_RECIPE, Base, find_base
from packager.images.inspect import views
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import AMD64, ARM64, debian, libc, make_base, make_index


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace", tmp_path / "cache")


def base_of(workspace: Workspace, name: str | None, platform: Platform, *, offline: bool = False) -> Base:
    return find_base(name, platform, workspace.store, workspace.bases, offline=offline)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Platform]:
    """The platforms for which a recipe was carried out, with a few files in the place of Debian's packages."""
    calls: list[Platform] = []

    def entries(_recipe: Any, platform: Platform, *_: object, **__: object) -> Iterator[LayerEntry]:
        calls.append(platform)
        for path, content in debian(platform.architecture).items():
            if isinstance(content, bytes):
                yield LayerEntry.of_bytes(path, content, 0o755)

    monkeypatch.setattr(cache, "base_entries", entries)
    return calls


def test_a_recipe_is_carried_out_once_for_all_workspaces_and_each_platform(
    tmp_path: Path, made: list[Platform]
) -> None:
    first = base_of(Workspace(tmp_path / "one", tmp_path / "cache"), None, AMD64)
    again = base_of(Workspace(tmp_path / "two", tmp_path / "cache"), DEFAULT_RECIPE, AMD64, offline=True)
    assert made == [AMD64]
    assert first.descriptor == again.descriptor
    assert (first.name, first.facts.python, first.facts.glibc) == (DEFAULT_RECIPE, "/usr/bin/python3.11", "2.36")
    base_of(Workspace(tmp_path / "two", tmp_path / "cache"), None, ARM64)
    assert made == [AMD64, ARM64]


def test_it_is_built_again_when_asked_for_and_is_the_same(workspace: Workspace, made: list[Platform]) -> None:
    first = workspace.bases.build(DEFAULT_RECIPE, AMD64)
    assert workspace.bases.build(DEFAULT_RECIPE, AMD64, rebuild=True) == first
    assert made == [AMD64, AMD64]


def test_a_build_of_a_base_that_fails_leaves_no_tag(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def entries(*_: object, **__: object) -> Iterator[LayerEntry]:
        yield LayerEntry.of_bytes("a", b"a")
        raise EdgepackError("no mirror can be read")

    monkeypatch.setattr(cache, "base_entries", entries)
    with pytest.raises(EdgepackError, match="no mirror"):
        workspace.bases.build(DEFAULT_RECIPE, AMD64)
    assert workspace.bases.store.tags() == {}
    assert workspace.bases.store.digests() == frozenset()


def test_offline_builds_nothing(workspace: Workspace, made: list[Platform]) -> None:
    with pytest.raises(EdgepackError, match="is not built yet; build it while there is a network: edgepack base build"):
        base_of(workspace, None, AMD64, offline=True)
    assert made == []


def test_a_change_of_recipe_lock_or_python_makes_another_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    recipe = load_recipe(DEFAULT_RECIPE)
    shutil.copytree(recipe.folder, tmp_path / "recipe")
    copied = replace(recipe, folder=tmp_path / "recipe")
    before = recipe_tag(copied, AMD64)
    assert before == recipe_tag(recipe, AMD64)
    assert before != recipe_tag(copied, ARM64)
    lock = next((tmp_path / "recipe").glob("lock-*.json"))
    lock.write_text(lock.read_text() + " ")
    assert recipe_tag(copied, AMD64) != before
    # Where a base of the recipe runs, its own Python compiles; elsewhere the one that builds.
    monkeypatch.setattr(cache, "python_version", lambda: "3.99.0")
    assert recipe_tag(recipe, AMD64) == before
    monkeypatch.setattr(cache.Platform, "host", lambda: Platform("darwin", "riscv64"))
    elsewhere = recipe_tag(recipe, AMD64)
    assert elsewhere != before
    monkeypatch.setattr(cache, "python_version", lambda: "3.99.1")
    assert recipe_tag(recipe, AMD64) != elsewhere


def test_an_unknown_platform_of_a_recipe_is_refused(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="choose from linux/amd64, linux/arm64"):
        base_of(workspace, None, Platform.parse("linux/arm/v7"))


# ---- Other places -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["oci:{0}", "oci:{0}:own:1", "docker-archive:{1}", "oci-archive:{1}:own:1"])
@pytest.mark.parametrize("platform", [AMD64, ARM64], ids=str)
def test_only_the_platform_that_is_asked_for_is_taken(
    workspace: Workspace, tmp_path: Path, place: str, platform: Platform
) -> None:
    images = [(one, make_base(workspace.bases.store, [debian(one.architecture)], one)) for one in (AMD64, ARM64)]
    index = make_index(workspace.bases.store, images)
    workspace.bases.store.tag("own:1", index)
    write_archive(workspace.bases.store, {"own:1": index}, tmp_path / "own.tar")
    base = base_of(workspace, place.format(workspace.bases.store.root, tmp_path / "own.tar"), platform)
    assert base.config.platform == platform
    facts = workspace.bases.facts(workspace.store, base.descriptor, base.manifest)
    assert facts.architecture == platform.architecture
    assert len(workspace.store.digests()) == 3


@pytest.mark.parametrize("platform", [AMD64, ARM64], ids=str)
def test_what_builders_list_beside_images_keeps_no_base_from_being_found(
    workspace: Workspace, tmp_path: Path, platform: Platform
) -> None:
    store = Store.create(tmp_path / "built")
    named = [
        replace(make_base(store, [debian(one.architecture)], one), platform=replace(one, variant=variant))
        for one, variant in ((AMD64, "v1"), (ARM64, "v8"))
    ]
    beside = [artifact(store, mediatypes.EMPTY), artifact(store, mediatypes.CONFIG)]
    attested = replace(artifact(store, mediatypes.CONFIG), platform=Platform("unknown", "unknown"))
    index = Index((*beside, named[0], attested, named[1], attested))
    store.tag("own:1", store.put_bytes(index.to_bytes(), mediatypes.INDEX))

    assert base_of(workspace, f"oci:{store.root}", platform).config.platform == platform
    assert [view.platform for view in views(store, store.resolve("own:1"))] == [AMD64, ARM64]


def artifact(store: Store, config: str) -> Descriptor:
    """An artifact that says no platform, with an empty configuration of this media type."""
    manifest = Manifest(store.put_bytes(b"{}", config), (store.put_bytes(b"notes", "text/plain"),))
    return store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST)


def test_an_older_glibc_is_seen(workspace: Workspace) -> None:
    files = {**debian(), **libc("2.17")}
    workspace.store.tag("old:1", make_base(workspace.store, [files]))
    assert base_of(workspace, "old:1", AMD64).facts.glibc == "2.17"


@pytest.mark.parametrize(("path", "reason"), [("../x", "../x: a name that leads out of the layer"), ("/x/../y", None)])
def test_what_a_device_cannot_unpack_is_said_when_the_base_is_taken(
    workspace: Workspace, path: str, reason: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    workspace.store.tag("own:1", make_base(workspace.store, [debian(), {path: b"", "l": "../../.."}]))
    for _ in range(2):  # also when the facts are cached
        caplog.clear()
        base_of(workspace, "own:1", AMD64)
        assert ("without a container engine cannot run images on it" in caplog.text) == (reason is not None)
        assert (reason or "") in caplog.text


def test_a_base_for_another_platform_says_which_it_is_for(workspace: Workspace) -> None:
    workspace.store.tag("own:1", make_base(workspace.store, [debian()]))
    with pytest.raises(IncompatibleError, match="base own:1: is for linux/amd64, not for linux/arm64; give a base"):
        base_of(workspace, "own:1", ARM64)


def test_a_place_that_is_not_there_is_named(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="absent"):
        base_of(workspace, f"oci:{tmp_path}/absent", AMD64)
