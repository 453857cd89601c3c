"""Bytecode that is the same whenever and wherever it is made: unchecked-hash .pyc files (PEP 552).

``marshal`` writes what happens to be shared or interned in the process that compiles, so a fresh isolated interpreter
does it, which runs this very file and has done nothing before. Only the standard library is imported here, lazily where
that interpreter has no use for it.
"""

from __future__ import annotations

import marshal
import sys
from collections.abc import Iterable, Sequence
from importlib.util import MAGIC_NUMBER, source_hash

# PEP 552: bit 0 says hash-based, bit 1 (not set) asks the importer to check the source.
_UNCHECKED_HASH = (1).to_bytes(4, "little")
_TIMEOUT = 600


def compiled_path(path: str, python: str) -> str:
    """Where the bytecode of ``path`` belongs for Python ``python``, such as ``3.11`` (PEP 3147)."""
    folder, _, name = path.rpartition("/")
    tag = "cpython-" + python.replace(".", "")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc".lstrip("/")


def builder_version() -> str:
    """What decides the bytes of bytecode, such as ``3.11.7``: compilers differ a little between patch releases."""
    return ".".join(map(str, sys.version_info[:3]))


def compiles_for(python: str) -> bool:
    """Whether this interpreter makes bytecode for Python ``python``, such as ``3.11``."""
    return sys.implementation.name == "cpython" and python == ".".join(map(str, sys.version_info[:2]))


def compile_sources(sources: Iterable[tuple[str, bytes]], python: Sequence[str] = ()) -> list[bytes | None]:
    """The .pyc of each (absolute path in the image, source); ``None`` where the source is not valid Python.

    ``python`` is the command that starts the Python that compiles; left out, it is this interpreter.

    Raises ``RuntimeFailedError`` when the interpreter that compiles fails.
    """
    import subprocess

    from edgepack.errors import RuntimeFailedError

    listing = list(sources)
    if not listing:
        return []
    command = [*(python or (sys.executable,)), "-I", "-S", "-W", "ignore", __file__]
    try:
        done = subprocess.run(command, input=marshal.dumps(listing), capture_output=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeFailedError(f"cannot compile bytecode ({error})", where=command[0]) from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise RuntimeFailedError(f"cannot compile bytecode ({said or done.returncode})", where=command[0])
    answer = marshal.loads(done.stdout)  # noqa: S302 - written by our own child
    assert isinstance(answer, list)  # noqa: S101
    return answer


def _compiled(path: str, source: bytes) -> bytes | None:
    path = sys.intern(path)  # whether it came in interned would show
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):  # templates, and sources for other versions, lie in wheels too
        return None
    return MAGIC_NUMBER + _UNCHECKED_HASH + source_hash(source) + marshal.dumps(code)


def _serve(listing: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
    return [_compiled(path, source) for path, source in listing]


if __name__ == "__main__":
    sys.stdout.buffer.write(marshal.dumps(_serve(marshal.loads(sys.stdin.buffer.read()))))  # noqa: S302 - from our parent
