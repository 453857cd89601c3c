"""What an import takes from the modules of a source directory, and whether it is in them, as their text tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from converters.source.python_imports import Import
from edgepack.nearness import nearest

Sources = Mapping[str, Callable[[], bytes]]
# With these in its text, a module may get names and submodules that are written nowhere.
_DYNAMIC = ("__getattr__", "__path__", "globals(", "setattr(", "exec(", "vars(", "sys.modules", "locals(")


@dataclass(frozen=True)
class Absent:
    """A module, or a name in one, that the source directory certainly does not have, and the nearest that it has."""

    what: str
    nearest: str | None


def absent(one: Import, sources: Sources, bound: Callable[[str], set[str] | None]) -> Absent | None:
    """What ``one`` imports and the directory does not have; None where all of it is there, or that is not certain.

    ``bound`` gives the names that the module in a file may have, ``*`` among them where another module decides; None
    for a file whose text cannot be read.
    """
    parts = one.module.split(".")
    for length in range(1, len(parts) + 1):
        name = "/".join(parts[:length])
        if not _is_module(name, sources):
            return None if length == 1 else Absent(".".join(parts[:length]), _nearest_module(name, sources))
        if _is_open(name, sources):
            return None
    folder = "/".join(parts)
    file = next((path for path in (f"{folder}/__init__.py", f"{folder}.py") if path in sources), None)
    names = set[str]() if file is None else bound(file)
    is_package = any(path.startswith(f"{folder}/") for path in sources)
    if names is None or "*" in names or (file is None and not is_package):
        return None
    for wanted in one.names:
        if wanted == "*" or wanted in names or wanted.startswith("__") or _is_module(f"{folder}/{wanted}", sources):
            continue
        known = {*names, *(_below(folder, sources) if is_package else ())}
        return Absent(f"{wanted} from {one.module}", nearest(wanted, known))
    return None


def _is_module(name: str, sources: Sources) -> bool:
    """Whether a file or folder may be the module ``name``, written with slashes: source, bytecode, or an extension."""
    return any(path.startswith((f"{name}/", f"{name}.")) for path in sources)


def _is_open(name: str, sources: Sources) -> bool:
    """Whether what is in the module is not all written down: a link to a folder, or code that makes it as it runs."""
    if not any(path.startswith((f"{name}/", f"{name}.")) and path != f"{name}/" for path in sources):
        return True
    files = [path for path in (f"{name}/__init__.py", f"{name}.py") if path in sources]
    if not files:  # bytecode or an extension is not read; a folder of modules has nothing else in it
        return any(path.startswith((f"{name}.", f"{name}/__init__.")) for path in sources)
    text = sources[files[0]]().decode("utf-8", "replace")
    return any(word in text for word in _DYNAMIC)


def _below(folder: str, sources: Sources) -> set[str]:
    """The names of the modules in a folder."""
    inner = (path[len(folder) + 1 :] for path in sources if path.startswith(f"{folder}/"))
    return {name.partition("/")[0].partition(".")[0] for name in inner} - {"", "__init__"}


def _nearest_module(name: str, sources: Sources) -> str | None:
    folder, _, last = name.rpartition("/")
    return nearest(last, _below(folder, sources))
