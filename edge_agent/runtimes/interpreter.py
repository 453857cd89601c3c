"""Which Python a service without a container runs: the image's own, from its unpacked base, else this machine's.

A dynamically linked program names its loader by an absolute path, which is this machine's. So a small script in the
place of the interpreter calls the image's loader with the folders of the image's libraries (ld.so(8)). The interpreter
takes the script for itself: it finds its standard library beside it, and ``sys.executable`` starts the same again.
"""

from __future__ import annotations

import os
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.runtimes.runtime_spec import service_user
from edge_agent.runtimes.translate import python_minor
from edgepack.errors import IncompatibleError
from edgepack.oci.config import ImageConfig

# Since glibc 2.33 its loader can be told what the program is called; without that ``sys.executable`` would be wrong.
_NAMES_PROGRAM = b"--argv0"
_LIBRARIES = ("usr/local/lib", "lib/*-linux-gnu*", "usr/lib/*-linux-gnu*", "lib64", "usr/lib64", "lib", "usr/lib")
_DEVICE_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_PT_INTERP = 3
_SCRIPT = """\
#!/bin/sh
# The image's own loader, libraries and interpreter, wherever this folder is.
here=${{0%/*}}
[ -f "$here/{program}" ] || here={folder}
exec "$here/{loader}" --inhibit-cache --library-path "{libraries}" --argv0 "$0" "$here/{program}" "$@"
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python to start: its path, the flags it needs, more of the environment, and paths that its user must reach."""

    program: str
    flags: tuple[str, ...]
    needs: tuple[Path, ...]
    env: Mapping[str, str] = field(default_factory=dict)


def find_interpreter(config: ImageConfig, base: Path) -> Interpreter:
    """The Python for an image whose base is merged in the folder ``base``.

    Raises ``IncompatibleError``, saying what is needed, where neither the image nor this machine has one.
    """
    own = _program(config, base)
    if own is not None and _elf(own).exists():
        return Interpreter(str(own), ("-s",), (own,), _own_environment(base))
    return machine_interpreter(config)


def machine_interpreter(config: ImageConfig) -> Interpreter:
    """This machine's Python of the image's minor version, if possible one that the image's user can start.

    ``-S``: the packages of this machine's Python are not the image's. Raises ``IncompatibleError``.
    """
    minor = python_minor(config)
    names = [sys.executable, shutil.which(f"python3.{minor}"), shutil.which("python3")]
    candidates = list(dict.fromkeys(name for name in names if name))
    user = service_user(config) if os.geteuid() == 0 else None
    for runner in dict.fromkeys((user, None)):
        for python in candidates:
            if _minor_of(python, runner) == minor:
                return Interpreter(python, ("-s", "-S"), (Path(python), Path(python).resolve()))
    raise IncompatibleError(
        f"the image runs Python 3.{minor}, which neither its base nor this machine has in a form that runs here",
        hint=f"install python3.{minor}, or use --runtime docker or crun",
    )


def _minor_of(python: str, user: tuple[int, int] | None) -> int | None:
    """The minor version that ``python`` gives when ``user`` (or this process's own) starts it."""
    # A name on PATH may be a script that chooses a version, or fails to.
    ask = [python, "-I", "-S", "-c", "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"]
    uid, gid = user or (None, None)
    groups = None if user is None else ()
    try:
        done = subprocess.run(ask, capture_output=True, timeout=20, check=False, cwd="/", user=uid, group=gid,
                              extra_groups=groups)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    major, _, minor = done.stdout.decode("ascii", "replace").partition(".")
    return int(minor) if done.returncode == 0 and major == "3" and minor.isdecimal() else None


