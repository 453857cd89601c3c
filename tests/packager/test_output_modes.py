"""What a command writes at a path that the user names has the mode that the umask leaves; secrets are their owner's."""

from __future__ import annotations

import ast
import json
import os
import stat
from pathlib import Path

from tests.support.forked import finish

ROOT = Path(__file__).parents[2]
# What is written for the user, outside of the modules of commands.
FURTHER = (
    "edgepack/bundle/write.py", "edgepack/oci/archive/write.py", "packager/environments/azure.py",
    "packager/sdk/conda_dependencies.py",
)  # fmt: skip


def test_every_command_lets_the_umask_decide() -> None:
    """A new writer of a command says ``BY_UMASK``, or the mode of a secret."""
    commands = sorted((ROOT / "packager/commands").glob("*.py"))
    without = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (*commands, *(ROOT / name for name in FURTHER))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") in ("atomic_write", "replacing")
        and len(node.args) < (3 if getattr(node.func, "id", "") == "atomic_write" else 2)
    ]
    assert without == []


def test_files_of_a_user_with_umask_077_are_theirs_alone(tmp_path: Path) -> None:
    env = {**os.environ, "EDGEPACK_WORKSPACE": str(tmp_path / "ws")}
    (tmp_path / "d.json").write_text(json.dumps({"schema": "edgepack.desired/v1", "services": []}))
    assert finish("edgepack", "key", "create", "-n", "f", cwd=tmp_path, env=env).code == 0
    secret = tmp_path / "ws/keys/f.key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600

    for umask in (0o077, 0o022):
        for words in (
            ("key", "export", "f", "-o", f"{umask}.pub"),
            ("desired", "sign", "d.json", "--key", "f", "--serial", "1", "-o", f"{umask}.json"),
        ):
            done = finish("edgepack", *words, cwd=tmp_path, env=env, umask=umask)
            assert done.code == 0, done.stderr
            assert stat.S_IMODE((tmp_path / words[-1]).stat().st_mode) == 0o666 & ~umask
