"""Each extra of pyproject.toml, alone in a clean environment, brings what its rooms import and its commands need."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from converters.software.selection import LOCKS
from edgepack.host.uv import NO_NETWORK, find_uv, uv_environment
from tests.support.distributions import build
from tests.support.required import skip_or_fail
from tests.support.running import finish, run

ROOT = Path(__file__).resolve().parent.parent
WALK = Path(__file__).parent / "support" / "programs" / "walk_rooms.py"
EXTRAS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# Extras that only join others.
JOINED = {"all", "dev"}

CONSOLE = {"edgepack.host.commands": "click", "edgepack.host.console": "click"}
# What a build context arranges its files with is run beside its neighbour there.
CONTEXT = {"dockerfiles.context.arrange": "symbols"}
RECIPES = {"converters.sklearn.recipes": "numpy", **CONTEXT}
# Stand in for a library that an entry script brings itself, and are imported only after it.
SCHEMAS = {"edge_server.compat.inference_schema.parameter_types.pandas_parameter_type": "pandas"}
BOOSTERS = {"catboost", "lightgbm", "xgboost"}
TENSORFLOW = {"h5py", "keras", "tensorflow", "tf2onnx"}
SKLEARN = {"joblib", "pandas", "scipy", "skl2onnx", "sklearn"}
PYTORCH = {"safetensors", "torch"}
NUMPY = {"google.protobuf", "numpy", "onnx", "onnxruntime"}
# Read where they are installed; nothing of ours needs them.
FORMATS = {"lz4", "skops"}
# The library of an engine, and what that one needs.
ENGINE = {"docker", "requests"}
# What the commands need, and who converts in a program of their own does not.
COMMANDS = {"backports.zstd", "click", "uv", "yaml"}
# What scripts bring; dateutil comes with pandas.
SCRIPTS = {"azureml", "dateutil", "inference_schema", "pandas"}


@dataclass(frozen=True)
class Extra:
    """What an extra is for: its rooms and commands; and what these name that it does not bring.

    ``unimportable`` has the start of a module's name, and the library that such modules import at once.
    """

    rooms: tuple[str, ...]
    commands: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()
    unimportable: tuple[tuple[str, str], ...] = ()
    locks: tuple[Path, ...] = (ROOT / "requirements" / "dev.txt",)


def extra(
    *rooms: str, commands: Sequence[str] = (), without: set[str] | None = None,
    unimportable: dict[str, str] | None = None, lock: Path | None = None,
) -> Extra:  # fmt: skip
    """An ``Extra``, written in short."""
    locks = {"locks": (lock,)} if lock else {}
    return Extra(
        rooms, tuple(commands), frozenset(without or ()), tuple((unimportable or {}).items()), **locks
    )  # fmt: skip


WANTED = {
    # Deltas are applied faster where numpy is.
    "": extra("edgepack", without=COMMANDS | {"numpy"}, unimportable=CONSOLE),
    "packager": extra(
        "edgepack", "converters", "packager", "dockerfiles", commands=["edgepack"], unimportable=RECIPES,
        # A model is converted in an environment that is made for it; an engine is asked where its library is there.
        without=NUMPY | SKLEARN | BOOSTERS | TENSORFLOW | PYTORCH | FORMATS | ENGINE
        | {"keyring", "mlflow", "psycopg", "symbols"},
    ),
    "keyring": extra(
        "edgepack", "converters", "packager", "dockerfiles", commands=["edgepack"], unimportable=RECIPES,
        without=NUMPY | SKLEARN | BOOSTERS | TENSORFLOW | PYTORCH | FORMATS | ENGINE | {"mlflow", "psycopg", "symbols"},
    ),
    "team": extra(
        "edgepack", "converters", "packager", "dockerfiles", commands=["edgepack"], unimportable=RECIPES,
        without=NUMPY | SKLEARN | BOOSTERS | TENSORFLOW | PYTORCH | FORMATS | ENGINE | {"keyring", "mlflow", "symbols"},
    ),
    "mlflow": extra(
        "edgepack", "converters", "packager", "dockerfiles", commands=["edgepack"], unimportable=RECIPES,
        without=NUMPY | SKLEARN | BOOSTERS | TENSORFLOW | PYTORCH | FORMATS | ENGINE
        | {"keyring", "psycopg", "symbols"},
    ),
    "agent": extra("edgepack", "edge_agent", commands=["edge-agent"], without={"uv", "numpy"}),
    "serve": extra(
        "edge_server", commands=["edge-server"], without=SCRIPTS | {"PIL", "opentelemetry"}, unimportable=SCHEMAS
    ),
    "images": extra(
        "edge_server", commands=["edge-server"], without=SCRIPTS | {"opentelemetry"}, unimportable=SCHEMAS
    ),
    "otel": extra("edge_server", commands=["edge-server"], without=SCRIPTS | {"PIL"}, unimportable=SCHEMAS),
    "sklearn": extra(
        "edgepack", "converters", without=COMMANDS | BOOSTERS | TENSORFLOW | PYTORCH | FORMATS, unimportable=CONSOLE
    ),
    "boosters": extra(
        "edgepack", "converters", without=COMMANDS | TENSORFLOW | PYTORCH | FORMATS, unimportable=CONSOLE
    ),
    "tensorflow": extra(
        "edgepack", "converters", without=COMMANDS | SKLEARN | BOOSTERS | PYTORCH | FORMATS, unimportable=CONSOLE,
        lock=LOCKS / "tensorflow.txt",
    ),
    "pytorch": extra(
        "edgepack", "converters", without=COMMANDS | SKLEARN | BOOSTERS | TENSORFLOW | FORMATS, unimportable=CONSOLE,
        lock=LOCKS / "pytorch.txt",
    ),
}  # fmt: skip
# Something of each command that needs its packages, and the extra that has them.
USES = {
    "packager": ["edgepack", "model", "list", "--workspace", "."],
    "agent": ["edge-agent", "--state-dir", ".", "status"],
    "serve": ["edge-server", "--model", "absent.onnx"],
}
# Gigabytes.
LARGE = {"tensorflow", "pytorch"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    return build(tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what environments of one wheel share: each is made where the last one was, so that bytecode fits."""
    return tmp_path_factory.mktemp("extras")


