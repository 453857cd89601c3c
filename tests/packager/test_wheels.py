"""Wheel files: fetched once, verified, chosen by tag, found again without a network."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from edgepack.errors import DigestMismatchError, EdgepackError, IncompatibleError, NotFoundError, VerificationError
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from packager.wheels.cache import WheelCache, best
from packager.wheels.locks import Pin
from packager.wheels.tags import Target
from tests.packager.support.wheels import make_wheel, only_folder, sha256

AMD64 = Target(Platform("linux", "amd64"))
OLD = Target(Platform("linux", "amd64"), glibc="2.17")


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "links"
    folder.mkdir()
    only_folder(folder, monkeypatch)
    return folder


def test_a_wheel_is_fetched_once_and_then_found_offline(tmp_path: Path, links: Path) -> None:
    path = make_wheel(links, "thing", requires=("numpy>=2", "rich; extra == 'pretty'", "Zope.Event; sys_platform=='x'"))
    pin = Pin("thing", "1.0", (sha256(path),))
    cache = WheelCache(tmp_path / "cache")
    with pytest.raises(NotFoundError, match=r"thing 1\.0 not cached"):
        cache.get([pin], AMD64, offline=True)
    (wheel,) = cache.get([pin], AMD64)
    assert wheel.path == tmp_path / "cache" / "wheels" / sha256(path) / path.name
    assert wheel.path.read_bytes() == path.read_bytes()
    assert (wheel.name, wheel.version, wheel.size) == ("thing", "1.0", path.stat().st_size)
    assert wheel.requires == ("numpy", "zope-event")
    path.unlink()
    assert cache.get([pin], AMD64, offline=True) == (wheel,)


def test_a_file_that_the_lock_does_not_name_is_refused_and_not_kept(tmp_path: Path, links: Path) -> None:
    make_wheel(links, "thing")
    with pytest.raises(EdgepackError, match="lock"):
        WheelCache(tmp_path / "cache").get([Pin("thing", "1.0", ("0" * 64,))], AMD64)
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_a_wheel_is_not_added_under_another_digest(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "thing")
    with pytest.raises(DigestMismatchError, match="thing"):
        WheelCache(tmp_path / "cache").add(path, Digest("0" * 64))
    assert not list((tmp_path / "cache").rglob("*.whl"))
    assert not [item for item in (tmp_path / "cache" / "wheels").iterdir() if item.name != ".lock"]


def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "thing-1.0-py3-none-any.whl"
    path.write_bytes(b"PK no")
    with pytest.raises(VerificationError, match="is not a wheel"):
        WheelCache(tmp_path / "cache").add(path, Digest(sha256(path)))


def test_a_wheel_that_was_cut_in_the_cache_is_fetched_again(tmp_path: Path, links: Path) -> None:
    path = make_wheel(links, "thing")
    pin = Pin("thing", "1.0", (sha256(path),))
    cache = WheelCache(tmp_path / "cache")
    (wheel,) = cache.get([pin], AMD64)
    wheel.path.write_bytes(b"")
    with pytest.raises(NotFoundError):
        cache.get([pin], AMD64, offline=True)
    (again,) = cache.get([pin], AMD64)
    assert again.path.read_bytes() == path.read_bytes()


def test_each_base_gets_the_most_specific_wheel_that_runs_on_it(tmp_path: Path, links: Path) -> None:
    tags = ("cp311-cp311-manylinux_2_28_x86_64", "cp310-abi3-manylinux2014_x86_64", "py3-none-any")
    paths = [make_wheel(links, "thing", tag=tag) for tag in tags]
    pin = Pin("thing", "1.0", tuple(sha256(path) for path in paths))
    cache = WheelCache(tmp_path / "cache")
    assert cache.get([pin], AMD64)[0].filename == paths[0].name
    assert cache.get([pin], OLD)[0].filename == paths[1].name
    assert cache.get([pin], Target(Platform("linux", "arm64")))[0].filename == paths[2].name
    assert cache.get([pin], AMD64, offline=True)[0].filename == paths[0].name


def test_the_choice_between_wheels_does_not_depend_on_their_order(tmp_path: Path) -> None:
    cache = WheelCache(tmp_path / "cache")
    tags = ("cp311-abi3-manylinux_2_28_x86_64", "cp39-abi3-manylinux_2_28_x86_64", "py3-none-manylinux_2_28_x86_64")
    wheels = [
        cache.add(path, Digest(sha256(path))) for path in (make_wheel(tmp_path / "w", "thing", tag=tag) for tag in tags)
    ]
    assert best(wheels, AMD64) == best(wheels[::-1], AMD64) == wheels[0]
    assert best(wheels, OLD) is None


def test_a_wheel_for_a_newer_glibc_is_named_with_both_versions() -> None:
    with pytest.raises(IncompatibleError, match=r"big\.whl: needs glibc 2\.28, and the base has 2\.17"):
        OLD.check("big.whl", ["cp311-cp311-manylinux_2_34_x86_64", "cp311-cp311-manylinux_2_28_x86_64"])
    with pytest.raises(IncompatibleError, match=r"does not run on linux/amd64 with Python 3\.11"):
        AMD64.check("big.whl", ["cp311-cp311-manylinux_2_28_aarch64"])
    AMD64.check("big.whl", ["cp311-cp311-manylinux_2_28_x86_64"])


def test_a_pin_that_has_no_wheel_for_the_base_is_named_with_its_glibc(tmp_path: Path, links: Path) -> None:
    path = make_wheel(links, "thing", tag="cp311-cp311-manylinux_2_28_x86_64")
    with pytest.raises(IncompatibleError, match=r"thing==1\.0 has no wheel for linux/amd64 .* glibc 2\.17"):
        WheelCache(tmp_path / "cache").get([Pin("thing", "1.0", (sha256(path),))], OLD)


def test_the_ladder_of_platform_tags_goes_down_to_the_oldest_of_the_processor() -> None:
    ladder = AMD64.platform_tags()
    assert ladder[0] == "manylinux_2_36_x86_64"
    assert {"manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux1_x86_64"} <= set(ladder)
    arm = Target(Platform("linux", "arm64")).platform_tags()
    assert arm[-2:] == ("manylinux_2_17_aarch64", "manylinux2014_aarch64")


def _add(root: Path, path: Path) -> bytes:
    return WheelCache(root).add(path, Digest(sha256(path))).path.read_bytes()


def test_processes_may_add_the_same_wheel_at_once(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "thing", files={"thing.py": b"#" * 1_000_000})
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        found = pool.starmap(_add, [(tmp_path / "cache", path)] * 8)
    assert set(found) == {path.read_bytes()}
    assert {item.name for item in (tmp_path / "cache" / "wheels").iterdir()} == {".lock", sha256(path)}
