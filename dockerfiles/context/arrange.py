"""Makes the files of an image's layers in a build stage, as the listing beside it has them.

``arrange.py packages LISTING INSTALLED LAYERS`` takes what pip installed below INSTALLED, without what the image does
not need, and writes each layer to a folder below LAYERS, with bytecode and with a RECORD that is true for it.
``arrange.py files LISTING LAYERS`` adds bytecode to the layers that were copied there. Both set modes and times, which
may have changed on the way here. Only the standard library is used: the base image has nothing else.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import marshal
import os
import posixpath
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from symbols import without_symbols

_FILE, _EXECUTABLE = 0o644, 0o755
_PYTHON = ".".join(map(str, sys.version_info[:2]))


def main(arguments: list[str]) -> None:
    """Run the command line; what is not as listed ends the build with a message."""
    command, listing, *folders = arguments
    wanted = json.loads(Path(listing).read_bytes())
    if wanted["python"] != _PYTHON:
        sys.exit(f"{listing} is for Python {wanted['python']}, and this is {_PYTHON}; write the context again")
    (packages if command == "packages" else files)(wanted, *map(Path, folders))


def packages(wanted: dict[str, Any], installed: Path, target: Path) -> None:
    """Write the layers of packages below ``target`` from what pip put below ``installed``."""
    found = {path.name: path for path in sorted(installed.rglob("*.dist-info"))}
    for layer in wanted["layers"]:
        root = target / layer["folder"]
        for wheel in layer["wheels"]:
            about = Path(wheel["record"]).parent.name
            _Wheel(wanted["site_packages"], wheel, root, found[about]).write()
        _settle(root, {root / path for path in layer["executable"]})


def files(wanted: dict[str, Any], target: Path) -> None:
    """Add bytecode to the layers below ``target``; every file but the executable ones gets the mode 0644."""
    for layer in wanted["layers"]:
        root = target / layer["folder"]
        for path, data in _compiled([(path, (root / path).read_bytes()) for path in layer["compiled"]]):
            _write(root / path, data)
        _settle(root, {root / path for path in layer["executable"]})


class _Wheel:
    """One wheel's files: copied, shortened or written anew, until each is what the listing says."""

    def __init__(self, site: str, wheel: dict[str, Any], root: Path, about: Path) -> None:
        self._site, self._wheel, self._root, self._about = site, wheel, root, about
        self._rows: dict[str, tuple[str, int]] = {}

    def write(self) -> None:
        """Write them, with bytecode, and a RECORD of it all."""
        sources: dict[str, bytes] = dict.fromkeys(self._wheel["compiled"], b"")
        for path, (digest, size) in self._wheel["files"].items():
            data = self._found(path, digest, size)
            self._add(path, data)
            if path in sources:
                sources[path] = data
        for path, text in self._wheel["texts"].items():
            self._add(path, text.encode())
        for path, data in _compiled(list(sources.items())):
            self._add(path, data)
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        for path in sorted(self._rows):
            digest, size = self._rows[path]
            writer.writerow((posixpath.relpath(path, self._site), f"sha256={digest}", size))
        writer.writerow((posixpath.relpath(self._wheel["record"], self._site), "", ""))
        _write(self._root / self._wheel["record"], text.getvalue().encode())

    def _found(self, path: str, digest: str, size: int) -> bytes:
        """The contents of a file that pip put somewhere, whole or without symbols: whichever has that hash."""
        for source in self._sources(path):
            data = source.read_bytes()
            if len(data) != size:
                data = without_symbols(data)
            if (len(data), _sha256(data)) == (size, digest):
                return data
        sys.exit(f"{path} of {self._wheel['title']} is not what the listing says; write the context again")

    def _sources(self, path: str) -> Iterator[Path]:
        """Where pip may have put it: for modules that is clear, for other files the Pythons of systems differ."""
        inner = self._about.parent / path.removeprefix(f"{self._site}/")
        if path.startswith(f"{self._site}/") and inner.is_file():
            yield inner
            return
        with (self._about / "RECORD").open(encoding="utf-8", newline="") as record:
            for row in csv.reader(record):
                if posixpath.basename(row[0]) == posixpath.basename(path):
                    yield self._about.parent / row[0]

    def _add(self, path: str, data: bytes) -> None:
        _write(self._root / path, data)
        self._rows[path] = _sha256(data), len(data)


def _compiled(sources: list[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """The bytecode of each (path in the image, source), made by a fresh process, so that it is always the same."""
    if not sources:
        return
    program = Path(__file__).with_name("bytecode.py")
    listing = marshal.dumps([(f"/{path}", source) for path, source in sources])
    command = [sys.executable, "-I", "-S", "-W", "ignore", str(program)]
    done = subprocess.run(command, input=listing, stdout=subprocess.PIPE, check=True)
    for (path, _), data in zip(sources, marshal.loads(done.stdout), strict=True):  # noqa: S302 - from our own child
        if data is not None:
            folder, _, name = path.rpartition("/")
            yield f"{folder}/__pycache__/{name[:-3]}.cpython-{_PYTHON.replace('.', '')}.pyc".lstrip("/"), data


def _settle(path: Path, executable: set[Path]) -> None:
    """Set the modes and times of everything at and below ``path``; links have no mode of their own."""
    if path.is_symlink():
        os.utime(path, (0, 0), follow_symlinks=False)
        return
    if path.is_dir():
        for child in path.iterdir():
            _settle(child, executable)
    path.chmod(_EXECUTABLE if path.is_dir() or path in executable else _FILE)
    os.utime(path, (0, 0))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)


def _sha256(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode("ascii").rstrip("=")


if __name__ == "__main__":
    main(sys.argv[1:])
