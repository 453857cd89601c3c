"""Compiled modules without their symbols: shorter, loaded all the same, and never made of what is no such file."""

from __future__ import annotations

import importlib.util
import shutil
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packager.wheels.symbols import without_symbols
from tests.support.running import run


@pytest.fixture(scope="module")
def module() -> bytes:
    """A compiled module that came with its symbols."""
    spec = importlib.util.find_spec("httptools.parser.parser")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_bytes()


def test_a_module_is_shorter_and_does_what_it_did(module: bytes, tmp_path: Path) -> None:
    kept = without_symbols(module)
    assert len(kept) < len(module) / 2
    package = tmp_path / "httptools"
    spec = importlib.util.find_spec("httptools")
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, package)
    (compiled,) = (package / "parser").glob("parser.*.so")
    compiled.write_bytes(kept)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import httptools\n"
        "assert httptools.__file__.startswith(sys.argv[1])\n"
        "class Seen:\n    def on_url(self, url): print(url.decode())\n"
        "httptools.HttpRequestParser(Seen()).feed_data(b'GET /found HTTP/1.1\\r\\n\\r\\n')"
    )
    command = [sys.executable, "-I", "-c", code, str(tmp_path)]
    assert run(*command) == "/found\n"


def test_what_is_short_already_stays_as_it_is(module: bytes) -> None:
    kept = without_symbols(module)
    assert without_symbols(kept) is kept


@pytest.mark.real("strip")
def test_it_is_as_short_as_binutils_make_it(module: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.so").write_bytes(module)
    run("strip", "--strip-unneeded", tmp_path / "a.so")
    assert len(without_symbols(module)) <= (tmp_path / "a.so").stat().st_size


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x7fELF", b"PK\x03\x04" + bytes(100), b"\x7fELF\x01\x01" + bytes(200), b"\x7fELF\x02\x02" + bytes(200),
        b"\x7fELF\x02\x01" + bytes(200),
    ],
)  # fmt: skip
def test_other_files_stay_as_they_are(data: bytes) -> None:
    assert without_symbols(data) is data


def test_a_file_that_is_cut_short_stays_as_it_is(module: bytes) -> None:
    cut = module[: len(without_symbols(module)) - 1]
    assert without_symbols(cut) is cut


def test_what_others_look_for_in_a_file_stays(module: bytes) -> None:
    for name in (b".qtmetadata", b".dep-v0"):
        # In the names of the sections, which stand behind the last segment.
        named = module.replace(b".debug_aranges\0", name.ljust(len(b".debug_aranges"), b"x") + b"\0")
        assert named != module
        assert without_symbols(named) is named
    more = module + b"PK appended"
    assert without_symbols(more) is more


@given(place=st.integers(16, 63), value=st.integers(0, 255), more=st.integers(0, 2**64 - 1))
def test_a_header_that_lies_breaks_nothing(module: bytes, place: int, value: int, more: int) -> None:
    data = bytearray(module[:4096])
    data[place] = value
    struct.pack_into("<Q", data, 64 + 8, more)  # where the first segment begins
    kept = without_symbols(bytes(data))
    assert len(kept) <= len(data)
    assert kept[64:] == data[64 : len(kept)]
