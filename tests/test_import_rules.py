"""Who may import whom, what importing costs, how long a module may be (docs/architecture.md, "Who imports whom")."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "edgepack": set(),
    "edge_server": set(),
    "edge_agent": {"edgepack"},
    "converters": {"edgepack"},
    "packager": {"edgepack", "converters"},
}  # fmt: skip
# Templates and recipes, not a room: those who render them may import it.
DATA_PACKAGES = {"dockerfiles": {"packager"}}
# The one place of a room, a folder or a module, that imports a library which speaks to another program.
ADAPTERS = {
    "keyring": {"packager": "packager/services/credentials/vault.py"},
    "docker": {"packager": "packager/places/docker_daemon.py"},
    "paho": {"edge_agent": "edge_agent/link/mqtt.py", "packager": "packager/fleet/broker.py"},
}  # fmt: skip
FRAMEWORKS = {
    "joblib", "keras", "lightgbm", "onnxmltools", "pandas", "scipy", "skl2onnx", "sklearn", "tensorflow", "tf2onnx",
    "torch", "xgboost",
}  # fmt: skip
# What a plan must not touch. ``os.path`` and ``posixpath`` only handle text, and so do pathlib's pure paths.
IO_MODULES = {
    "asyncio", "docker", "http", "io", "os", "requests", "shutil", "socket", "psycopg", "sqlite3", "ssl",
    "subprocess", "tarfile", "tempfile", "threading", "time", "urllib", "urllib3", "zipfile",
}  # fmt: skip
# What stands in for libraries that entry scripts import.
SHIMS = ROOT / "edge_server" / "compat"
PURE_PATHS = {"PurePath", "PurePosixPath", "PureWindowsPath"}
TOO_MANY_LINES = 400
ENDS = ("sys.exit(", "os._exit(", "exit(", "quit(", "main(", "command(", "raise SystemExit")
# What still breaks a rule. A test fails when an entry no longer does: take it out. Add none.
LOGGERS = {
    # Names that users see in the log: the server's own, those of scripts, and of what a script prints.
    "edge_server/processes.py", "edge_server/run.py", "edge_server/scripts/calls.py",
    "edge_server/scripts/worker_output.py",
}  # fmt: skip
ERROR_TEXTS = {
    # Other people's libraries raise one type for many reasons, and name the reason, or the class, in the text only.
    "converters/pytorch/loading.py", "converters/sklearn/attempts.py", "converters/tensorflow/keras_file.py",
    "converters/tensorflow/saved_model.py",
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One import of a module: what, by whom, on which line, and whether it runs when the module is imported."""

    module: str
    name: str | None
    by: Path
    line: int
    at_start: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.by.relative_to(ROOT)}:{self.line} imports {self.module}"


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(parsed(path)))


@cache
def imports(path: Path) -> tuple[Import, ...]:
    return tuple(_imports(parsed(path), path, at_start=True))


def _imports(node: ast.AST, path: Path, *, at_start: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, None, path, child.lineno, at_start)
        elif isinstance(child, ast.ImportFrom):
            module = child.module or ""
            if child.level:
                package = path.relative_to(ROOT).parts[: -child.level]
                module = ".".join((*package, *filter(None, [module])))
            for alias in child.names:
                yield Import(module, alias.name, path, child.lineno, at_start)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for inner in child.body:
                yield from _imports(ast.Module([inner], []), path, at_start=False)
            yield from _imports(ast.Module(child.orelse, []), path, at_start=at_start)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, path, at_start=at_start and not inside)
        if isinstance(child, ast.Call) and child.args and _is_import_by_name(child):
            name = child.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield Import(name.value, None, path, child.lineno, at_start)


def test_imports_under_type_checking_do_not_run_and_those_of_its_else_do() -> None:
    code = "if TYPE_CHECKING:\n    import a\nelse:\n    import b\n"

    assert [(one.module, one.at_start) for one in _imports(ast.parse(code), ROOT / "x.py", at_start=True)] == [
        ("a", False),
        ("b", True),
    ]


