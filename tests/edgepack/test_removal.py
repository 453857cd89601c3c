"""Trees are removed whatever is in them, however deep, and nothing outside of them is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack.host.files import discard, sweep, temporary_beside
from edgepack.host.removal import remove_tree


def deep(folder: Path, levels: int) -> Path:
    """A folder with files, empty folders and links on each of its ``levels``, deeper than any path could name."""
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        if levels < 10:
            os.mkdir("empty", dir_fd=fd)
            os.symlink("/", "link", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    return folder


@pytest.mark.parametrize("levels", [0, 1, 9, 3000])
def test_a_folder_of_any_depth_is_removed(tmp_path: Path, levels: int) -> None:
    remove_tree(deep(tmp_path / "a", levels))
    assert list(tmp_path.iterdir()) == []


def test_every_owner_of_removal_can(tmp_path: Path) -> None:
    discard(deep(tmp_path / "a", 1100))
    with temporary_beside(tmp_path / "b") as temporary:
        deep(temporary / "tree", 1100)
    deep(tmp_path / ".c.tmp", 1100)
    sweep(tmp_path, ".*.tmp")
    assert list(tmp_path.iterdir()) == []


def test_what_links_lead_to_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("x")
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/link").symlink_to("../kept")
    (tmp_path / "a/b/link").symlink_to(tmp_path / "kept/file")
    os.mkfifo(tmp_path / "a/fifo")
    remove_tree(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept/file").read_text() == "x"
    (tmp_path / "link").symlink_to("kept")
    with pytest.raises(OSError, match="link"):
        remove_tree(tmp_path / "link")
    remove_tree(tmp_path / "link", ignore_errors=True)
    assert (tmp_path / "kept/file").read_text() == "x"


def test_absent_is_an_error_unless_errors_are_ignored(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        remove_tree(tmp_path / "absent")
    remove_tree(tmp_path / "absent", ignore_errors=True)


AS_USER = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from edgepack.host.removal import remove_tree
root = Path(sys.argv[1])
if os.geteuid() == 0:
    os.chown(root, 65534, 65534)
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
tree = root / "tree"
(tree / "a/b/c").mkdir(parents=True)
(tree / "a/b/c/f").write_text("x")
(tree / "other").mkdir()
for path, mode in (("a/b/c", 0o500), ("a/b", 0), ("a", 0o400), ("other", 0o100)):
    (tree / path).chmod(mode)
remove_tree(tree)
print(list(root.iterdir()))
"""


def test_folders_that_their_owner_may_not_enter_are_removed_by_him() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:  # pytest's own folder lets nobody else in
        Path(name).chmod(0o755)
        (Path(name) / "own").mkdir()
        argv = [sys.executable, "-c", AS_USER, str(Path(name) / "own"), *sys.path]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert (done.stdout, done.stderr) == ("[]\n", "")
