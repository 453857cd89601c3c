"""Images for a processor that nobody publishes wheels for: refused, unless a user has all of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Platform
from edgepack.oci.store import Store
from packager.images.inspect import views
from tests.packager.support.bases import MACHINES, debian, elf, make_base
from tests.packager.support.wheels import make_wheel, only_folder, sha256
from tests.support.forked import finish

ARMV7 = Platform("linux", "arm", "v7")
TAG = "cp311-cp311-linux_armv7l"


@pytest.fixture
def armv7(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Type ``package build`` where there is a base for the processor, and wheels with their lock."""
    monkeypatch.setitem(MACHINES, "arm", 40)
    store = Store.create(tmp_path / "workspace/store")
    store.tag("base:1", make_base(store, [debian("arm")], ARMV7))
    links = tmp_path / "links"
    lines = []
    for name, version in (("httptools", "0.9"), ("numpy", "2.4"), ("orjson", "3.13"), ("onnxruntime", "1.32")):
        wheel = make_wheel(
            links, name, version, tag=TAG, files={f"{name}/__init__.py": b"", f"{name}/_c.so": elf("arm")}
        )
        lines.append(f"{name}=={version} --hash=sha256:{sha256(wheel)}\n")
    (tmp_path / "own.lock").write_text("".join(lines))
    (tmp_path / "score.py").write_text("import numpy\ndef init(): pass\ndef run(data): return data\n")
    only_folder(links, monkeypatch)

    def build(*more: str) -> Any:
        env = {
            **os.environ,
            "EDGEPACK_WORKSPACE": str(tmp_path / "workspace"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }
        words = ("package", "build", "--entry-script", "score.py", "-t", "app:1", "--platform", str(ARMV7), *more)
        return finish("edgepack", *words, cwd=tmp_path, env=env)

    return build


def test_it_is_refused_with_the_way_out(armv7: Any) -> None:
    for more in ((), ("--base", "base:1"), ("--lock", "own.lock"), ("--find-links", "links", "--base", "base:1")):
        done = armv7(*more)
        assert done.code == 2
        assert (
            "images cannot be built for linux/arm/v7; build for linux/amd64 or linux/arm64, or bring all" in done.stderr
        )


def test_with_all_wheels_and_a_base_of_the_users_it_is_built(armv7: Any, tmp_path: Path) -> None:
    done = armv7("--lock", "own.lock", "--find-links", "links", "--base", "base:1")
    assert done.code == 0, done.stderr
    store = Store.open_existing(tmp_path / "workspace/store")
    (view,) = views(store, store.resolve("app:1"))
    assert view.platform == ARMV7
    assert ImageConfig.from_bytes(store.read(view.manifest.config)).platform == ARMV7
    assert "wheels" in [layer.kind for layer in view.manifest.layers]


def test_without_a_base_of_the_users_there_is_none(armv7: Any) -> None:
    done = armv7("--lock", "own.lock", "--find-links", "links")
    assert done.code == 2
    assert "this base cannot be built for linux/arm/v7; choose from linux/amd64, linux/arm64" in done.stderr
