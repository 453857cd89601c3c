"""The scoring server's own files, as an image has them."""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from edgepack.errors import MissingPartError
from edgepack.host.files import atomic_write, make_dirs
from edgepack.oci.layer import LayerEntry
from packager.layers.bytecode import compile_sources, compiled_path
from packager.layers.compiler import Compiler
from packager.layers.paths import SERVER_ROOT


def server_root() -> Path:
    """The folder of ``edge_server``; raises ``MissingPartError``."""
    spec = find_spec("edge_server")  # found and not imported: the workstation need not have the server's wheels
    if spec is None or spec.origin is None:
        raise MissingPartError(
            "the scoring server is not installed", where="edge_server", hint="install edgepack again"
        )
    return Path(spec.origin).parent


def server_entries(python: str, compiler: Compiler | None, kept: Path | None = None) -> tuple[LayerEntry, ...]:
    """The modules of ``edge_server``, with bytecode for Python ``python`` by ``compiler``, if there is one.

    The bytecode is kept in the folder ``kept``, if one is given, and taken from there the next time.
    """
    root = server_root()
    sources = {
        f"{SERVER_ROOT}/edge_server/{path.relative_to(root)}": path.read_bytes() for path in sorted(root.rglob("*.py"))
    }
    entries = [LayerEntry.of_bytes(path, data) for path, data in sources.items()]
    if compiler is not None:
        compiled = _compiled([(f"/{path}", data) for path, data in sources.items()], compiler, kept)
        entries += [
            LayerEntry.of_bytes(compiled_path(path, python), data)
            for path, data in zip(sources, compiled, strict=True)
            if data is not None
        ]
    return tuple(entries)


def _compiled(sources: Sequence[tuple[str, bytes]], compiler: Compiler, kept: Path | None) -> Sequence[bytes | None]:
    if kept is None:
        return compile_sources(sources, compiler.command)
    key = hashlib.sha256(compiler.version.encode())
    for path, source in sources:
        key.update(f"\0{path}\0{len(source)}\0".encode() + source)
    file = kept / f"server-{key.hexdigest()}"
    with suppress(FileNotFoundError):
        digest, data = file.read_bytes().split(b"\n", 1)
        if digest == hashlib.sha256(data).hexdigest().encode():  # else a disk has damaged it, and it is made again
            found = marshal.loads(data)  # noqa: S302 - written below, in a folder of the user
            assert isinstance(found, list)  # noqa: S101
            return found
    compiled = compile_sources(sources, compiler.command)
    data = marshal.dumps(compiled)
    make_dirs(kept)
    atomic_write(file, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
    return compiled
