"""Pin the newest versions of everything that edgepack is tested with; run by hand, then run the tests.

``python scripts/lock.py [requirements|environments [NAME...]]``: all of it, or one part: ``requirements/`` for edgepack
itself, ``converters/software/locks/`` for the environments in which models are converted.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from setup import EXTRAS, ROOT, find_uv, pip_settings

LOCKS = ROOT / "converters" / "software" / "locks"
# torch and its dependencies for graphics cards. Its CPU build is installed apart and does not need them.
TORCH_ONLY = re.compile(r"(torch|triton|cuda-.*|nvidia-.*)==")


def lock_requirements() -> None:
    """Write requirements/*.txt: exact versions with hashes, no index named."""
    (ROOT / "requirements").mkdir(exist_ok=True)
    for extra in sorted(set(EXTRAS.values())):
        compile_lock(ROOT / f"requirements/{extra}.txt", ["pyproject.toml", "requirements/build.in"], "--extra", extra)


def lock_environments(names: Sequence[str] = ()) -> None:
    """Write converters/software/locks: each series of scikit-learn, alone and with the boosters, and the others."""
    series = sorted(path.stem.removeprefix("sklearn-") for path in LOCKS.glob("sklearn-*.in"))
    sources = {name: [f"{name}.in"] for name in ("onnx", "tensorflow", "pytorch")}
    for minor in series:
        sources[f"sklearn-{minor}"] = [f"sklearn-{minor}.in"]
        sources[f"boosters-{minor}"] = [f"sklearn-{minor}.in", "boosters.in"]
    for name in names or sources:
        path = LOCKS / f"{name}.txt"
        compile_lock(path, [f"converters/software/locks/{source}" for source in sources[name]])
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


def compile_lock(target: Path, sources: Sequence[str], *arguments: str) -> None:
    """Resolve ``sources`` by uv, paths below the checkout, into ``target``."""
    subprocess.run(
        [
            find_uv(), "pip", "compile", *sources, *arguments,
            "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate",
            "--no-emit-index-url", "--no-emit-find-links", "--upgrade", "--quiet", "-o", str(target),
        ],
        cwd=ROOT,
        env={**pip_settings(), **os.environ},
        check=True,
    )  # fmt: skip


if __name__ == "__main__":
    part, *chosen = sys.argv[1:] or ["all"]
    if part in ("all", "requirements"):
        lock_requirements()
    if part in ("all", "environments"):
        lock_environments(chosen)
