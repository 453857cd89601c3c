"""The environments of the peers: one for each, made from its pinned requirements on first use, kept in the cache."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from converters.package.cache import default_cache
from edgepack.host.uv import find_uv, uv_environment
from edgepack.text import redacted

REQUIREMENTS = Path(__file__).parent / "requirements"


class MissingError(Exception):
    """A part of the benchmark is not available here; the text says which and why."""


def interpreter(name: str) -> Path:
    """The Python of the environment of ``requirements/NAME.txt``. Raises ``MissingError``."""
    lock = REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    folder = default_cache() / "peers" / name
    python, whole = folder / "bin" / "python", folder / "whole"
    if whole.is_file() and whole.read_text() == digest:
        return python
    whole.unlink(missing_ok=True)
    print(f"  making {folder} ...", file=sys.stderr, flush=True)
    _uv(name, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    # With its bytecode, which an image has too: otherwise the first start would write it.
    _uv(name, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), "-r", str(lock))
    whole.write_text(digest)
    return python


def _uv(name: str, *words: str) -> None:
    done = subprocess.run([find_uv(), *words], env=uv_environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MissingError(f"the environment of {name} cannot be made: {redacted(done.stderr).strip()[-300:]}")