def _is_import_by_name(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in ("import_module", "__import__")


def found(room: str, tops: set[str]) -> list[Import]:
    return [one for path in modules(room) for one in imports(path) if one.top in tops]


def is_command(path: Path) -> bool:
    """``packager/commands/*``, ``edge_agent/commands/*``, and what both commands share."""
    room, *rest = path.relative_to(ROOT).parts
    if (room, *rest) in (("edgepack", "host", "console.py"), ("edgepack", "host", "commands.py")):
        return True
    return room in ("packager", "edge_agent") and rest[0] == "commands"


PLANS = {
    "packager/images/plan.py", "edge_agent/reconcile/plan.py", "edge_agent/reconcile/restarts.py",
    "edge_agent/daemon/decide.py",
}  # fmt: skip


def is_plan(path: Path) -> bool:
    return str(path.relative_to(ROOT)) in PLANS


def test_the_rooms_are_all_there() -> None:
    assert all(modules(room) for room in ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_that_it_may(room: str) -> None:
    ours = set(ROOMS) | set(DATA_PACKAGES)
    allowed = {room} | ROOMS[room] | {package for package, users in DATA_PACKAGES.items() if room in users}

    assert [str(one) for one in found(room, ours - allowed)] == []


def test_nothing_imports_the_tests_or_the_benchmarks() -> None:
    outside = {"tests", "benchmarks", "scripts", "docs", "pytest", "hypothesis"}

    assert [str(one) for room in ROOMS for one in found(room, outside)] == []


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("library", ADAPTERS)
def test_an_engine_and_a_broker_are_spoken_to_in_one_place_of_a_room(room: str, library: str) -> None:
    place = ADAPTERS[library].get(room)
    users = found(room, {library})

    assert [str(one) for one in users if place is None or not one.by.is_relative_to(ROOT / place)] == []
    assert bool(users) == (place is not None), "a place that no longer imports it"


def test_frameworks_are_imported_by_converters_only() -> None:
    others = [one for room in set(ROOMS) - {"converters"} for one in found(room, FRAMEWORKS)]
    # Entry scripts are given data frames where they ask for them: by modules that nobody else imports.
    assert [str(one) for one in others if one.top != "pandas" or not one.by.is_relative_to(SHIMS)] == []


def test_a_converter_imports_its_framework_inside_the_function_that_needs_it() -> None:
    assert [str(one) for one in found("converters", FRAMEWORKS) if one.at_start] == []


def test_click_is_imported_by_commands_only() -> None:
    assert [str(one) for room in ROOMS for one in found(room, {"click"}) if not is_command(one.by)] == []


def test_only_commands_print() -> None:
    printing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for room in ROOMS
        for path in modules(room)
        if not is_command(path)
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]

    assert printing == []


def test_plans_do_no_input_or_output() -> None:
    plans = [path for room in ROOMS for path in modules(room) if is_plan(path)]
    assert {path.relative_to(ROOT).parts[0] for path in plans} == {"edge_agent", "packager"}

    wrong = [str(one) for path in plans for one in imports(path) if one.top in IO_MODULES]
    wrong += [
        f"{one}.{one.name}"
        for path in plans
        for one in imports(path)
        if one.top == "pathlib" and one.name not in PURE_PATHS
    ]
    wrong += [
        f"{path.relative_to(ROOT)}:{node.lineno} opens a file"
        for path in plans
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
    ]

    assert wrong == []


@pytest.mark.parametrize("room", [*ROOMS, "dockerfiles"])
def test_a_module_fits_on_a_few_screens(room: str) -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules(room)}

    assert {name: lines for name, lines in long.items() if lines >= TOO_MANY_LINES} == {}


@pytest.mark.parametrize("room", [*ROOMS, "dockerfiles"])
def test_importing_a_module_does_not_end_the_program(room: str) -> None:
    ends = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules(room)
        for node in at_start(parsed(path))
        if isinstance(node, ast.Call | ast.Raise) and ast.unparse(node).startswith(ENDS)
    ]

    assert ends == []


def at_start(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported, and not when it is the program."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "__name__ == '__main__'":
            continue
        yield child
        yield from at_start(child)


def test_no_shell_is_started() -> None:
    shells = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for room in ROOMS
        for path in modules(room)
        for node in nodes(path)
        if isinstance(node, ast.keyword) and node.arg == "shell" and ast.unparse(node.value) != "False"
    ]

    assert shells == []


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after ``statement``."""
    code = (
        f"import json, sys\n{statement}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, cwd=ROOT)
    return set(json.loads(done.stdout))


HEAVY = {"numpy", "onnx", "onnxruntime", "click", "docker", "psycopg", "jinja2"} | FRAMEWORKS


def test_the_agent_is_light_to_import() -> None:
    assert loaded_by("import edge_agent") & (HEAVY | set(ROOMS) - {"edge_agent", "edgepack"}) == set()


def test_the_agents_plan_is_light_to_import() -> None:
    assert loaded_by("import edge_agent.reconcile.plan") & (HEAVY | set(ROOMS) - {"edge_agent", "edgepack"}) == set()


def test_the_resident_agent_has_in_memory_what_it_needs_to_watch_and_nothing_more() -> None:
    """What reads a configuration, verifies, fetches and speaks to engines is loaded by jobs, and by who needs it."""
    jobs_alone = {"yaml", "cryptography", "securesystemslib", "urllib3", "requests", "paho", "asyncio", "argparse"}

    assert loaded_by("import edge_agent.daemon.__main__") & (HEAVY | jobs_alone) == set()


def test_the_server_loads_nothing_of_ours() -> None:
    assert (
        loaded_by("import edge_server, edge_server.__main__, edge_server.main") & (set(ROOMS) - {"edge_server"})
        == set()
    )


@pytest.mark.parametrize("room", ["edgepack", "converters", "packager"])
def test_importing_a_room_loads_no_heavy_library(room: str) -> None:
    assert loaded_by(f"import {room}") & HEAVY == set()


def test_importing_every_converter_loads_no_framework() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in modules("converters")
        if path.name not in ("__init__.py", "__main__.py")
    ]

    assert loaded_by("\n".join(f"import {name}" for name in names)) & FRAMEWORKS == set()


def module_name(path: Path) -> str:
    """What a module is imported as."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def links(room: str) -> dict[str, set[str]]:
    """Which modules of ``room`` each of them imports, in functions and for types too."""
    paths = {module_name(path): path for path in modules(room)}
    direct: dict[str, set[str]] = {}
    for name, path in paths.items():
        named = [(f"{one.module}.{one.name}", one.module) for one in imports(path)]
        direct[name] = {next((part for part in pair if part in paths), name) for pair in named} - {name}
    return direct


