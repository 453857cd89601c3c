"""There is one form of tar header, and all that is written here, layers, archives and bundles, has it."""

from __future__ import annotations

import ast
import hashlib
import tarfile
from pathlib import Path
from typing import Any

import pytest

from edgepack.bundle.write import write_bundle
from edgepack.oci.archive.write import write_archive
from edgepack.oci.layer import LayerEntry, NoCompression, write_layer
from edgepack.oci.store import Store
from edgepack.oci.tar.header import BLOCK, END, tar_header
from tests.edgepack.support.small_images import small_image

ROOT = Path(__file__).parents[2]
LONG = "a/" * 60 + "ü"


@pytest.mark.parametrize(
    ("fields", "blocks", "digest"),
    [
        ({"name": "a"}, 1, "fc6ad017feaadea8"),
        ({"name": "a", "size": 513, "mode": 0o104755, "mtime": 7}, 1, "09b1e26fcc8486a3"),
        ({"name": "d", "kind": "dir", "mode": 0o755}, 1, "209ad29eac9c3950"),
        ({"name": "l", "kind": "symlink", "mode": 0o777, "linkname": "a/b"}, 1, "64ee9e5b9f657a87"),
        ({"name": "h", "kind": "hardlink", "linkname": "a"}, 1, "a095c0a91b60856d"),
        ({"name": LONG}, 3, "7f2d347518f50653"),
        ({"name": "l", "kind": "symlink", "linkname": "ü"}, 3, "b0fca9a2b558e1cb"),
        ({"name": "large", "size": 8 << 30}, 3, "b7ed86dfe9bf3e35"),
    ],
)
def test_the_bytes_of_a_header_never_change(fields: dict[str, Any], blocks: int, digest: str) -> None:
    data = tar_header(**fields)

    assert len(data) == blocks * BLOCK
    assert hashlib.sha256(data).hexdigest()[:16] == digest


def layer_tar(store: Store, folder: Path) -> Path:
    entries = [
        LayerEntry.of_bytes("d/file", b"x" * 600, 0o755),
        LayerEntry.of_bytes(LONG, b""),
        LayerEntry("link", "symlink", 0o777, linkname="d/file"),
        LayerEntry("second", "hardlink", 0o755, linkname="d/file"),
    ]
    return store.path(write_layer(entries, store, NoCompression(), kind="code").descriptor.digest)


def archive_tar(store: Store, folder: Path) -> Path:
    write_archive(store, {"churn:1": small_image(store)}, folder / "archive.tar")
    return folder / "archive.tar"


def bundle_tar(store: Store, folder: Path) -> Path:
    store.tag("churn:1", small_image(store))
    write_bundle(store, ["churn:1"], folder / "churn.bundle", key=None)
    return folder / "churn.bundle"


@pytest.mark.parametrize("write", [layer_tar, archive_tar, bundle_tar])
def test_layers_archives_and_bundles_have_the_same_headers(tmp_path: Path, write: Any) -> None:
    path = write(Store.create(tmp_path / "store"), tmp_path)
    data = path.read_bytes()
    kinds = {tarfile.REGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hardlink"}

    expected = b""
    with tarfile.open(path) as tar:
        for info in tar:
            kind: Any = kinds[info.type]
            expected += tar_header(
                info.name, kind, size=info.size, mode=info.mode, mtime=int(info.mtime), linkname=info.linkname
            )
            expected += data[info.offset_data : info.offset_data + info.size + -info.size % BLOCK]

    assert data == expected + END


def test_no_other_module_makes_a_tar_header() -> None:
    names = ("tobuf", "addfile", "gettarinfo")
    makers = {
        str(path.relative_to(ROOT))
        for room in ("edgepack", "packager", "edge_agent", "edge_server", "converters")
        for path in (ROOT / room).rglob("*.py")
        if any(name in (text := path.read_text()) for name in names)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and node.attr in names
    }

    assert makers == {"edgepack/oci/tar/header.py"}
