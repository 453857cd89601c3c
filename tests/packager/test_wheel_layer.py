"""Wheels as layers: where files go, a true RECORD, hostile wheels, and the cache of layers."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import stat
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.errors import DigestMismatchError, EdgepackError, UnsafeArchiveError, VerificationError
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer
from edgepack.oci.store import Store
from edgepack.oci.tar.compression import decompressed
from packager.wheels.cache import Wheel, WheelCache
from packager.wheels.layers import HEAVY, WheelLayers, group_wheels
from packager.wheels.settings import LayerSettings
from packager.wheels.trim import TrimRule
from tests.packager.support.wheels import make_wheel, sha256, wheel_layers

HERE = ".".join(map(str, sys.version_info[:2]))
SETTINGS = LayerSettings(python=HERE, interpreter=f"/usr/bin/python{HERE}")
SITE = f"opt/edgepack/lib/python{HERE}/site-packages"
SCRIPTS = "[console_scripts]\nrun = thing.cli:main\ntest = thing.tests.all:main\n"
FILES = {
    "thing/__init__.py": b"VALUE = 1\n",
    "thing/cli.py": b"def main():\n    return 0\n",
    "thing/tests/__init__.py": b"",
    "thing/tests/all.py": b"def main():\n    return 1\n",
    "thing/empty.txt": b"",
    "thing/lib.so": b"\x7fELF" + os.urandom(2_000_000),
    "thing-1.0.data/scripts/tool": b"#!python -E\nprint(1)\n",
    "thing-1.0.data/scripts/shell": b"#!/bin/sh\nexit 0\n",
    "thing-1.0.data/data/share/thing/d.txt": b"data",
    "thing-1.0.data/headers/thing.h": b"int x;",
    "thing-1.0.data/purelib/also.py": b"ALSO = 1\n",
    "thing-1.0.dist-info/direct_url.json": b"{}",
    "thing-1.0.dist-info/licenses/LICENSE": b"free",
}
NO_TESTS = TrimRule("thing-tests", "thing", "not needed", ("thing/tests/**",))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def _cached(tmp_path: Path, path: Path) -> Wheel:
    return WheelCache(tmp_path / "cache").add(path, Digest(sha256(path)))


def _thing(tmp_path: Path) -> Wheel:
    return _cached(
        tmp_path, make_wheel(tmp_path, "thing", files=FILES, entry_points=SCRIPTS, executable=("thing/lib.so",))
    )


def _contents(store: Store, layer: Layer) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    with store.open(layer.descriptor) as blob:
        plain = decompressed(blob, layer.descriptor, 1 << 30).read()
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        return {item.name: (item, archive.extractfile(item).read()) for item in archive if item.isreg()}  # type: ignore[union-attr]


def test_every_file_goes_where_its_scheme_says(tmp_path: Path, store: Store) -> None:
    (layer,) = wheel_layers([_thing(tmp_path)], store, tmp_path / "cache", replace(SETTINGS, rules=(NO_TESTS,)))
    found = _contents(store, layer)
    assert found[f"{SITE}/thing/lib.so"][1] == FILES["thing/lib.so"]
    assert found[f"{SITE}/thing/lib.so"][0].mode == 0o755
    assert found[f"{SITE}/thing/cli.py"][0].mode == 0o644
    assert found[f"{SITE}/also.py"][1] == b"ALSO = 1\n"
    assert found["opt/edgepack/share/thing/d.txt"][1] == b"data"
    assert found[f"opt/edgepack/include/python{HERE}/thing/thing.h"][1] == b"int x;"
    assert found["opt/edgepack/bin/tool"][1] == f"#!/usr/bin/python{HERE}\nprint(1)\n".encode()
    assert found["opt/edgepack/bin/shell"][1] == b"#!/bin/sh\nexit 0\n"
    assert found["opt/edgepack/bin/run"][1].startswith(f"#!/usr/bin/python{HERE}\n".encode())
    assert {found[f"opt/edgepack/bin/{name}"][0].mode for name in ("tool", "shell", "run")} == {0o755}
    assert found[f"{SITE}/thing-1.0.dist-info/INSTALLER"][1] == b"edgepack\n"
    assert f"{SITE}/thing-1.0.dist-info/licenses/LICENSE" in found
    assert f"{SITE}/thing-1.0.dist-info/direct_url.json" not in found
    assert f"{SITE}/thing/empty.txt" in found


def test_what_a_rule_leaves_out_is_gone_with_its_script(tmp_path: Path, store: Store) -> None:
    wheel = _thing(tmp_path)
    (whole,) = wheel_layers([wheel], store, tmp_path / "cache", replace(SETTINGS, rules=()))
    (less,) = wheel_layers([wheel], store, tmp_path / "cache", replace(SETTINGS, rules=(NO_TESTS,)))
    gone = set(_contents(store, whole)) - set(_contents(store, less))
    pyc = f"__pycache__/{{}}.cpython-{HERE.replace('.', '')}.pyc"
    assert gone == {
        "opt/edgepack/bin/test",
        f"{SITE}/thing/tests/__init__.py",
        f"{SITE}/thing/tests/all.py",
        f"{SITE}/thing/tests/{pyc.format('__init__')}",
        f"{SITE}/thing/tests/{pyc.format('all')}",
    }


@pytest.mark.parametrize("bytecode", [True, False])
def test_record_is_true_for_what_is_in_the_layer(tmp_path: Path, store: Store, bytecode: bool) -> None:
    settings = replace(SETTINGS, rules=(NO_TESTS,), bytecode=bytecode)
    (layer,) = wheel_layers([_thing(tmp_path)], store, tmp_path / "cache", settings)
    found = _contents(store, layer)
    record = f"{SITE}/thing-1.0.dist-info/RECORD"
    rows = {row[0]: row[1:] for row in csv.reader(found[record][1].decode().splitlines())}
    assert rows.pop("thing-1.0.dist-info/RECORD") == ["", ""]
    absolute = {os.path.normpath(f"{SITE}/{path}"): row for path, row in rows.items()}
    assert set(absolute) == set(found) - {record}
    for path, (digest, size) in absolute.items():
        data = found[path][1]
        encoded = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        assert (digest, int(size)) == (f"sha256={encoded}", len(data)), path
    assert any(path.endswith(".pyc") for path in found) is bytecode


def test_no_bytecode_is_made_for_another_minor_version(tmp_path: Path, store: Store) -> None:
    (layer,) = wheel_layers([_thing(tmp_path)], store, tmp_path / "cache", LayerSettings(python="3.8"))
    assert not [path for path in _contents(store, layer) if path.endswith(".pyc")]


def test_the_same_wheel_makes_the_same_layer_in_another_store(tmp_path: Path, store: Store) -> None:
    wheel = _thing(tmp_path)
    first = wheel_layers([wheel], store, tmp_path / "one", SETTINGS)
    os.utime(wheel.path, (0, 0))
    assert wheel_layers([wheel], Store.create(tmp_path / "other"), tmp_path / "two", SETTINGS) == first


def test_a_layer_is_made_once_and_again_when_its_blob_is_gone(tmp_path: Path, store: Store) -> None:
    wheel = _thing(tmp_path)
    layers = WheelLayers(store, tmp_path / "cache", SETTINGS)
    groups = group_wheels([wheel])
    first = layers.make(groups)
    blob = store.path(first[groups[0]].descriptor.digest)
    wheel.path.rename(tmp_path / "away.whl")  # a hit does not touch the wheel
    assert layers.make(groups) == first
    blob.unlink()
    (tmp_path / "away.whl").rename(wheel.path)
    assert layers.make(groups) == first
    assert blob.is_file()


def test_a_damaged_cache_entry_is_made_again(tmp_path: Path, store: Store) -> None:
    groups = group_wheels([_thing(tmp_path)])
    first = WheelLayers(store, tmp_path / "cache", SETTINGS).make(groups)
    for path in (tmp_path / "cache" / "layers").iterdir():
        path.write_text("[]")
    assert WheelLayers(store, tmp_path / "cache", SETTINGS).make(groups) == first


@pytest.mark.parametrize(
    "other",
    [
        replace(SETTINGS, bytecode=False),
        replace(SETTINGS, prefix="opt/elsewhere"),
        replace(SETTINGS, interpreter="/usr/local/bin/python3"),
        replace(SETTINGS, mtime=1),
        replace(SETTINGS, rules=(NO_TESTS,)),
        replace(SETTINGS, python="3.8"),
    ],
)
def test_everything_that_decides_the_bytes_is_in_the_key(other: LayerSettings) -> None:
    assert other.key != SETTINGS.key


def test_heavy_wheels_have_a_layer_each_and_the_others_share_one(tmp_path: Path, store: Store) -> None:
    names = ("zeta", "alpha", "mid")
    wheels = [_cached(tmp_path, make_wheel(tmp_path, name)) for name in names]
    heavy = [replace(wheel, size=HEAVY) if wheel.name == "zeta" else wheel for wheel in wheels]
    groups = group_wheels(heavy)
    assert [(group.kind, group.title) for group in groups] == [("wheel", "zeta 1.0"), ("wheels", "alpha 1.0, mid 1.0")]
    assert group_wheels(heavy[::-1]) == groups
    layers = wheel_layers(heavy, store, tmp_path / "cache", SETTINGS)
    assert [layer.descriptor.kind for layer in layers] == ["wheel", "wheels"]
    assert {path.split("/")[5] for path in _contents(store, layers[1]) if "dist-info" not in path} == {"alpha", "mid"}


def _member(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    item = zipfile.ZipInfo("x")
    item.filename = name
    item.external_attr = mode << 16
    return item


@pytest.mark.parametrize(
    "member",
    [
        _member("../climbs.py"),
        _member("thing/../../climbs.py"),
        _member("/absolute.py"),
        _member("thing\\..\\..\\climbs.py"),
        _member("thing/./twice.py"),
        _member("thing/__init__.py"),
        _member("thing/link", stat.S_IFLNK | 0o777),
        _member("thing-1.0.data/data/../../../climbs"),
    ],
    ids=lambda item: item.filename,
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_climb_links_and_doubles_are_refused(tmp_path: Path, store: Store, member: zipfile.ZipInfo) -> None:
    wheel = _cached(tmp_path, make_wheel(tmp_path, "thing", raw=(member,)))
    with pytest.raises(UnsafeArchiveError, match=r"thing-1\.0"):
        wheel_layers([wheel], store, tmp_path / "layers", SETTINGS)
    assert not list((tmp_path / "store" / "blobs" / "sha256").iterdir())


@pytest.mark.parametrize("name", ["thing/a.py", "thing/a.bin", "thing/empty"])
def test_a_file_that_is_not_what_record_says_is_refused(tmp_path: Path, store: Store, name: str) -> None:
    files = {name: b"" if name.endswith("empty") else b"content"}
    lie = {name: f"{name},sha256={'A' * 43},{len(files[name])}"}
    wheel = _cached(tmp_path, make_wheel(tmp_path, "thing", files=files, record=lie))
    with pytest.raises(DigestMismatchError, match=name):
        wheel_layers([wheel], store, tmp_path / "layers", SETTINGS)
    assert not list((tmp_path / "store" / "blobs" / "sha256").iterdir())


@pytest.mark.parametrize(
    "row", ["", "thing/a.py,,", "thing/a.py,md5=1B2M2Y8AsgTpgAmY7PhCfg,7", "thing/a.py,sha256=x,9"]
)
def test_a_file_without_a_good_line_in_record_is_refused(tmp_path: Path, store: Store, row: str) -> None:
    path = make_wheel(tmp_path, "thing", files={"thing/a.py": b"content"}, record={"thing/a.py": row or "b,,"})
    with pytest.raises(VerificationError, match="RECORD"):
        wheel_layers([_cached(tmp_path, path)], store, tmp_path / "layers", SETTINGS)


def test_a_damaged_wheel_is_one_clear_error(tmp_path: Path, store: Store) -> None:
    wheel = _thing(tmp_path)
    data = bytearray(wheel.path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    wheel.path.write_bytes(data)
    with pytest.raises(VerificationError, match=r"thing-1\.0"):
        wheel_layers([wheel], store, tmp_path / "layers", SETTINGS)


def test_two_wheels_with_the_same_file_are_refused(tmp_path: Path, store: Store) -> None:
    wheels = [
        _cached(tmp_path, make_wheel(tmp_path, name, files={"shared.py": name.encode()})) for name in ("one", "two")
    ]
    with pytest.raises(EdgepackError, match=r"shared\.py"):
        wheel_layers(wheels, store, tmp_path / "layers", SETTINGS)