@pytest.fixture
def environment(place: Path) -> Iterator[Path]:
    """The folder of an environment that is not there yet."""
    folder = place / "environment"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def bytecode(environment: Path) -> Path:
    """The folder of the bytecode of what is in ``environment`` and was in those before."""
    return environment.with_name("bytecode")


@cache
def settings() -> dict[str, str]:
    """What uv is given; pip is asked for it once."""
    return uv_environment()


def install(name: str, wheel: Path, folder: Path, *arguments: str) -> str:
    """Make an environment with nothing but edgepack and the extra ``name``; what uv said."""
    uv, environment = find_uv(), dict(settings())
    for variable in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"):
        environment.pop(variable, None)
    run(uv, "venv", "--quiet", "--python", sys.executable, folder, env=environment)
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(map(pins, WANTED[name].locks)))
    wanted = f"edgepack[{name}] @ {wheel.as_uri()}" if name else f"edgepack @ {wheel.as_uri()}"
    command = [uv, "pip", "install", *arguments, "--python", str(folder / "bin/python"), "-c", str(constraints), wanted]
    done = finish(*command, env=environment, seconds=900)
    if done.code != 0 and NO_NETWORK.search(done.stderr):
        skip_or_fail(f"no package index is reachable: {done.stderr[-500:]}")
    assert done.code == 0, done.stderr
    return done.stderr


def pins(lock: Path) -> str:
    """The versions of a lock, without hashes: a package's build for another index has others."""
    found = re.findall(r"^(?:# apart: )?([A-Za-z0-9].*?)[ \\]*$", lock.read_text(), re.MULTILINE)
    return "".join(f"{line}\n" for line in found)


def walk(environment: Path, rooms: Sequence[str], commands: Sequence[str]) -> dict[str, Any]:
    """What rooms and commands lack in ``environment``, which knows nothing of this checkout."""
    wanted = json.dumps({"rooms": rooms, "commands": commands, "read": str(environment.with_name("read.json"))})
    prefix = f"pycache_prefix={bytecode(environment)}"
    found: dict[str, Any] = json.loads(run(environment / "bin/python", "-I", "-X", prefix, WALK, wanted))
    return found


def check_use(environment: Path, owner: str, words: list[str], *, lacks: bool) -> None:
    """Run a command of ``environment``; if it ``lacks`` a package, its error names the extra that has it."""
    program = environment / "bin" / words[0]
    done = finish(
        program, *words[1:], cwd=environment, env={**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode(environment))}
    )
    sentence = rf"{words[0]}: the Python package \S+ is not installed; run: pip install 'edgepack\[{owner}\]'\n"
    found = re.fullmatch(sentence, done.stderr) is not None

    assert len(done.stderr.splitlines()) <= 1
    assert "unexpected" not in done.stderr
    assert not found or lacks


def test_every_extra_is_tested() -> None:
    assert set(WANTED) == {"", *EXTRAS} - JOINED


@pytest.mark.parametrize(
    "name", [pytest.param(name, id=name or "none", marks=[pytest.mark.whole] * (name in LARGE)) for name in WANTED]
)
@pytest.mark.timeout(1200)
def test_an_extra_alone_brings_what_its_rooms_import_and_its_commands_need(
    name: str, wheel: Path, environment: Path
) -> None:
    install(name, wheel, environment, "--quiet")
    wanted = WANTED[name]
    found = walk(environment, wanted.rooms, wanted.commands)

    assert set(found["missing"]) - wanted.without == set()
    assert found["help"] == []
    assert {
        module: error
        for module, error in found["failed"].items()
        if not any(module.startswith(start) and f"'{library}'" in error for start, library in wanted.unimportable)
    } == {}
    for command in wanted.commands:
        assert command in run(environment / "bin" / command, "--help")
    for owner, words in USES.items():
        check_use(environment, owner, words, lacks=words[0] not in wanted.commands)


@pytest.mark.parametrize("name", sorted(LARGE))
def test_a_large_extra_can_be_resolved_with_the_versions_that_are_tested(
    name: str, wheel: Path, environment: Path
) -> None:
    said = install(name, wheel, environment, "--dry-run")
    chosen = set(re.findall(r"^ \+ ([a-z0-9-]+)==", said, re.MULTILINE))
    named = {re.split(r"[<>=;\[ ]", requirement)[0] for requirement in EXTRAS[name]}

    assert named - chosen in (set(), {"tensorflow"}, {"tensorflow-cpu"})


def test_a_missing_library_is_found(wheel: Path, environment: Path) -> None:
    install("", wheel, environment, "--quiet")
    found = walk(environment, ("packager",), ("edgepack",))

    # numpy, where it is there, makes a search faster; MLflow's client is asked for what is not a folder, psycopg for a
    # team's database.
    needed = set(found["missing"]) - {"keyring", "mlflow", "numpy", "psycopg"}
    assert needed == {
        "click", "cyclonedx", "deflate", "docker", "installer", "jinja2", "packageurl", "packaging", "paho", "requests",
        "rich", "yaml",
    }  # fmt: skip
    assert "packager.commands.main" in found["failed"]
    assert found["help"] != []
