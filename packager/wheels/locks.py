"""Locks: every wheel of a stack by its hash, for one Python and platform, in the format of pip's requirements.

The locks of the scoring stack are shipped; ``python -m packager.wheels.locks`` remakes them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from edgepack.documents import raise_all
from edgepack.errors import EdgepackError, IncompatibleError
from edgepack.host.files import atomic_write, make_dirs
from edgepack.host.scratch import scratch_folder
from edgepack.host.uv import NO_INDEX, find_uv, machine_constraints
from edgepack.oci.descriptor import Platform
from packager.wheels.conflicts import Askers, explained
from packager.wheels.indexes import Indexes
from packager.wheels.tags import Target

_LOCKS = Path(__file__).parent.parent / "data" / "locks"
SHIPPED = (Platform("linux", "amd64"), Platform("linux", "arm64"))
SCORING = "scoring"
# What the server needs where a script opens its models itself; it has no lock of its own.
SCRIPT = "script"
# What an image may have besides (the extras of the same name), each with a lock of its own.
EXTRAS = ("images",)
# uv knows these as targets; a glibc between two of them takes the older one.
_UV_GLIBCS = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
_TIMEOUT = 600

_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)((?:\s+--hash=\S+)*)\s*")
_HASH = re.compile(r"--hash=sha256:([a-f0-9]{64})")


@dataclass(frozen=True)
class Pin:
    """One distribution of a lock: its normalised name, its version, the SHA-256 (hex) of each file it may be."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def line(self) -> str:
        """The pin as a lock has it."""
        hashes = "".join(f" \\\n    --hash=sha256:{value}" for value in self.hashes)
        return f"{self.name}=={self.version}{hashes}\n"


def parse_lock(text: str, where: object = "lock") -> tuple[Pin, ...]:
    """The pins of a lock, in its order; raises ``InvalidDocumentError`` naming every line that is not one."""
    pins: dict[str, Pin] = {}
    violations = []
    joined = re.sub(r"\\\n", " ", text)
    for line in joined.splitlines():
        content = re.sub(r"(^|\s)#.*", "", line).strip()
        if not content:
            continue
        match = _PIN.fullmatch(content)
        hashes = _HASH.findall(match[3]) if match else []
        if match is None:
            violations.append(f"{content[:60]!r} is not NAME==VERSION --hash=sha256:…")
        elif not hashes or len(hashes) != match[3].count("--hash="):
            violations.append(f"{match[1]} has no sha256 hash, or another one")
        elif (name := _normalised(match[1])) in pins:
            violations.append(f"{name} is listed twice")
        else:
            pins[name] = Pin(name, match[2], tuple(hashes))
    raise_all(where, violations, hint="make the lock with uv pip compile --generate-hashes")
    return tuple(pins.values())


def shipped_lock(platform: Platform, python: str = "3.11", stack: str = SCORING) -> str | None:
    """The text of the shipped lock of the scoring stack, or of an extra; ``None`` without one."""
    path = _shipped_path(platform, python, stack)
    return path.read_text("ascii") if path.is_file() else None


def resolve(
    requirements: Sequence[str],
    target: Target,
    *,
    constraints: Sequence[str] = (),
    preferred: str = "",
    indexes: Indexes | None = None,
    askers: Askers | None = None,
    alone: bool = False,
    offline: bool = False,
    environment: Mapping[str, str] | None = None,
) -> str:
    """The lock of ``requirements`` (such as ``numpy>=2``) for ``target``, resolved by uv, from wheels only.

    Of what the lock ``preferred`` has, its versions are taken where they fit. ``environment`` is uv's; left out, it is
    this process's with ``indexes``, and pip's settings where uv has none of its own. ``askers`` are named in errors.
    With ``alone`` what they depend on is left out. Raises ``UsageError`` for requirements that contradict each other,
    ``IncompatibleError`` where something has no wheel for the target, ``NotFoundError`` for what no index knows,
    ``MissingPartError`` without uv, ``EdgepackError`` when no index is reachable.
    """
    import subprocess

    indexes = indexes or Indexes()
    environment = dict(environment) if environment is not None else indexes.for_uv()
    command = [
        find_uv(), "pip", "compile", "--quiet", "--python", sys.executable, "--no-python-downloads",
        "--python-version", target.python, "--python-platform", _uv_platform(target),
        "--generate-hashes", "--only-binary", ":all:", "--no-header", "--no-annotate", "--no-strip-extras",
        *(("--no-deps",) if alone else ()),
        *(("--offline",) if offline else ()), *(("--no-index",) if environment.get(NO_INDEX) == "1" else ()),
    ]  # fmt: skip
    with scratch_folder("lock") as folder:
        lock = folder / "lock.txt"
        lock.write_text(preferred, "ascii")
        (folder / "constraints.txt").write_text("".join(f"{line}\n" for line in constraints), "utf-8")
        command += ["--constraints", str(folder / "constraints.txt")] * bool(constraints)
        try:
            done = subprocess.run(
                [*command, "--output-file", str(lock), "-"],
                input="".join(f"{requirement}\n" for requirement in requirements),
                env=environment,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EdgepackError("uv took too long to resolve", hint="check the network and try again") from error
        if done.returncode != 0:
            asking = replace(askers or Askers(), machine=machine_constraints(environment))
            raise explained(indexes.redacted(done.stderr), target, asking)
        return lock.read_text("ascii")


def _uv_platform(target: Target) -> str:
    major, minor = target.glibc_version
    fitting = [known for known in _UV_GLIBCS if (2, known) <= (major, minor)]
    if not fitting:
        raise IncompatibleError(f"wheels need glibc 2.17, and the base has {target.glibc}", hint="use a newer base")
    return f"{target.machine}-manylinux_2_{fitting[-1]}"


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def direct_requirements(stack: str = SCORING) -> tuple[str, ...]:
    """What the scoring server imports, or what it imports besides for an extra."""
    name = "requirements.in" if stack == SCORING else f"requirements-{stack}.in"
    text = files("edge_server").joinpath(name).read_text("ascii")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def _shipped_path(platform: Platform, python: str, stack: str) -> Path:
    return _LOCKS / f"{stack}-cp{python.replace('.', '')}-{str(platform).replace('/', '-')}.txt"


def remake(folder: Path = _LOCKS, stacks: Sequence[str] = (SCORING, *EXTRAS)) -> tuple[Path, ...]:
    """Remake the locks of the scoring stack and of the extras, for the Python and glibc of each recipe of a base.

    All bases get the versions of the oldest Python. For maintainers.
    """
    from packager.bases.debian import load_recipe, recipes

    make_dirs(folder)
    bases = sorted({(recipe.python_minor, recipe.glibc) for recipe in map(load_recipe, recipes())}, key=_numbers)
    written = []
    for stack in stacks:
        for platform in SHIPPED:
            requirements: Sequence[str] = direct_requirements(stack)
            for python, glibc in bases:
                path = folder / _shipped_path(platform, python, stack).name
                # Not with pip's settings: a maintainer's own indexes must not get into the locks.
                text = resolve(requirements, Target(platform, python, glibc), environment=os.environ)
                atomic_write(path, text.encode("ascii"))
                written.append(path)
                if python == bases[0][0]:
                    requirements = [f"{pin.name}=={pin.version}" for pin in parse_lock(text)]
    return tuple(written)


def _numbers(base: tuple[str, str]) -> list[tuple[int, ...]]:
    return [tuple(map(int, part.split("."))) for part in base]


if __name__ == "__main__":
    for made in remake():
        sys.stdout.write(f"{made}\n")
