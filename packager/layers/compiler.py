"""The Python that makes bytecode for an image: of the image's minor version, and not always this interpreter."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from packager.layers.bytecode import builder_version, compiles_for

_log = logging.getLogger(__name__)
_VERSION = "import sys; sys.stdout.write('%d.%d.%d' % sys.version_info[:3])"
_TIMEOUT = 60


@dataclass(frozen=True)
class Compiler:
    """How a Python is started, before its own arguments, and its full version, such as ``3.11.7``."""

    command: tuple[str, ...]
    version: str


def this_compiler(python: str, release: str | None = None) -> Compiler | None:
    """This interpreter, where it makes bytecode for Python ``python``, such as ``3.11``.

    With ``release``, such as ``3.11.2``, only where it is that very one: patch releases compile a little differently.
    """
    if not compiles_for(python) or release not in (None, builder_version()):
        return None
    return Compiler((sys.executable,), builder_version())


def compiler_in(tree: Path, python: str) -> Compiler | None:
    """The Python at the absolute path ``python`` of a Debian in the folder ``tree``; ``None`` where it cannot run.

    Its own loader starts it with its own libraries (ld.so(8)), so that nothing of this machine's is needed.
    """
    program = tree / python.lstrip("/")
    loader = next(iter(sorted(tree.glob("usr/lib/*-linux-gnu*/ld-linux*.so.*"))), None)
    if loader is None or not program.is_file():
        return None
    loader.resolve().chmod(0o755)
    command = (
        str(loader),
        "--inhibit-cache",
        "--library-path",
        str(loader.parent),
        "--argv0",
        str(program),
        str(program),
    )
    try:
        ask = [*command, "-I", "-S", "-c", _VERSION]
        done = subprocess.run(ask, capture_output=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.info("the base's Python cannot run here: %s", error)
        return None
    version = done.stdout.decode("ascii", "replace")
    if done.returncode != 0 or not re.fullmatch(r"3\.\d+\.\d+", version):
        _log.info("the base's Python cannot run here: %s", done.stderr.decode(errors="replace").strip())
        return None
    return Compiler(command, version)
