"""A service without a container runs the Python of its image's base, and this machine's where there is none."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.runtimes import interpreter
from edge_agent.runtimes.interpreter import find_interpreter, install_own_interpreter
from edge_agent.runtimes.process import ProcessRuntime
from edge_agent.runtimes.unpacked.trees import merge_trees
from edgepack.errors import IncompatibleError
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Platform
from edgepack.oci.layer import Layer
from edgepack.oci.store import Store
from edgepack.oci.whiteouts import KeptWhiteouts, OverlayWhiteouts, Whiteouts
from edgepack.state.desired import DesiredService
from tests.edge_agent.support.runtimes import build_image, copy_store
from tests.support.waiting import wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
_CONFIG = ImageConfig(Platform.host(), entrypoint=("/usr/bin/python3.11", "-m", "app"), user="10001:10001")
# What it sees of itself, and what a Python sees that it starts.
_ASK = (
    "import os, sys; print((sys.executable, sys.prefix, os.confstr('CS_GNU_LIBC_VERSION'), os.getuid(), "
    "sorted({line.split(None, 5)[5].strip() for line in open('/proc/self/maps') if '/' in line})))"
)
_APP = f"""
import subprocess, sys
{_ASK}
print(subprocess.check_output([sys.executable, '-c', {_ASK!r}], text=True), flush=True)
"""


def _layer(tree: Path) -> Path:
    """The layer of a base in which Debian's Python 3.11 would be: here this machine's files."""
    (tree / "usr/bin").mkdir(parents=True)
    shutil.copy(Path(sys.executable).resolve(), tree / "usr/bin/python3.11")
    return tree


@pytest.mark.real("mmdebstrap")
def test_the_images_own_python_runs_with_its_own_libraries(
    base_store: tuple[Store, Layer], open_dir: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_other(*_: object) -> None:
        raise AssertionError("this machine's Python must not be looked for")

    monkeypatch.setattr(interpreter, "machine_interpreter", no_other)
    state = open_dir / "a state's folder"
    runtime = ProcessRuntime(state, copy_store(base_store[0], open_dir / "store"))
    image = build_image(runtime._store, base_store[1], "x", entrypoint=("/usr/bin/python3.11", "-c", _APP))
    runtime.prepare(image)
    assert runtime._prepared(image) is not None
    runtime.start(DesiredService("churn", image, free_port()))
    wait_until(lambda: runtime.logs("churn").count(")\n") >= 2)
    tree = state / "bases" / image.hex
    for line in runtime.logs("churn").split("\n")[:2]:
        executable, prefix, libc, uid, files = ast.literal_eval(line)
        assert (executable, prefix, libc) == (f"{tree}/usr/bin/python3.11", f"{tree}/usr", "glibc 2.36")
        # Not the modules that the device's nsswitch.conf names: they are the device's.
        libraries = [file for file in files if Path(file).name.startswith(("ld-", "libc.", "libm.", "libz."))]
        assert len(libraries) == 4
        assert [file for file in libraries if not file.startswith(f"{tree}/")] == []
        assert uid == (10001 if os.geteuid() == 0 else os.getuid())
    runtime.stop("churn", 1)
    # A folder that was moved, and a link from elsewhere: the program is found all the same.
    (state / "bases").rename(state / "moved")
    moved = state / "moved" / image.hex / "usr/bin/python3.11"
    assert subprocess.check_output([moved, "-c", "print(1)"], text=True, cwd="/") == "1\n"
    (state / "moved").rename(state / "bases")
    (open_dir / "link").symlink_to(tree / "usr/bin/python3.11")
    assert subprocess.check_output([open_dir / "link", "-c", "print(1)"], text=True, cwd="/") == "1\n"
    runtime.forget_image(image)
    assert not tree.exists()
    assert not list((state / "layers").glob("?" * 64))


@pytest.mark.real("mmdebstrap")
def test_what_an_earlier_version_prepared_without_its_base_is_prepared_again(
    base_store: tuple[Store, Layer], open_dir: Path
) -> None:
    runtime = ProcessRuntime(open_dir / "state", copy_store(base_store[0], open_dir / "store"))
    image = build_image(runtime._store, base_store[1], "x")
    runtime.prepare(image)
    record = open_dir / "state/images" / f"{image.hex}.process.json"
    written = json.loads(record.read_bytes())
    record.write_text(json.dumps(written | {"layers": written["layers"][1:]}))
    shutil.rmtree(open_dir / "state/bases")
    assert runtime._prepared(image) is None
    runtime.prepare(image)
    found = find_interpreter(_CONFIG, open_dir / "state/bases" / image.hex)
    assert found.program.startswith(str(open_dir))


def test_a_base_whose_python_cannot_be_started_so_is_left_as_it_is(tmp_path: Path) -> None:
    bare = _layer(tmp_path / "no loader")
    install_own_interpreter(_CONFIG, bare, bare)
    old = _layer(tmp_path / "old loader")
    loader = interpreter._loader_of(old / "usr/bin/python3.11")
    assert loader is not None
    (old / loader.lstrip("/")).parent.mkdir(parents=True)
    (old / loader.lstrip("/")).write_bytes(b"a loader that takes no name of the program")
    install_own_interpreter(_CONFIG, old, old)
    colon = _layer(tmp_path / "a:b")
    install_own_interpreter(_CONFIG, colon, colon)
    script = tmp_path / "script"
    (script / "usr/bin").mkdir(parents=True)
    (script / "usr/bin/python3.11").write_text("#!/bin/sh\n")
    install_own_interpreter(_CONFIG, script, script)
    out = tmp_path / "out"
    (out / "usr/bin").mkdir(parents=True)
    (out / "usr/bin/python3.11").symlink_to(Path(sys.executable).resolve())  # leads out of the tree
    install_own_interpreter(_CONFIG, out, out)
    for tree in (bare, old, colon, script, out):
        assert [path.name for path in (tree / "usr/bin").iterdir()] == ["python3.11"]
        assert find_interpreter(_CONFIG, tree).flags == ("-s", "-S")


def test_without_any_python_of_the_version_both_ways_out_are_named(tmp_path: Path) -> None:
    config = ImageConfig(Platform.host(), entrypoint=("/usr/bin/python3.99", "-m", "app"))
    with pytest.raises(IncompatibleError, match=r"Python 3\.99, which neither its base nor this machine.*python3\.99"):
        find_interpreter(config, tmp_path)


@as_root
def test_of_this_machines_pythons_one_is_taken_that_the_images_user_can_start(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = shutil.which("python3.11", path="/usr/bin")
    if system is None:
        pytest.skip("the system has no Python 3.11")
    (open_dir / "private").mkdir(mode=0o700)
    (open_dir / "private").chmod(0o700)
    # The file itself can be reached by everybody; the path by which it is started cannot.
    (open_dir / "private/python").symlink_to(system)
    monkeypatch.setattr(sys, "executable", str(open_dir / "private/python"))
    monkeypatch.setenv("PATH", "/usr/bin")
    assert find_interpreter(_CONFIG, open_dir).program == system
    monkeypatch.setenv("PATH", "/nowhere")
    found = find_interpreter(_CONFIG, open_dir)
    assert found.program == sys.executable
    assert open_dir / "private/python" in found.needs


@pytest.mark.parametrize(
    "kind", [KeptWhiteouts(), pytest.param(OverlayWhiteouts(), marks=as_root)], ids=["files", "overlay"]
)
def test_what_a_layer_hides_is_not_in_the_merged_tree(tmp_path: Path, kind: Whiteouts) -> None:
    for name in ("a/gone", "a/stays", "a/folder/gone", "a/emptied/gone", "a/replaced/gone", "b/emptied/new", "b/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    top, emptied = (os.open(tmp_path / name, os.O_RDONLY) for name in ("b", "b/emptied"))
    try:
        for name in ("gone", "folder", "replaced", "never was"):
            kind.hide(top, name, name)
        kind.hide_all(emptied, "emptied")
    finally:
        os.close(top)
        os.close(emptied)
    merge_trees([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*"))
    assert found == ["emptied", "emptied/new", "stays", "x"]
