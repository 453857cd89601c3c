"""Base images out of Debian's packages, with no image registry: recipe and lock in, layer entries out.

``mmdebstrap`` resolves and downloads, and apt checks the archive's signatures; the packages' scripts never run. The
files are then read from the ``.deb`` archives, whose SHA-256 the lock names, so that the layer depends on the recipe
and the lock and on nothing of the machine. ``python -m packager.debian RECIPE`` writes new locks.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import dockerfiles
from edgepack.errors import (
    DigestMismatchError,
    EdgepackError,
    IncompatibleError,
    InvalidDocumentError,
    MissingPartError,
    NoSpaceError,
    NotFoundError,
    disk_errors,
)
from edgepack.files import atomic_write
from edgepack.oci.descriptor import Platform
from edgepack.oci.layer import LayerEntry, NoCompression, ordered, write_layer
from edgepack.oci.store import Store
from packager.trim import LockedPackage, Package, Rule, Rules, path_pattern, read_package, unpacked, without_dangling

log = logging.getLogger(__name__)

RECIPES = Path(dockerfiles.__file__).parent / "base"
_RECIPE_SCHEMA = "edgepack.base-recipe/v1"
_LOCK_SCHEMA = "edgepack.base-lock/v1"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_CERTIFICATES = "usr/share/ca-certificates"
_CERTIFICATE_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
# One module per run of the loop, in one process: what marshal writes depends on what was interned before (PEP 552).
_COMPILE = """
import json, py_compile, sys
for source, target, name in json.load(sys.stdin):
    py_compile.compile(source, target, name, True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


@dataclass(frozen=True)
class Recipe:
    """What a base image is made of; ``folder`` holds the recipe and its locks."""

    folder: Path
    name: str
    suite: str
    packages: tuple[str, ...]
    rules: Rules
    platforms: Mapping[str, Mapping[str, Any]]
    env: Mapping[str, str]
    python: str
    python_minor: str
    glibc: str
    user: str
    bytecode: tuple[str, ...]
    folders: Mapping[str, int]
    links: Mapping[str, str]
    files: Mapping[str, str]

    def without(self, *rules: str) -> Recipe:
        """The recipe with these rules switched off; raises ``UsageError`` for a name that no rule has."""
        return replace(self, rules=self.rules.without(rules))

    def of_platform(self, platform: Platform) -> Mapping[str, Any]:
        """What differs for ``platform``; raises ``IncompatibleError`` for one that the recipe does not have."""
        if str(platform) not in self.platforms:
            hint = f"choose from {', '.join(self.platforms)}"
            raise IncompatibleError(f"this base cannot be built for {platform}", where=self.name, hint=hint)
        return self.platforms[str(platform)]


@dataclass(frozen=True)
class Lock:
    """What a recipe gave on the day when it was locked: the whole closure, and the layer's plain tar (bytes)."""

    packages: tuple[LockedPackage, ...]
    diff_id: str
    unpacked_size: int


def recipes() -> list[str]:
    """The names of the recipes that come with edgepack."""
    return sorted(path.parent.name for path in RECIPES.glob("*/recipe.toml"))


def load_recipe(name: str) -> Recipe:
    """Read recipe ``name``; raises ``NotFoundError`` or ``InvalidDocumentError``."""
    if name not in recipes():
        raise NotFoundError(f"no base recipe is named {name!r}", hint=f"choose from {', '.join(recipes())}")
    path = RECIPES / name / "recipe.toml"
    try:
        document = tomllib.loads(path.read_text("utf-8"))
        if (schema := document.pop("schema")) != _RECIPE_SCHEMA:
            raise InvalidDocumentError(path, [f"schema is {schema!r}, not {_RECIPE_SCHEMA!r}"])
        rules = Rules(tuple(_rule(rule, fields) for rule, fields in document.pop("rules").items()))
        document |= {key: tuple(document[key]) for key in ("packages", "bytecode")}
        return Recipe(folder=path.parent, rules=rules, **document)
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise InvalidDocumentError(path, [f"is not a base recipe ({error})"]) from error


def _rule(name: str, fields: Mapping[str, Any]) -> Rule:
    lists = {key: tuple(value) for key, value in fields.items() if key != "reason"}
    return Rule(name=name, reason=fields["reason"], **lists)


def lock_path(recipe: Recipe, platform: Platform) -> Path:
    """Where the lock of ``recipe`` for ``platform`` is kept."""
    return recipe.folder / f"lock-{str(platform).replace('/', '-')}.json"


def read_lock(recipe: Recipe, platform: Platform) -> Lock | None:
    """The lock, or ``None`` when there is none; raises ``InvalidDocumentError`` for one that cannot be read."""
    path = lock_path(recipe, platform)
    try:
        document = json.loads(path.read_bytes())
        if (schema := document.pop("schema")) != _LOCK_SCHEMA:
            raise InvalidDocumentError(path, [f"schema is {schema!r}, not {_LOCK_SCHEMA!r}"])
        return Lock(tuple(LockedPackage(**package) for package in document.pop("packages")), **document)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidDocumentError(path, [f"is not a lock ({error})"], hint="write it again") from error


def base_entries(
    recipe: Recipe, platform: Platform, workdir: Path, *, locked: bool = False, mirrors: Sequence[str] = ()
) -> Iterator[LayerEntry]:
    """The files of the base image, to be written as one layer while ``workdir`` is still there.

    Uses the locked versions. Where the mirror no longer has them it uses what the mirror has, with one warning,
    or, with ``locked``, raises ``NotFoundError`` that names package and version. ``mirrors`` are lines of apt's
    ``sources.list``; without any, this machine's mirrors of Debian. What ``workdir`` already holds in the locked
    version is not downloaded again. Raises ``MissingPartError`` without ``mmdebstrap``, ``IncompatibleError`` for a
    platform that recipe or mirror lacks, ``DigestMismatchError``, ``NoSpaceError``, and ``EdgepackError`` when no
    mirror can be read.
    """
    recipe.of_platform(platform)
    lock = read_lock(recipe, platform)
    if locked and lock is None:
        raise NotFoundError("there is no lock to keep to", where=lock_path(recipe, platform), hint="write one first")
    yield from _entries(recipe, platform, workdir, _fetch(recipe, platform, workdir, lock, locked, mirrors))


def update_lock(recipe: Recipe, platform: Platform, workdir: Path, *, mirrors: Sequence[str] = ()) -> Lock:
    """Write the lock of the newest versions that the mirror has; needs the Python minor version of the recipe."""
    if not _can_compile(recipe):
        hint = f"run it with Python {recipe.python_minor}"
        raise IncompatibleError("a lock names a layer with bytecode in it", where=recipe.name, hint=hint)
    recipe.of_platform(platform)
    packages = _fetch(recipe, platform, workdir, None, False, mirrors)
    entries = _entries(recipe, platform, workdir, packages)
    layer = write_layer(entries, Store.create(workdir / "store"), NoCompression(), kind="base")
    lock = Lock(tuple(package.locked for package in packages), str(layer.diff_id), layer.unpacked_size)
    text = json.dumps({"schema": _LOCK_SCHEMA, **asdict(lock)}, indent=1) + "\n"
    atomic_write(lock_path(recipe, platform), text.encode())
    return lock


# ---- From packages to entries -------------------------------------------------------------------------------------


def _entries(recipe: Recipe, platform: Platform, workdir: Path, packages: Iterable[Package]) -> list[LayerEntry]:
    kept = [package for package in packages if recipe.rules.of_package(package.locked.name) is None]
    tree = workdir / "tree"
    with disk_errors(workdir):
        shutil.rmtree(tree, ignore_errors=True)
        found = {
            entry.path: entry for package in kept for entry in unpacked(package, recipe.rules, tree, _CERTIFICATES)
        }
        found.update((entry.path, entry) for entry in _made(recipe, platform, kept, tree))
        found = without_dangling(found)
        found.update((entry.path, entry) for entry in _bytecode(recipe, found, tree, workdir / "bytecode"))
    return ordered(found.values())


def _made(recipe: Recipe, platform: Platform, packages: Iterable[Package], tree: Path) -> Iterator[LayerEntry]:
    for path, mode in recipe.folders.items():
        yield LayerEntry(path, "dir", mode)
    for path in ("bin", "sbin", *recipe.of_platform(platform)["library_dirs"]):
        yield LayerEntry(path, "symlink", 0o777, linkname=f"usr/{path}")
    for path, target in recipe.links.items():
        yield LayerEntry(path, "symlink", 0o777, linkname=target)
    for path, text in recipe.files.items():
        yield LayerEntry.of_bytes(path, text.encode())
    certificates = sorted((tree / _CERTIFICATES).rglob("*.crt"))
    bundle = b"".join(path.read_bytes().rstrip(b"\n") + b"\n" for path in certificates)
    yield LayerEntry.of_bytes(_CERTIFICATE_BUNDLE, bundle)
    # Scanners for licenses and vulnerabilities find the packages here, in the form of dpkg's own database.
    status = "\n".join(package.installed() for package in packages)
    yield LayerEntry.of_bytes("var/lib/dpkg/status", status.encode())


def _can_compile(recipe: Recipe) -> bool:
    return sys.implementation.name == "cpython" and sys.version_info[:2] == tuple(
        map(int, recipe.python_minor.split("."))
    )


def _bytecode(recipe: Recipe, found: Mapping[str, LayerEntry], tree: Path, out: Path) -> Iterator[LayerEntry]:
    """Bytecode of the modules that a server imports: deterministic, and never checked against its source."""
    if not _can_compile(recipe):
        log.info("no bytecode in the base: this is not Python %s", recipe.python_minor)
        return
    wanted = path_pattern(f"usr/lib/python{recipe.python_minor}/{pattern}" for pattern in recipe.bytecode)
    sources = sorted(path for path, entry in found.items() if entry.kind == "file" and wanted.fullmatch(path))
    cached = {path: _cache_path(path, recipe.python_minor) for path in sources}
    jobs = [(str(tree / path), str(out / cached[path]), f"/{path}") for path in sources]
    command = [sys.executable, "-I", "-c", _COMPILE]
    done = subprocess.run(command, input=json.dumps(jobs), text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise EdgepackError(f"the modules do not compile ({done.stderr.strip()})", where=recipe.name)
    for path in cached.values():
        yield LayerEntry.of_file(path, out / path)


def _cache_path(path: str, minor: str) -> str:
    folder, name = path.rsplit("/", 1)
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-{minor.replace('.', '')}.pyc"


# ---- From a mirror to packages ------------------------------------------------------------------------------------


def _fetch(
    recipe: Recipe, platform: Platform, workdir: Path, lock: Lock | None, locked: bool, mirrors: Sequence[str]
) -> list[Package]:
    folder = workdir / "packages"
    pins = [pin for pin in lock.packages if recipe.rules.of_package(pin.name) is None] if lock else []
    with disk_errors(workdir):
        have = _read_packages(folder)
        if not pins or not set(pins) <= {package.locked for package in have}:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            try:
                _download(recipe, platform, folder, [f"{pin.name}={pin.version}" for pin in pins], mirrors)
            except NotFoundError as error:
                if locked or not pins:
                    raise
                log.warning("%s: building from the versions that it has, so the digest will differ", error.what)
                _download(recipe, platform, folder, [], mirrors)
            have = _read_packages(folder)
    by_version = {(pin.name, pin.version): pin for pin in pins}
    for package in have:
        pin = by_version.get((package.locked.name, package.locked.version), package.locked)
        if pin.sha256 != package.locked.sha256:
            what = f"{pin.name} {pin.version} is not the package that was locked"
            raise DigestMismatchError(what, where=lock_path(recipe, platform), hint="do not use this mirror")
    return have


def _read_packages(folder: Path) -> list[Package]:
    packages = [read_package(path) for path in folder.glob("*.deb")]
    return sorted(packages, key=lambda package: package.locked)


def _download(recipe: Recipe, platform: Platform, folder: Path, pins: list[str], mirrors: Sequence[str]) -> None:
    if shutil.which("mmdebstrap") is None or not _KEYRING.exists():
        part = "debian-archive-keyring" if shutil.which("mmdebstrap") else "mmdebstrap"
        raise MissingPartError(f"{part} is not installed", hint=f"run 'apt-get install {part}', or name a base image")
    # Only the archives are wanted, so neither a root user nor user namespaces are.
    mode = "root" if os.geteuid() == 0 else "chrootless"
    pinned = {pin.split("=")[0] for pin in pins}
    include = [*pins, *(name for name in recipe.packages if name not in pinned)]
    command = ["mmdebstrap", "--variant=extract", f"--mode={mode}", "--format=tar"]
    command += [f"--architectures={recipe.of_platform(platform)['debian']}", f"--include={','.join(include)}"]
    command += ["--skip=essential/unlink,cleanup/apt/cache", *(f"--aptopt={option}" for option in _apt_options())]
    sources = "\n".join(mirrors or machine_mirrors(recipe.suite)) + "\n"
    with tempfile.TemporaryFile("w+") as stdin, tempfile.TemporaryFile("w+", errors="replace") as stderr:
        stdin.write(sources)  # and not an argument: a mirror's address may hold a password
        stdin.seek(0)
        environment = {**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}
        with subprocess.Popen(
            [*command, recipe.suite, "-", "-"], stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, env=environment
        ) as process:
            try:
                if process.stdout:
                    _save_archives(process.stdout, folder)
            except BaseException:
                process.terminate()  # it removes its own temporary folder
                raise
        if process.returncode != 0:
            stderr.seek(0)
            raise _failure(stderr.read(), recipe, platform)


def _save_archives(stream: IO[bytes], folder: Path) -> None:
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tree:
            for member in tree:
                content = tree.extractfile(member) if member.name.endswith(".deb") else None
                if content:
                    with content, (folder / Path(member.name).name).open("wb") as file:
                        shutil.copyfileobj(content, file)
    except tarfile.TarError:
        log.debug("mmdebstrap wrote no tar; its exit status says why")
    while stream.read(1 << 16):  # what pads the tar, or the program would die of a closed pipe
        pass


def _failure(text: str, recipe: Recipe, platform: Platform) -> EdgepackError:
    """What mmdebstrap's messages mean for the user."""
    if gone := re.search(r"E: Version '(.+?)' for '(.+?)' was not found", text):
        what = f"the mirror of Debian no longer has {gone[2]} {gone[1]}"
        return NotFoundError(what, where=recipe.name, hint="give a mirror that has it, or update the lock")
    if missing := re.search(r"E: Unable to locate package (\S+)", text):
        hint = "give a mirror of its whole main section"
        return NotFoundError(f"the mirror of Debian has no package {missing[1]}", where=recipe.name, hint=hint)
    if "did not find any indices for architecture" in text:
        hint = "give a mirror that has this architecture"
        return IncompatibleError(f"the mirror of Debian has nothing for {platform}", where=recipe.name, hint=hint)
    if "No space left on device" in text:
        hint = "free 300 MB there, or name another folder in TMPDIR"
        return NoSpaceError("no space left on the disk", where=tempfile.gettempdir(), hint=hint)
    if "index files failed to download" in text or "Unable to fetch some archives" in text:
        hint = "check the network and apt's sources, or name a base image"
        return EdgepackError("no mirror of Debian could be read", where=recipe.name, hint=hint)
    # An address may carry a password.
    last = re.sub(r"//[^/@\s]+@", "//", next(iter(re.findall(r"^E: (.*)", text, re.MULTILINE)), "it does not say why"))
    return EdgepackError(f"mmdebstrap failed: {last}", where=recipe.name, hint="run it by hand to see more")


def machine_mirrors(suite: str, apt: Path = Path("/etc/apt")) -> list[str]:
    """Lines of ``sources.list`` for ``suite`` from the mirrors of Debian that this machine's apt uses.

    Other archives are passed over: those that name another key, or an address that does not end in ``debian`` or
    ``debian-security``. Without any, Debian's own mirror.
    """
    texts = [path.read_text("utf-8", "replace") for path in sorted(apt.glob("sources.list.d/*.sources"))]
    paragraphs = [part for text in texts for part in re.split(r"\n\s*\n", text) if "enabled: no" not in part.lower()]
    lists = [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]
    paragraphs += [line for path in lists if path.exists() for line in path.read_text("utf-8", "replace").splitlines()]
    archives: set[str] = set()
    for paragraph in paragraphs:
        text = re.sub(r"(?m)^\s*#.*$", "", paragraph)
        key = re.search(r"signed-by\s*[:=]\s*(\S+)", text, re.IGNORECASE)
        if key is None or "debian-archive" in key[1]:
            archives.update(re.findall(r"\bhttps?://\S+?/debian(?:-security)?(?=/?(?:\s|$))", text))
    archives = archives or {"http://mirror.example/debian", "http://mirror.example/debian-security"}
    lines = []
    for archive in sorted(archives):
        suites = [f"{suite}-security"] if archive.endswith("-security") else [suite, f"{suite}-updates"]
        lines += [f"deb [signed-by={_KEYRING}] {archive} {name} main" for name in suites]
    return lines


def _apt_options() -> list[str]:
    """This machine's own settings of how apt reaches a mirror, which mmdebstrap does not take over."""
    if shutil.which("apt-config") is None:
        return []
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    pattern = r'^Acquire::(?:https?::Proxy|Check-Valid-Until|Check-Date|Retries) "[^"@]+";$'
    return [line.rstrip(";") for line in done.stdout.splitlines() if re.match(pattern, line)]


def main() -> None:
    """Write the locks of a recipe anew."""
    parser = argparse.ArgumentParser(prog="python -m packager.debian", description=main.__doc__)
    parser.add_argument("recipe", choices=recipes())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = load_recipe(parser.parse_args().recipe)
    for name in recipe.platforms:
        platform = Platform.parse(name)
        with tempfile.TemporaryDirectory() as workdir:
            lock = update_lock(recipe, platform, Path(workdir))
        log.info("%s: %s, %.1f MB", platform, lock.diff_id, lock.unpacked_size / 1e6)


if __name__ == "__main__":
    main()