def install_own_interpreter(config: ImageConfig, tree: Path, final: Path) -> None:
    """Let the Python of the base in the folder ``tree``, which will be ``final``, start by its own path.

    Changes nothing where the base has none that can be started so: no Python, no glibc, one older than 2.33.
    """
    program = _program(config, tree)
    if program is None or ":" in str(final) or ";" in str(final):  # they separate folders of libraries
        return
    loader = _inside(tree, _loader_of(program) or "")
    if loader is None or _NAMES_PROGRAM not in loader.read_bytes():
        return
    folder = program.parent
    libraries = [os.path.relpath(path, folder) for path in _library_folders(config, tree, loader)]
    elf = _elf(program)
    text = _SCRIPT.format(
        program=elf.name,
        folder=shlex.quote(str(final / folder.relative_to(tree.resolve()))),
        loader=os.path.relpath(loader, folder),
        libraries=":".join(f"$here/{library}" for library in libraries),
    )
    # The file itself is the layer's too: its name is moved, and never its contents changed.
    program.rename(elf)
    program.write_bytes(os.fsencode(text))
    program.chmod(0o755)


def _elf(program: Path) -> Path:
    """Where the interpreter itself is when ``program`` is the script that starts it."""
    return program.with_name(f".{program.name}.elf")


def _program(config: ImageConfig, base: Path) -> Path | None:
    """The file of the image's Python in ``base``; ``None`` for an image that has it elsewhere or nowhere."""
    argv = [*config.entrypoint, *config.cmd]
    if not argv:
        return None
    folders = [""] if "/" in argv[0] else config.env.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":")
    return next((found for folder in folders if (found := _inside(base, f"{folder}/{argv[0]}"))), None)


def _inside(base: Path, path: str) -> Path | None:
    """The file, links followed, at the image's ``path`` in ``base``, if it is one; links in trees are relative."""
    root = base.resolve()
    found = (root / path.lstrip("/")).resolve()
    return found if found.is_file() and found.is_relative_to(root) else None


def _loader_of(program: Path) -> str | None:
    """What the program names as its interpreter, the dynamic loader (System V gABI, chapter 5); ``None`` without."""
    with program.open("rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:4] != b"\x7fELF":
            return None
        wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
        (start,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, 32 if wide else 28)
        size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
        for number in range(count):
            file.seek(start + number * size)
            header = file.read(size)
            kind, *_ = struct.unpack_from(f"{order}I", header)
            if kind == _PT_INTERP:
                (offset,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", header, 8 if wide else 4)
                (length,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", header, 32 if wide else 16)
                file.seek(offset)
                return file.read(min(length, 4096)).rstrip(b"\0").decode("utf-8", "replace")
    return None


def _library_folders(config: ImageConfig, tree: Path, loader: Path) -> list[Path]:
    """The folders in which the image's loader would look for libraries, the first that it asks first."""
    root = tree.resolve()
    named = [*config.env.get("LD_LIBRARY_PATH", "").split(":"), *_configured(root)]
    found = [root / name.lstrip("/") for name in named if name.startswith("/")]
    for pattern in _LIBRARIES:
        found += sorted(root.glob(pattern))
    real = [path.resolve() for path in (*found, loader.parent)]
    return list(dict.fromkeys(path for path in real if path.is_dir() and path.is_relative_to(root)))


def _configured(root: Path) -> Iterator[str]:
    """The folders that the image's ``ld.so.conf`` names (ldconfig(8)); its cache is not read."""
    for path in (*sorted(root.glob("etc/ld.so.conf.d/*.conf")), root / "etc/ld.so.conf"):
        if path.is_file():
            yield from (line.strip() for line in path.read_text("utf-8", "replace").splitlines())


def _own_environment(base: Path) -> dict[str, str]:
    """What the image's libraries would find by absolute paths: character tables, and certificates if it must be."""
    found = {"PYTHONNOUSERSITE": "1"}
    if (locales := base / "usr/lib/locale").is_dir():
        found["LOCPATH"] = str(locales)
    certificates = base / str(_DEVICE_CERTIFICATES).lstrip("/")
    if certificates.is_file() and not _DEVICE_CERTIFICATES.exists():
        found["SSL_CERT_FILE"] = str(certificates)
    return found