def circles(direct: dict[str, set[str]]) -> list[set[str]]:
    """What imports each other, directly or by way of others."""
    reached = {name: _reached(name, direct) for name in direct}
    found = {frozenset(other for other in reached[name] if name in reached[other]) for name in direct}
    return [set(circle) for circle in sorted(found, key=sorted) if circle]


def folder_links(direct: dict[str, set[str]]) -> dict[str, set[str]]:
    """Which of its neighbours, folders and modules of the folder that it is in, each folder and module imports."""
    found: dict[str, set[str]] = {}
    for name, others in direct.items():
        for other in others:
            one, two = name.split("."), other.split(".")
            shared = next((at for at, pair in enumerate(zip(one, two, strict=False)) if pair[0] != pair[1]), None)
            if shared is not None:  # else one is the folder of the other
                here, there = ".".join(one[: shared + 1]), ".".join(two[: shared + 1])
                found.setdefault(here, set()).add(there)
                found.setdefault(there, set())
    return found


def _reached(name: str, direct: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    left = list(direct[name])
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left.extend(direct[one])
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_there_is_no_circle_of_imports(room: str) -> None:
    assert circles(links(room)) == []


@pytest.mark.parametrize("room", ROOMS)
def test_folders_that_lie_side_by_side_form_no_circle(room: str) -> None:
    assert circles(folder_links(links(room))) == []


def test_a_circle_of_folders_is_found() -> None:
    direct = {"a.b.one": {"a.c.one", "a.d"}, "a.c.one": {"a.d"}, "a.c.two": {"a.b"}, "a.d": set(), "a.b": set()}

    assert circles(direct) == []
    assert circles(folder_links(direct)) == [{"a.b", "a.c"}]


def test_every_module_has_its_own_logger_under_one_name() -> None:
    others = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in modules(room)
        for node in parsed(path).body
        if isinstance(node, ast.Assign)
        and ast.unparse(node.value).startswith("logging.getLogger(")
        and ast.unparse(node) != "_log = logging.getLogger(__name__)"
    }

    assert others == LOGGERS


def looks_into_a_text(node: ast.AST, errors: set[str]) -> bool:
    """Whether a node decides something by what the text of one of ``errors`` says."""
    if isinstance(node, ast.Compare) and any(isinstance(one, ast.In | ast.NotIn) for one in node.ops):
        return any(_is_text(one, errors) for one in node.comparators)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in ("startswith", "endswith", "find", "index", "count"):
            return _is_text(node.func.value, errors)
        if node.func.attr in ("match", "search", "fullmatch"):
            return any(_is_text(one, errors) for one in node.args)
    return False


def _is_text(node: ast.expr, errors: set[str]) -> bool:
    """``str(error)``, ``error.what``, ``error.args[0]``, or a text that is called an error."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):  # str(error).lower()
        return _is_text(node.func.value, errors)
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in ("str", "repr") and any(ast.unparse(one) in errors for one in node.args)
    if isinstance(node, ast.Subscript):
        return _is_text(node.value, errors)
    if isinstance(node, ast.Attribute):
        return node.attr in ("what", "args", "strerror", "message") and ast.unparse(node.value) in errors
    return isinstance(node, ast.Name) and node.id == "error"


def test_no_code_looks_into_the_text_of_an_error() -> None:
    found = set()
    for path in (path for room in ROOMS for path in modules(room)):
        errors = {node.name for node in nodes(path) if isinstance(node, ast.ExceptHandler) and node.name}
        errors |= {"error", "refusal", "problem", "failure"}
        if any(looks_into_a_text(node, errors) for node in nodes(path)):
            found.add(str(path.relative_to(ROOT)))

    assert found == ERROR_TEXTS


@pytest.mark.parametrize(
    ("code", "looks"),
    [
        ("'full' in str(error)", True),
        ("'full' not in refusal.what", True),
        ("'full' in error", True),
        ("str(error).lower().startswith('no')", True),
        ("re.search('full', error.args[0])", True),
        ("error.errno in (2, 17)", False),
        ("isinstance(error, OSError)", False),
        ("f'{error}: failed'", False),
    ],
)
def test_looking_into_a_text_is_found(code: str, looks: bool) -> None:
    assert any(looks_into_a_text(node, {"error", "refusal"}) for node in ast.walk(ast.parse(code))) is looks
