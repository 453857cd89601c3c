"""What a build keeps for the next one: layers of the server, its bytecode, what lists of wheels tell."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from edgepack.host.progress import Advance
from edgepack.oci.digest import Digest
from edgepack.oci.layer import LayerEntry
from edgepack.oci.store import Store
from packager.inference import server
from packager.inference.server import server_entries
from packager.layers.compiler import this_compiler
from packager.layers.kept import kept_layer
from packager.wheels.cache import WheelCache
from packager.wheels.listing import listing_of
from tests.packager.support.wheels import make_wheel, sha256


class Watch:
    """Progress that counts pieces."""

    def __init__(self) -> None:
        self.titles: list[str] = []

    def __call__(self, title: str, total: int, unit: str = "bytes") -> AbstractContextManager[Advance]:
        self.titles.append(title)
        return _quiet()


@contextmanager
def _quiet() -> Iterator[Advance]:
    yield lambda count: None


def test_a_layer_of_the_same_files_is_made_once(tmp_path: Path) -> None:
    store, notes, watch = Store.create(tmp_path / "store"), tmp_path / "notes", Watch()

    def layer(data: bytes, mode: int = 0o644) -> Digest:
        entries = [LayerEntry.of_bytes("opt/a.py", data, mode)]
        return kept_layer(entries, store, notes, kind="server", title="s", progress=watch).descriptor.digest

    first = layer(b"a" * 1000)
    assert (layer(b"a" * 1000), len(watch.titles)) == (first, 1)
    assert layer(b"b" * 1000) != first
    assert layer(b"a" * 1000, 0o755) != first
    assert len(watch.titles) == 3
    for note in notes.iterdir():
        note.write_text("{")
    store.path(first).unlink()
    assert layer(b"a" * 1000) == first
    assert store.path(first).exists()


def test_the_servers_bytecode_is_kept_and_a_damaged_file_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = ".".join(map(str, sys.version_info[:2]))
    compiler = this_compiler(python)
    made: list[int] = []
    original = server.compile_sources
    monkeypatch.setattr(server, "compile_sources", lambda *given: made.append(1) or original(*given))

    def files() -> dict[str, bytes]:
        found = {}
        for entry in server_entries(python, compiler, tmp_path):
            assert entry.content is not None
            with entry.content() as file:
                found[entry.path] = file.read()
        return found

    first = files()
    assert (files(), len(made)) == (first, 1)
    assert any(path.endswith(".pyc") for path in first)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    assert (files(), len(made)) == (first, 2)


def test_the_list_of_a_wheel_is_read_once(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "dist", files={"dist/__init__.py": b"", "dist/inner/a.py": b"", "one.py": b""})
    wheel = WheelCache(tmp_path / "cache").add(path, Digest(sha256(path)))
    first = listing_of(wheel)
    assert first.modules == {"dist", "dist.inner.a", "one"}
    wheel.path.write_bytes(b"not read again")
    assert listing_of(wheel) == first
    (wheel.path.parent / "listing.json").write_text(json.dumps({"format": 0}))
    with pytest.raises(zipfile.BadZipFile, match="not a zip file"):
        listing_of(wheel)
