"""The scoring server's own files, as an image has them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from edgepack.errors import MissingPartError
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


def server_entries(python: str, compiler: Compiler | None) -> tuple[LayerEntry, ...]:
    """The modules of ``edge_server``, with bytecode for Python ``python`` by ``compiler``, if there is one."""
    root = server_root()
    sources = {
        f"{SERVER_ROOT}/edge_server/{path.relative_to(root)}": path.read_bytes() for path in sorted(root.rglob("*.py"))
    }
    entries = [LayerEntry.of_bytes(path, data) for path, data in sources.items()]
    if compiler is not None:
        compiled = compile_sources(((f"/{path}", data) for path, data in sources.items()), compiler.command)
        entries += [
            LayerEntry.of_bytes(compiled_path(path, python), data)
            for path, data in zip(sources, compiled, strict=True)
            if data is not None
        ]
    return tuple(entries)
