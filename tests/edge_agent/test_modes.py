"""Modes of everything that the agent makes: what is meant, whatever the umask, and mended where it was otherwise."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_agent.runtimes.unpacked.trees import merge_trees
from edge_agent.state.database import StateFile
from edgepack.errors import UsageError
from edgepack.host.files import locked, make_dirs, set_mode
from edgepack.oci.unpack import unpack_layer
from tests.edge_agent.support.agent import Agent, Images, make_images
from tests.support.ports import free_port

# Folders and files of a device by the part of their path that says what they are.
MEANT = {
    "": 0o711,
    ".lock": 0o600,
    "bases": 0o711,
    "images": 0o700,
    "inventories": 0o700,
    "inventories/layers": 0o700,
    "layers": 0o700,
    "logs": 0o700,
    "rootfs": 0o711,
    "run": 0o700,
    "run/process": 0o700,
    "run/process/churn": 0o700,
    "run/process/churn/spec.json": 0o600,
    "state": 0o700,
    "state/agent.db": 0o600,
    "store": 0o700,
    "store/.lock": 0o600,
    "store/index.json": 0o644,
    "trust": 0o700,
    "trust/.lock": 0o600,
}
UMASKS = [0o027, 0o077, 0o000]


def modes(root: Path) -> dict[str, int]:
    found = {path.relative_to(root).as_posix(): path.lstat() for path in (root, *root.rglob("*"))}
    return {
        "" if name == "." else name: stat.S_IMODE(one.st_mode)
        for name, one in found.items()
        if not stat.S_ISLNK(one.st_mode)
    }


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def agent(images: Images, tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path / "above" / "device", images, free_port())
    agent.root.parent.mkdir()  # the agent's document lies there
    yield agent
    agent.close()


def run_v1(agent: Agent) -> dict[str, int]:
    agent.take_in("v1")
    done = agent.apply("v1")
    assert done.code == 0, done.err
    return modes(agent.root)


def test_every_file_and_folder_has_its_mode_whatever_the_umask(agent: Agent) -> None:
    agent.umask = 0o022
    usual = run_v1(agent)
    assert {name: usual[name] for name in MEANT} == MEANT
    for agent.umask in UMASKS:
        agent.close()
        shutil.rmtree(agent.root)
        assert run_v1(agent) == usual, oct(agent.umask)


def test_what_an_older_agent_made_otherwise_is_mended(agent: Agent) -> None:
    usual = run_v1(agent)
    mended = [name for name in MEANT if name not in ("", "store/index.json")]
    for wrong in (0o700, 0o777):
        for name in mended:
            path = agent.root / name
            if wrong == 0o700 or not name.startswith(("trust", "state")):  # those are refused, not mended
                path.chmod(wrong if path.is_dir() else wrong & 0o666)
        agent.ok("import", str(agent.images.bundle("v1")))
        assert agent.apply("v1", env={"N": str(wrong)}).code == 0
        found = modes(agent.root)
        assert {name: found[name] for name in mended} == {name: usual[name] for name in mended}


@pytest.mark.parametrize("value", UMASKS, ids=oct)
def test_a_tree_can_be_read_by_everybody_whatever_the_umask(tmp_path: Path, value: int) -> None:
    plain = tmp_path / "plain.tar"
    with_implied_folders(plain)
    with umask(value):
        target = tmp_path / "tree"
        target.mkdir()
        with plain.open("rb") as file:
            unpack_layer(file, target)
        merge_trees([target], tmp_path / "merged")
    for tree in (target, tmp_path / "merged"):
        assert {name: mode for name, mode in modes(tree).items() if name} == {
            "opt": 0o755, "opt/a": 0o755, "opt/a/b.py": 0o644
        }  # fmt: skip


def with_implied_folders(path: Path) -> None:
    """A layer as some tools write it: without entries for its folders."""
    import tarfile

    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("opt/a/b.py"))


@pytest.mark.parametrize("value", UMASKS, ids=oct)
def test_the_files_of_the_state_have_their_modes_whatever_the_umask(tmp_path: Path, value: int) -> None:
    with umask(value):
        make_dirs(tmp_path / "above" / "private", 0o700)
        make_dirs(tmp_path / "passed", 0o711)
        state = StateFile(tmp_path / "above" / "private" / "agent.db")
        with state._opened() as db, locked(tmp_path / "lock"):
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO facts VALUES ('a', 'b')")
            found = modes(tmp_path)
    assert found == {
        "": 0o700, "above": 0o755, "above/private": 0o700, "passed": 0o711, "lock": 0o600,
        **{f"above/private/agent.db{kind}": 0o600 for kind in ("", "-wal", "-shm")},
    }  # fmt: skip


def test_another_users_folder_is_told_of_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted", str(self))

    tmp_path.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(UsageError, match=r"has the mode 0755, not 0700.*run: chmod 0700 /"):
        set_mode(tmp_path, 0o700)
