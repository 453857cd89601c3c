"""torch comes from where the machine can have it: its build for CPUs, another build, another version that works."""

from __future__ import annotations

import base64
import hashlib
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.software import environments
from edgepack.errors import MissingPartError
from tests.support.ports import free_port
from tests.support.uv_settings import forget_indexes

Wheel = Callable[..., Path]


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """Makes wheels in a folder, which is all that pip's settings name."""
    forget_indexes(monkeypatch, tmp_path)
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    def make(name: str, version: str, requires: str = "") -> Path:
        info = f"{name}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        metadata += f"Requires-Dist: {requires}\n" if requires else ""
        files = {
            f"{name}.py": f"VERSION = {version!r}\n".encode(),
            f"{info}/METADATA": metadata.encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},sha256={_hash(data)},{len(data)}\n" for path, data in files.items())
        files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
        path = folder / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in files.items():
                archive.writestr(zipfile.ZipInfo(member), data)
        return path

    return make


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@pytest.fixture
def lock(tmp_path: Path, wheel: Wheel) -> Path:
    path = tmp_path / "pytorch.txt"
    digest = hashlib.sha256(wheel("tiny_part", "1.0").read_bytes()).hexdigest()
    path.write_text(f"# apart: torch==2.13.0\ntiny-part==1.0 \\\n    --hash=sha256:{digest}\n")
    return path


def versions(lock: Path, tmp_path: Path) -> list[str]:
    folder = environments.ready(lock, tmp_path / "own")
    found = environments.packages(folder).glob("*.dist-info")
    return sorted(path.name.removesuffix(".dist-info") for path in found)


def test_the_build_for_cpus_is_taken_before_any_other(lock: Path, wheel: Wheel, tmp_path: Path) -> None:
    for version in ("2.12.0", "2.13.0", "2.13.0+cpu", "2.13.1", "2.14.0"):
        wheel("torch", version)
    assert versions(lock, tmp_path) == ["tiny_part-1.0", "torch-2.13.0+cpu"]


def test_another_build_comes_with_the_libraries_that_it_needs(
    lock: Path, wheel: Wheel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for version in ("2.12.0+cpu", "2.13.0"):
        wheel("torch", version, "graphics_part")
    wheel("graphics_part", "7")
    with caplog.at_level(logging.WARNING):
        assert versions(lock, tmp_path) == ["graphics_part-7", "tiny_part-1.0", "torch-2.13.0"]
    assert "torch 2.13.0 for CPUs is not to be had: its build for graphics cards may be" in caplog.text


def test_another_version_that_works_is_taken_and_said(
    lock: Path, wheel: Wheel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for version in ("2.8.0", "2.12.0+cpu", "2.14.0"):
        wheel("torch", version)
    with caplog.at_level(logging.WARNING):
        assert versions(lock, tmp_path) == ["tiny_part-1.0", "torch-2.12.0+cpu"]
    assert "another version than 2.13.0 is installed" in caplog.text


def test_constraints_of_pip_decide_which_version(
    lock: Path, wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("2.11.0+cpu", "2.12.0+cpu", "2.13.0+cpu"):
        wheel("torch", version)
    (tmp_path / "constraints.txt").write_text("torch<2.12\ntiny-part<1\n")  # the lock decides of what it names
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    assert versions(lock, tmp_path) == ["tiny_part-1.0", "torch-2.11.0+cpu"]


def test_where_there_is_none_the_places_are_named(lock: Path, wheel: Wheel, tmp_path: Path) -> None:
    wheel("torch", "2.8.0")
    with pytest.raises(
        MissingPartError, match=r"pytorch.* no build of torch that works is on .*/wheels; name an index"
    ):
        versions(lock, tmp_path)


def test_torchs_own_index_is_not_waited_for_and_named(
    lock: Path, wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A network that has a mirror and nothing else: here no connection gets further than this machine."""
    wheel("torch", "2.13.0")
    simple = tmp_path / "simple"
    (simple / "torch").mkdir(parents=True)
    (simple / "torch/index.html").write_text("<html></html>")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", simple.as_uri())
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")  # nobody listens there
    with caplog.at_level(logging.WARNING):
        assert "torch-2.13.0" in versions(lock, tmp_path)
    assert "and https://download.pytorch.org/whl/cpu cannot be read: its build for graphics cards" in caplog.text


def test_an_index_of_the_machine_that_cannot_be_reached_is_named(
    lock: Path, wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:secret@127.0.0.1:{port}/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(
        MissingPartError, match=rf"cannot be fetched now: http://.*127\.0\.0\.1:{port} cannot be"
    ) as caught:
        versions(lock, tmp_path)
    assert "secret" not in str(caught.value)
