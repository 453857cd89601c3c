"""Run in an environment with edgepack in it: import every module of some rooms, show the help of every command.

``python walk_rooms.py '{"rooms": […], "commands": […], "read": FILE}'`` prints one JSON object: the modules that cannot
be imported, the commands whose help cannot be shown, and the libraries that the rooms name anywhere, in functions too,
and that this environment lacks. What was read of modules is kept in FILE, for others with the same edgepack.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def modules(room: str) -> Iterator[tuple[str, Path]]:
    """The name and the file of every module of ``room``."""
    found = importlib.util.find_spec(room)
    assert found is not None, f"{room} is not installed"
    assert found.origin is not None
    folder = Path(found.origin).parent
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def libraries(tree: ast.Module) -> set[str]:
    """What a module imports, in functions and by name too, but not for types only: the names of the top levels."""
    found: set[str] = set()
    for_types: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for_types.update(id(inner) for statement in node.body for inner in ast.walk(statement))
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Constant) and node.value in ("compression.zstd", "backports.zstd"):
            found.add(node.value)
    return {".".join(name.split(".")[: 2 if name.startswith(("backports.", "google.")) else 1]) for name in found}


def is_missing(library: str) -> bool:
    """Whether ``library`` cannot be imported here, and no version of Python has it."""
    if library in sys.stdlib_module_names or library in ("compression", "_typeshed"):
        return False
    if library == "backports.zstd" and sys.version_info >= (3, 14):
        return False
    try:
        return importlib.util.find_spec(library) is None
    except ModuleNotFoundError:  # the package above it
        return True


def is_program(name: str, tree: ast.Module) -> bool:
    """Whether importing a module runs it: a ``__main__`` that does not ask how it was started."""
    return name.endswith("__main__") and not any(isinstance(node, ast.If) for node in tree.body)


def help_failures(name: str) -> Iterator[str]:
    """The commands below ``name``, and itself, whose help cannot be shown."""
    (point,) = importlib.metadata.entry_points(group="console_scripts", name=name)
    room = point.module.partition(".")[0]
    module = importlib.import_module(f"{room}.main" if name == "edge-server" else f"{room}.commands.main")
    if name == "edge-server":
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            module.main(["--help"])
        if "--model" not in text.getvalue():
            yield f"{name} --help: {text.getvalue()!r}"
        return
    import click

    def below(command: click.Command, context: click.Context) -> Iterator[str]:
        if not command.get_help(context).startswith("Usage: "):
            yield f"{context.command_path} --help has no usage"
        for verb in command.list_commands(context) if isinstance(command, click.Group) else ():
            try:
                child = command.get_command(context, verb)
                assert child is not None, "there is no such command"
            except (Exception, SystemExit) as error:  # noqa: BLE001 - each is reported
                yield f"{context.command_path} {verb} --help: {error!r}"
            else:
                yield from below(child, click.Context(child, info_name=verb, parent=context))

    command = module.build_cli() if hasattr(module, "build_cli") else module.cli
    yield from below(command, click.Context(command, info_name=name))


def read(path: Path, name: str) -> list[Any]:
    """The libraries that a module names, and whether importing it runs it."""
    tree = ast.parse(path.read_bytes())
    return [sorted(libraries(tree)), is_program(name, tree)]


def walk(rooms: list[str], commands: list[str], known: dict[str, list[Any]]) -> dict[str, Any]:
    """What these rooms and commands lack here; ``known`` has what ``read`` found of modules, and gets the others."""
    failed: dict[str, str] = {}
    missing: set[str] = set()
    for room in rooms:
        for name, path in modules(room):
            if name not in known:
                known[name] = read(path, name)
            named, runs = known[name]
            missing.update(named)
            if not runs:
                try:
                    importlib.import_module(name)
                except (Exception, SystemExit) as error:  # noqa: BLE001 - each is reported
                    failed[name] = repr(error)
    missing = set(filter(is_missing, missing))
    helpless: list[str] = []
    for name in commands:
        try:
            helpless.extend(help_failures(name))
        except (ModuleNotFoundError, SystemExit) as error:
            helpless.append(f"{name} --help: {error!r}")
    return {"failed": failed, "missing": sorted(missing), "help": helpless}


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    kept = Path(wanted["read"])
    known = json.loads(kept.read_text()) if kept.exists() else {}
    found = walk(wanted["rooms"], wanted["commands"], known)
    kept.write_text(json.dumps(known))
    sys.stdout.write(json.dumps(found))
