"""An image's command line and environment, translated for a tree in a folder of this machine. Pure, except that it
checks which paths exist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgepack.errors import IncompatibleError
from edgepack.oci.config import ImageConfig

PYTHON_LABEL = "io.edgepack.python"
_PYTHON = re.compile(r"python3\.(\d{1,2})")
_MINOR = re.compile(r"3\.(\d{1,2})")
# Where programs of this machine are; the image's own PATH names folders of its base, which is not unpacked.
_HOST_PATH = "/usr/local/bin:/usr/bin:/bin"


def python_minor(config: ImageConfig) -> int:
    """The 11 of the Python 3.11 that the image runs; raises ``IncompatibleError`` when it does not run Python.

    Taken from the label ``io.edgepack.python`` or the name of the entrypoint's program.
    """
    argv = [*config.entrypoint, *config.cmd]
    program = _PYTHON.fullmatch(argv[0].rpartition("/")[2]) if argv else None
    if program is None:
        raise IncompatibleError(
            f"starts {argv[0] if argv else 'nothing'}, not pythonX.Y",
            hint="without containers only images whose entrypoint is Python can run; use --runtime docker or crun",
        )
    label = _MINOR.fullmatch(config.labels.get(PYTHON_LABEL, ""))
    return int(label[1] if label else program[1])


def inside(path: str, tree: Path) -> str:
    """The path in ``tree`` of the image's ``path`` when it exists there; otherwise ``path`` itself."""
    if not path.startswith("/"):
        return path
    found = tree / path.lstrip("/")
    return str(found) if path != "/" and ".." not in found.parts and found.exists() else path


def command(config: ImageConfig, python: str, tree: Path, flags: Sequence[str] = ("-s", "-S")) -> list[str]:
    """The command to start, by ``python`` with ``flags``."""
    argv = [*config.entrypoint, *config.cmd]
    return [python, *flags, *(inside(word, tree) for word in argv[1:])]


def environment(env: Mapping[str, str], tree: Path) -> dict[str, str]:
    """``env`` with the tree's paths, alone or in lists with colons; nothing of the agent's own environment."""
    found = {name: _value(text, tree) for name, text in env.items() if name != "PATH"}
    scripts = [inside(part, tree) for part in env.get("PATH", "").split(":")]
    own = [part for part in scripts if part.startswith(f"{tree}/")]
    return {
        "LANG": "C.UTF-8",
        **found,
        "PATH": ":".join([*own, _HOST_PATH]),
        # The tree is shared by everything that runs from it.
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _value(text: str, tree: Path) -> str:
    return ":".join(inside(part, tree) for part in text.split(":"))
