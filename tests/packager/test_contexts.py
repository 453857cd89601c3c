"""Build contexts: what is in the folder, the same whoever writes it where, and nothing half written.

tests/integration builds them with real engines and compares the images.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.errors import EdgepackError, InvalidDocumentError, NotFoundError, UsageError
from edgepack.names import ModelRef
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.oci.tar.compression import decompressed
from packager.contexts.base import base_repository
from packager.contexts.listing import packages_listing
from packager.contexts.save import SavedContext, save_contexts
from packager.contexts.steps import check_steps
from packager.contexts.write import _write_json
from packager.images.build import BuildOptions
from packager.inference.entry_script import read_entry_script
from packager.layers import bytecode
from packager.wheels import symbols
from packager.wheels.cache import WheelCache
from packager.wheels.groups import WheelGroup
from packager.wheels.layers import WheelLayers, group_wheels
from packager.wheels.settings import LayerSettings
from packager.wheels.trim import TrimRule
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import AMD64, ARM64, debian, make_base
from tests.packager.support.wheels import make_wheel, sha256
from tests.packager.support.workspaces import make_workspace
from tests.support.image_trees import tree_of

ROOT = Path(__file__).parents[2]
HERE = ".".join(map(str, sys.version_info[:2]))
STEPS = "# of the user\nARG WHO=world\nRUN echo hello \\\n  # who\n  $WHO\nENV GREETING=hello\n"
SCRIPT = "import os\ndef init(): pass\ndef run(data): return data\n"


@pytest.fixture
def _no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> tuple[WheelGroup, ...]:
        return ()

    monkeypatch.setattr("packager.images.build.scoring_wheels", none)


def save(
    workspace: Workspace, folder: Path, *platforms: Platform, base: str = "tiny:1", **options: object
) -> tuple[SavedContext, ...]:
    wanted = BuildOptions(base, **options)  # type: ignore[arg-type]
    return save_contexts(workspace.builder, [ModelRef("churn")], platforms or (AMD64,), wanted, folder)


def code(folder: Path) -> Path:
    """A source directory with names that mean something to Dockerfiles, shells and patterns."""
    source = folder / "my [co$de] *"
    (source / "data").mkdir(parents=True)
    (source / "score.py").write_text(SCRIPT)
    (source / "data/a b.txt").write_text("x")
    (source / "link.txt").symlink_to("data/a b.txt")
    return source


def contents(folder: Path) -> dict[str, tuple[int, bytes | str, int]]:
    """Every file, folder and link below ``folder`` with its mode, content and time."""
    found: dict[str, tuple[int, bytes | str, int]] = {}
    for path in folder.rglob("*"):
        info = path.lstat()
        data = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        mode = 0 if path.is_symlink() else stat.S_IMODE(info.st_mode)
        found[str(path.relative_to(folder))] = mode, data, int(info.st_mtime)
    return found


# ---- What is in the folder ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_no_wheels")
def test_a_context_has_base_server_code_and_models_where_users_look_for_them(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    script = read_entry_script("score.py", code(tmp_path))
    (saved,) = save(workspace, tmp_path / "out", script=script, steps=STEPS)
    out = tmp_path / "out"
    assert saved.base is None
    assert saved.written.files == sum(path.is_file() and not path.is_symlink() for path in out.rglob("*"))
    assert {path.name for path in out.iterdir()} == {
        ".dockerignore", "Dockerfile", "README.md", "SHA256SUMS", "azureml-app", "base", "build", "files",
    }  # fmt: skip
    assert (out / "azureml-app/my [co$de] */score.py").read_text() == SCRIPT
    assert str((out / "azureml-app/my [co$de] */link.txt").readlink()) == "data/a b.txt"
    assert (out / "azureml-app/azureml-models/churn/1/m.onnx").is_file()
    assert (out / "files/opt/edgepack/server/edge_server/__main__.py").is_file()
    assert not list(out.rglob("*.pyc"))
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=out, check=True)


@pytest.mark.skipif(HERE != "3.11", reason="another Python makes no bytecode for this base, and needs no stage for it")
@pytest.mark.usefixtures("_no_wheels")
def test_the_dockerfile_is_the_golden_file(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    own = ImageConfig(
        AMD64, env={"LANG": "C.UTF-8", "SAYS": 'a "$b" \\'}, labels={"vendor": "x", "a b": "y"},
        other={"Volumes": {"/data": {}}},
    )  # fmt: skip
    workspace.store.tag("own:1", make_base(workspace.store, [debian(), {"b": b"b"}], config=own))
    script = read_entry_script("score.py", code(tmp_path))
    save(workspace, tmp_path / "out", base="own:1", script=script, steps=STEPS)
    golden = Path(__file__).parent / "golden/Dockerfile"
    assert (tmp_path / "out/Dockerfile").read_text() == golden.read_text()


@pytest.mark.usefixtures("_no_wheels")
def test_the_same_inputs_give_the_same_bytes_modes_and_times(tmp_path: Path) -> None:
    first = make_workspace(tmp_path / "one")
    second = make_workspace(tmp_path / "two words")
    source = code(tmp_path)
    save(first, tmp_path / "a", AMD64, ARM64, script=read_entry_script("score.py", source))
    mask = os.umask(0o077)
    try:
        (source / "score.py").chmod(0o700)
        save(second, tmp_path / "b b", AMD64, ARM64, script=read_entry_script("score.py", source))
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o777 & ~mask
    assert stat.S_IMODE((tmp_path / "b b").stat().st_mode) == 0o700  # who may enter it is its owner's business
    found = contents(tmp_path / "a")
    assert found == contents(tmp_path / "b b")
    assert {"linux-amd64", "linux-arm64", "linux-amd64/Dockerfile", "linux-arm64/Dockerfile"} <= found.keys()
    assert {mode for mode, _, _ in found.values()} == {0o755, 0o644, 0}
    assert {time for _, _, time in found.values()} == {0}


@pytest.mark.usefixtures("_no_wheels")
def test_a_readme_names_commands_and_files_that_are_there(tmp_path: Path) -> None:
    save(make_workspace(tmp_path), tmp_path / "out", ARM64)
    text = (tmp_path / "out/README.md").read_text()
    assert "docker build --network=none --platform linux/arm64 -t churn:1 ." in text
    assert "qemu-user-static" in text
    for name in re.findall(r"^\| `([^`]+)`", text, re.MULTILINE):
        assert (tmp_path / "out" / name).exists(), name


# ---- The base -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_no_wheels")
def test_a_base_that_removes_files_of_its_own_needs_a_registry(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    workspace.store.tag("two:1", make_base(workspace.store, [debian(), {"usr/.wh.gone": b""}]))
    with pytest.raises(UsageError, match=r"base two:1: .*removes usr/\.wh\.gone.*--base-registry"):
        save(workspace, tmp_path / "out", base="two:1")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_no_wheels")
def test_a_label_of_several_lines_needs_a_registry(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    own = ImageConfig(AMD64, labels={"notice": "a\nb"})
    workspace.store.tag("own:1", make_base(workspace.store, [debian()], config=own))
    with pytest.raises(UsageError, match=r"several lines.*--base-registry"):
        save(workspace, tmp_path / "out", base="own:1")


@pytest.mark.parametrize("text", ["bases", "registry.example", "registry.example/bases:1", "team/bases"])
def test_what_is_not_a_repository_of_a_registry_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="registry"):
        base_repository(text)
    assert base_repository("localhost:5000/a/b").name == "localhost:5000/a/b"


# ---- Nothing half written -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_no_wheels")
def test_a_folder_that_is_not_empty_is_refused_and_an_empty_one_is_taken(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("x")
    with pytest.raises(UsageError, match="full: is not empty"):
        save(workspace, tmp_path / "full")
    with pytest.raises(NotFoundError, match="no such folder"):
        save(workspace, tmp_path / "absent/out")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    save(workspace, tmp_path / "empty")
    assert (tmp_path / "empty/Dockerfile").is_file()


@pytest.mark.usefixtures("_no_wheels")
def test_a_credential_in_steps_or_code_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_TEST_TOKEN", "a-secret-of-nobody")
    workspace = make_workspace(tmp_path)
    with pytest.raises(EdgepackError, match="extra steps: contains the credential from the variable") as caught:
        save(workspace, tmp_path / "out", steps="RUN curl -H 'Token: a-secret-of-nobody' http://x\n")
    assert "a-secret-of-nobody" not in str(caught.value)
    source = code(tmp_path)
    (source / "data/token").write_text("a-secret-of-nobody")
    with pytest.raises(EdgepackError, match="contains the credential"):
        save(workspace, tmp_path / "out", script=read_entry_script("score.py", source))
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith((".out", "out"))} == set()


# ---- Extra steps --------------------------------------------------------------------------------------------------


def test_steps_are_lines_of_a_dockerfile_that_may_stand_in_the_middle_of_one() -> None:
    good = "run a \\\n# c\n FROM b\nCOPY x /y\nRUN <<EOF\nFROM z\nEOF\nENV A=1\n"
    assert check_steps(good, "steps") == good
    with pytest.raises(InvalidDocumentError) as caught:
        check_steps("FROM x\nRUNN a\n\nCMD x\nENTRYPOINT y\nRUN\n", "my steps")
    assert len(caught.value.violations) == 5
    for part in (
        "my steps",
        "line 1: FROM begins another image",
        "did you mean RUN",
        "line 4: CMD",
        "line 6: RUN has no",
    ):
        assert part in str(caught.value)


@pytest.mark.usefixtures("_no_wheels")
def test_a_build_without_an_engine_refuses_steps_with_both_ways_out(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    with pytest.raises(UsageError, match="--engine docker, or write a Dockerfile with them: edgepack package save"):
        workspace.builder.build([ModelRef("churn")], "churn:1", (AMD64,), BuildOptions("tiny:1", steps=STEPS))
    assert "churn:1" not in workspace.store.tags()


# ---- The script of the build stages -------------------------------------------------------------------------------

WHEEL = {
    "thing/__init__.py": b"VALUE = 1\n",
    "thing/cli.py": b"def main():\n    return 0\n",
    "thing/template.py": b"{{ not python }}\n",
    "thing/tests/__init__.py": b"",
    "thing/empty.txt": b"",
    "thing-1.0.data/scripts/tool": b"#!python -E\nprint(1)\n",
    "thing-1.0.data/scripts/program": b"\x7fELF\xff\xfe\x00",
    "thing-1.0.data/data/share/thing/d.txt": b"data",
    "thing-1.0.data/headers/thing.h": b"int x;",
    "thing-1.0.data/purelib/also.py": b"ALSO = 1\n",
    "thing-1.0.dist-info/licenses/LICENSE": b"free",
}
NO_TESTS = TrimRule("thing-tests", "thing", "not needed", ("thing/tests/**",))
SETTINGS = LayerSettings(python=HERE, interpreter=sys.executable, rules=(NO_TESTS,))


def arrange(tmp_path: Path, *, damage: str = "") -> tuple[subprocess.CompletedProcess[str], bytes]:
    """Install a wheel by pip, have the script arrange it, and make the builder's layer of it too."""
    path = make_wheel(
        tmp_path / "wheels", "thing", files=WHEEL, entry_points="[console_scripts]\nrun = thing.cli:main\n"
    )
    wheel = WheelCache(tmp_path / "cache").add(path, Digest(sha256(path)))
    (group,) = group_wheels([wheel], SETTINGS.rules)
    store = Store.create(tmp_path / "store")
    layer = WheelLayers(store, tmp_path / "notes", SETTINGS).make([group])[group]
    build = tmp_path / "build"
    build.mkdir()
    for source in (ROOT / "dockerfiles/context/arrange.py", symbols.__file__, bytecode.__file__):
        shutil.copy(str(source), build)
    _write_json(build / "packages.json", packages_listing([group], SETTINGS, bytecode=True))
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--no-index", "--no-deps", "--no-compile"]
    command += ["--quiet", "--no-warn-script-location", "--prefix", str(tmp_path / "installed"), str(path)]
    subprocess.run(command, check=True, capture_output=True)
    if damage:
        next((tmp_path / "installed").rglob(damage)).write_text("other")
    mask = os.umask(0o077)
    try:
        done = subprocess.run(
            [sys.executable, build / "arrange.py", "packages", build / "packages.json", tmp_path / "installed",
             tmp_path / "layers"], capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        os.umask(mask)
    with store.open(layer.descriptor) as blob:
        return done, decompressed(blob, layer.descriptor, layer.unpacked_size).read()


def test_the_script_makes_the_files_of_the_builders_layer(tmp_path: Path) -> None:
    done, tar = arrange(tmp_path)
    assert done.returncode == 0, done.stderr
    wanted = tree_of([tar])
    root = tmp_path / "layers/1"
    found = contents(root)
    assert found.keys() == wanted.keys()
    for path, node in wanted.items():
        mode, data, time = found[path]
        assert (mode, time) == (node.mode, node.mtime), path
        if node.kind == "file":
            assert Digest.of(data if isinstance(data, bytes) else b"").hex == node.content, path
    assert any(path.endswith(".pyc") for path in wanted)
    assert stat.S_IMODE(root.stat().st_mode) == 0o755


def test_the_script_refuses_what_is_not_what_the_listing_says(tmp_path: Path) -> None:
    done, _ = arrange(tmp_path, damage="also.py")
    assert done.returncode == 1
    assert re.search(r"also\.py of thing 1\.0 is not what the listing says; write the context again", done.stderr)
    assert "Traceback" not in done.stderr


def test_the_script_refuses_another_python(tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    for source in (ROOT / "dockerfiles/context/arrange.py", symbols.__file__):
        shutil.copy(str(source), build)
    _write_json(build / "app.json", {"python": "3.2", "layers": []})
    argv = [sys.executable, build / "arrange.py", "files", build / "app.json", tmp_path]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is for Python 3.2" in done.stderr


def test_a_listing_says_whether_bytecode_is_made(tmp_path: Path) -> None:
    path = make_wheel(tmp_path / "wheels", "thing", files=WHEEL)
    wheel = WheelCache(tmp_path / "cache").add(path, Digest(sha256(path)))
    groups = group_wheels([wheel], SETTINGS.rules)
    (one,), (two,) = (
        packages_listing(groups, replace(SETTINGS), bytecode=made)["layers"][0]["wheels"] for made in (True, False)
    )
    assert one["compiled"]
    assert not two["compiled"]
