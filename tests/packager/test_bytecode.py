"""Bytecode: the same bytes whatever happened before, and importable where its path says."""

from __future__ import annotations

import importlib.util
import json.decoder
import marshal
import os
import sys
from pathlib import Path

import pytest

from edgepack.errors import RuntimeFailedError
from packager.layers import bytecode
from packager.layers.bytecode import compile_sources, compiled_path, compiles_for
from packager.wheels.without_bytecode import is_compiled
from tests.support.running import run

SOURCES = [
    (f"/opt/x/{path.name}", path.read_bytes())
    for path in sorted(Path(os.__file__).parent.glob("*.py"))[:60] + sorted(Path(json.__file__).parent.glob("*.py"))
]
HERE = ".".join(map(str, sys.version_info[:2]))


def test_the_bytes_do_not_depend_on_the_order_nor_on_the_process() -> None:
    forward = dict(zip(SOURCES, compile_sources(SOURCES), strict=True))
    backward = dict(zip(SOURCES[::-1], compile_sources(SOURCES[::-1]), strict=True))
    assert forward == backward
    one_by_one = {source: compile_sources([source])[0] for source in SOURCES[-6:]}
    assert one_by_one == {source: forward[source] for source in SOURCES[-6:]}


def test_the_bytes_do_not_depend_on_what_this_process_has_interned() -> None:
    source = b"def f(x):\n    return x in {'#', 'long enough to be shared'} or x == '%'\n"
    before = compile_sources([("/opt/f.py", source)])
    held = [sys.intern(text) for text in ("#", "%", "long enough to be shared", "/opt/f.py")]
    assert compile_sources([("/opt/f.py", source)]) == before
    assert held


def test_bytecode_is_unchecked_hash_and_names_the_path_in_the_image() -> None:
    source = b"VALUE = __file__\n"
    (data,) = compile_sources([("/opt/edgepack/m.py", source)])
    assert data is not None
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(data[4:8], "little") == 0b01
    assert data[8:16] == importlib.util.source_hash(source)
    assert marshal.loads(data[16:]).co_filename == "/opt/edgepack/m.py"  # noqa: S302


def test_a_module_is_imported_from_its_bytecode(tmp_path: Path) -> None:
    (data,) = compile_sources([("/opt/edgepack/m.py", b"VALUE = 'from bytecode'\n")])
    assert data is not None
    target = tmp_path / compiled_path("m.py", HERE)
    target.parent.mkdir()
    target.write_bytes(data)
    (tmp_path / "m.py").write_text("VALUE = 'from source'\n")  # unchecked: the bytecode wins
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import m; print(m.VALUE)"
    assert run(sys.executable, "-I", "-c", code).strip() == "from bytecode"


def test_what_is_no_python_has_no_bytecode() -> None:
    assert compile_sources([("/a.py", b"print 'two'\n"), ("/b.py", b"x = '\\d'\n"), ("/c.py", b"\0")])[0::2] == [
        None,
        None,
    ]
    assert compile_sources([]) == []


def test_an_interpreter_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytecode.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeFailedError, match="/bin/false"):
        compile_sources([("/a.py", b"")])


def test_paths_of_bytecode() -> None:
    assert compiled_path("pkg/sub/m.py", "3.11") == "pkg/sub/__pycache__/m.cpython-311.pyc"
    assert compiled_path("m.py", "3.12") == "__pycache__/m.cpython-312.pyc"


def test_only_modules_that_a_server_imports_at_its_start_earn_bytecode() -> None:
    assert is_compiled("numpy/__init__.py")
    assert is_compiled("somebody/else.py")
    assert not is_compiled("numpy/polynomial/hermite.py")
    assert not is_compiled("numpy/__init__.pyi")


def test_bytecode_is_made_for_this_minor_version_only() -> None:
    assert compiles_for(HERE)
    assert not compiles_for("3.8")


def test_two_patch_releases_of_one_minor_version_make_the_same_bytecode_of_the_server() -> None:
    import marshal
    import subprocess

    other = Path("/usr/bin/python3.11")
    if not other.exists() or not bytecode.compiles_for("3.11"):
        pytest.skip("needs Debian's Python 3.11 beside one of the same minor version")
    server = Path(__file__).parents[2] / "edge_server"
    sources = [(f"/{path.name}", path.read_bytes()) for path in sorted(server.glob("*.py"))]
    command = [str(other), "-I", "-S", "-W", "ignore", bytecode.__file__]
    done = subprocess.run(command, input=marshal.dumps(sources), capture_output=True, check=True)
    assert marshal.loads(done.stdout) == bytecode.compile_sources(sources)  # noqa: S302 - written just now, by ourselves
