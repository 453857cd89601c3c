"""Pin the newest versions of everything that edgepack is tested with; run by hand, then run the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from setup import EXTRAS, ROOT, find_uv, pip_settings


def lock_requirements() -> None:
    """Write requirements/*.txt: exact versions with hashes, no index named."""
    (ROOT / "requirements").mkdir(exist_ok=True)
    for extra in sorted(set(EXTRAS.values())):
        subprocess.run(
            [
                find_uv(), "pip", "compile", "pyproject.toml", "requirements/build.in", "--extra", extra,
                "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate",
                "--no-emit-index-url", "--no-emit-find-links", "--upgrade", "--quiet",
                "-o", f"requirements/{extra}.txt",
            ],
            cwd=ROOT,
            env={**pip_settings(), **os.environ},
            check=True,
        )  # fmt: skip


if __name__ == "__main__":
    lock_requirements()
