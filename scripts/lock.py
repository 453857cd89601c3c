"""Pin the newest versions of everything that edgepack is tested with; run by hand, then run the tests.

``python scripts/lock.py [requirements|environments [NAME...]]``: all of it, or one part: ``requirements/`` for edgepack
itself, with ``packager/data/locks/agent.txt`` for the agent as one file, and ``converters/software/locks/`` for the
environments in which models are converted. With ``--keep`` the versions stay as they are, and only the hashes are
written again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from setup import EXTRAS, ROOT, find_uv, pip_settings

LOCKS = ROOT / "converters" / "software" / "locks"
AGENT_LOCK = ROOT / "packager" / "data" / "locks" / "agent.txt"
# torch and its dependencies for graphics cards. Its CPU build is installed apart and does not need them.
TORCH_ONLY = re.compile(r"(torch|triton|cuda-.*|nvidia-.*)==")


def lock_requirements(*, keep: bool) -> None:
    """Write requirements/*.txt: exact versions with hashes, no index named."""
    (ROOT / "requirements").mkdir(exist_ok=True)
    for extra in sorted(set(EXTRAS.values())):
        sources = ["pyproject.toml", "requirements/build.in"]
        compile_lock(ROOT / f"requirements/{extra}.txt", sources, "--extra", extra, keep=keep)
    # What is in the agent as one file: the versions that edgepack is tested with.
    tested = ("--constraints", "requirements/all.txt", "--only-binary", ":all:")
    compile_lock(AGENT_LOCK, ["pyproject.toml"], "--extra", "agent", *tested, keep=keep)


def lock_environments(names: Sequence[str] = (), *, keep: bool) -> None:
    """Write converters/software/locks: each series of scikit-learn alone, with boosters, with all, and the others."""
    series = sorted(path.stem.removeprefix("sklearn-") for path in LOCKS.glob("sklearn-*.in"))
    sources = {name: [f"{name}.in"] for name in ("onnx", "tensorflow", "pytorch")}
    for minor in series:
        sources[f"sklearn-{minor}"] = [f"sklearn-{minor}.in"]
        sources[f"boosters-{minor}"] = [f"sklearn-{minor}.in", "boosters.in"]
        sources[f"companions-{minor}"] = [f"sklearn-{minor}.in", "boosters.in", "companions.in"]
    for name in names or sources:
        path = LOCKS / f"{name}.txt"
        compile_lock(path, [f"converters/software/locks/{source}" for source in sources[name]], keep=keep)
        path.write_text(without_torch(path.read_text()))


def without_torch(lock: str) -> str:
    """``lock`` without torch and what only its builds for graphics cards need; torch's own line as a comment.

    Its CPU build has other files, on an index of its own, so that no hash of this lock would fit it.
    """
    kept, dropping = [], False
    for line in lock.splitlines():
        if not line.startswith(" "):
            dropping = TORCH_ONLY.match(line) is not None
        if not dropping:
            kept.append(line)
    apart = sorted({f"# apart: {found}" for found in re.findall(r"^torch==[\d.]+", lock, re.MULTILINE)})
    return "\n".join([*apart, *kept]) + "\n"


def compile_lock(target: Path, sources: Sequence[str], *arguments: str, keep: bool) -> None:
    """Resolve ``sources`` by uv, paths below the checkout, into ``target``; ``keep`` its versions."""
    with tempfile.TemporaryDirectory() as folder:
        # Not over the old lock: uv would take over the hashes of versions that stay.
        made, pins = Path(folder, target.name), Path(folder, "pins.txt")
        pins.write_text("".join(f"{pin}\n" for pin in pinned(target)) if keep else "")
        subprocess.run(
            [
                find_uv(), "pip", "compile", *sources, *arguments, "--constraints", str(pins),
                "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate",
                "--no-emit-index-url", "--no-emit-find-links", "--quiet", "-o", str(made),
            ],
            cwd=ROOT,
            env=one_index(),
            check=True,
        )  # fmt: skip
        target.write_text(made.read_text())


def pinned(lock: Path) -> list[str]:
    """The lines of a lock without their hashes, and what is pinned apart."""
    text = lock.read_text() if lock.exists() else ""
    return re.findall(r"^# apart: (\S+)$", text, re.MULTILINE) + requirements_of(text)


def requirements_of(lock: str) -> list[str]:
    """The lines of a lock's text without their hashes: ``name==version``, with a marker where it has one."""
    return [line.rstrip(" \\") for line in lock.splitlines() if re.match(r"[\w.-]+==", line)]


def one_index() -> dict[str, str]:
    """uv's environment, with one index of all files of each version.

    The further indexes and folders of a machine may hold files for its own Python and processor only. uv takes the
    hashes of a version from one index, so they would be all that the lock names.
    """
    found = {**pip_settings(), **os.environ}
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX_STRATEGY", "UV_CONSTRAINT"):
        found.pop(name, None)
    return found


if __name__ == "__main__":
    arguments = [word for word in sys.argv[1:] if word != "--keep"]
    keep = "--keep" in sys.argv
    part, *chosen = arguments or ["all"]
    if part in ("all", "requirements"):
        lock_requirements(keep=keep)
    if part in ("all", "environments"):
        lock_environments(chosen, keep=keep)
