"""Writes a layer plan as a folder that Docker and Podman build: the same files as in the built image.

The same plan gives the same bytes in every file, with modes and times that nothing of this machine decides.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgepack.errors import UsageError, disk_errors
from edgepack.host.files import sync_file_system
from edgepack.oci.layer import LayerEntry, ordered
from edgepack.oci.store import Store
from packager.contexts.base import ContextBase
from packager.contexts.dockerfile import Shown, Stage, dockerfile, dockerignore, readme, template
from packager.contexts.listing import compiled_sources, files_listing, packages_listing
from packager.images.plan import FilesLayer, LayerPlan, ReadyLayer
from packager.layers import bytecode
from packager.layers.bytecode import compiled_path
from packager.layers.paths import APP_ROOT, MODELS_ROOT
from packager.models.unpack import unpack_layers
from packager.wheels import symbols
from packager.wheels.cache import Wheel
from packager.wheels.groups import WheelGroup
from packager.wheels.settings import LayerSettings

_FILES, _APP = "files", "azureml-app"
SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Written:
    """What was written: how many files, and their bytes."""

    files: int
    size: int


def write_context(
    plan: LayerPlan, store: Store, base: ContextBase, settings: LayerSettings, pip: Wheel | None, tree: Path
) -> Written:
    """Write the context of ``plan`` into the folder ``tree``, which has the files of ``base`` already.

    ``pip`` installs the wheels, and is None where there are none.
    Raises ``UsageError`` for what no Dockerfile can hold, ``NoSpaceError`` when the disk is full.
    """
    groups = [layer for layer in plan.layers if isinstance(layer, WheelGroup)]
    layers = [layer for layer in plan.layers if isinstance(layer, FilesLayer)]
    with disk_errors(tree):
        models = _write_models([layer for layer in plan.layers if isinstance(layer, ReadyLayer)], store, tree)
        stages = _stages(layers, settings.python, [source for source, _ in models])
        executable = _write_files(layers, settings.python, tree)
        build = tree / "build"
        build.mkdir()
        (build / "arrange.py").write_text(template("arrange.py"), "utf-8")
        for module in (symbols, bytecode):
            shutil.copyfile(str(module.__file__), build / Path(str(module.__file__)).name)
        for stage in stages:
            listing = files_listing([layer for layer in layers if layer.kind in stage.folders], settings.python)
            _write_json(build / f"{stage.name}.json", listing)
        if pip is not None:
            _write_wheels(groups, settings, pip, tree, bytecode=any(map(_has_bytecode, layers)))
        shown = Shown(
            base, "" if pip is None else pip.filename,
            tuple({"folder": str(number), "title": group.title} for number, group in enumerate(groups, start=1)),
            stages, models, has_code=any(layer.kind == "code" for layer in layers),
        )  # fmt: skip
        (tree / "Dockerfile").write_text(dockerfile(plan, shown), "utf-8")
        (tree / "README.md").write_text(readme(plan, shown), "utf-8")
        (tree / ".dockerignore").write_text(dockerignore(), "utf-8")
        written = _write_sums(tree)
        _settle(tree, executable)
        sync_file_system(tree)
    return written


def _write_models(layers: Sequence[ReadyLayer], store: Store, tree: Path) -> tuple[tuple[str, str], ...]:
    """The files of models out of their layers; gives each model's folder here and in the image."""
    if not layers:
        return ()
    unpacked = tree / "unpacked"
    unpack_layers(store, [layer.layer for layer in layers], unpacked, keep_owner=False)
    (unpacked / APP_ROOT).rename(tree / _APP)
    shutil.rmtree(unpacked)
    found = sorted((tree / _APP / PurePosixPath(MODELS_ROOT).name).glob("*/*"))
    inner = [str(path.relative_to(tree / _APP)) for path in found]
    return tuple((f"{_APP}/{path}", f"/{APP_ROOT}/{path}/") for path in inner)


def _write_files(layers: Iterable[FilesLayer], python: str, tree: Path) -> frozenset[Path]:
    """Write what the layers hold, but for bytecode that a build stage makes; gives what may be executed."""
    executable = set()
    for layer in layers:
        made = _made_there(layer, python)
        for entry in ordered(entry for entry in layer.entries if entry.path not in made):
            path = tree / _place(entry.path)
            if entry.kind == "dir":
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.kind == "symlink":
                path.symlink_to(entry.linkname)
                continue
            _write_content(entry, path)
            if entry.mode & 0o111:
                executable.add(path)
    return frozenset(executable)


def _write_content(entry: LayerEntry, path: Path) -> None:
    size = 0
    with path.open("xb") as file:
        if entry.content is not None:
            with entry.content() as source:
                shutil.copyfileobj(source, file)
            size = file.tell()
    if size != entry.size:
        raise UsageError("changed while it was read", where=entry.path, hint="run the same command again")


def _place(path: str) -> str:
    """Where a file of the image is in the context."""
    return f"{_APP}{path.removeprefix(APP_ROOT)}" if path.startswith(f"{APP_ROOT}/") else f"{_FILES}/{path}"


def _has_bytecode(layer: FilesLayer) -> bool:
    return any(entry.path.endswith(".pyc") for entry in layer.entries)


def _made_there(layer: FilesLayer, python: str) -> frozenset[str]:
    return frozenset(compiled_path(source, python) for source in compiled_sources(layer.entries, python))


def _stages(layers: Sequence[FilesLayer], python: str, models: Sequence[str]) -> tuple[Stage, ...]:
    """A stage for each layer with bytecode, which takes a while, and one for all others."""
    compiled = [layer for layer in layers if compiled_sources(layer.entries, python)]
    others = [layer for layer in layers if layer not in compiled]
    paths = {layer.kind: _paths(layer, python) for layer in layers}
    stages = [
        Stage(
            layer.kind,
            f"{layer.kind.capitalize()}: {layer.title}, with bytecode.",
            _copies([layer], paths, models),
            (layer.kind,),
        )
        for layer in compiled
    ]
    if others:
        what = ", ".join(f"{layer.kind} ({layer.title})" for layer in others).capitalize()
        copies, folders = _copies(others, paths, models), tuple(layer.kind for layer in others)
        stages.append(Stage("app", f"{what}; with the modes of the image.", copies, folders))
    return tuple(stages)


def _paths(layer: FilesLayer, python: str) -> frozenset[str]:
    made = _made_there(layer, python)
    return frozenset(entry.path for entry in layer.entries if entry.path not in made)


def _copies(
    layers: Sequence[FilesLayer], paths: Mapping[str, frozenset[str]], models: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """What a stage copies: the folders that hold nothing of other layers, and the files beside them."""
    found = []
    for layer in layers:
        taken = {APP_ROOT, ""}
        for kind, others in paths.items():
            if kind != layer.kind:
                taken |= {parent for path in others for parent in _above(path)}
        for model in models:
            taken |= set(_above(f"{APP_ROOT}/{model.removeprefix(f'{_APP}/')}"))
        folders = {parent for path in paths[layer.kind] for parent in _above(path)}
        for path in sorted({_highest(path, taken) for path in paths[layer.kind]} - taken):
            end = "/" if path in folders else ""
            # Without a slash at its end: a pattern with one matches nothing.
            found.append((_place(path), f"/layers/{layer.kind}/{path}{end}"))
    return tuple(found)


def _above(path: str) -> list[str]:
    """The folders that ``path`` is in, the highest first, without the root."""
    return [str(parent) for parent in reversed(PurePosixPath(path).parents) if str(parent) != "."]


def _highest(path: str, taken: set[str]) -> str:
    return next((parent for parent in _above(path) if parent not in taken and not _leads_to_app(parent)), path)


def _leads_to_app(path: str) -> bool:
    return f"{APP_ROOT}/".startswith(f"{path}/")


def _write_wheels(
    groups: Sequence[WheelGroup], settings: LayerSettings, pip: Wheel, tree: Path, *, bytecode: bool
) -> None:
    folder = tree / "wheels"
    folder.mkdir()
    lines = []
    for wheel in sorted((wheel for group in groups for wheel in group.wheels), key=lambda wheel: wheel.name):
        shutil.copyfile(wheel.path, folder / wheel.filename)
        lines.append(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.digest.hex}\n")
    (folder / "requirements.txt").write_text("".join(lines), "utf-8")
    shutil.copyfile(pip.path, tree / "build" / pip.filename)
    _write_json(tree / "build" / "packages.json", packages_listing(groups, settings, bytecode=bytecode))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _write_sums(tree: Path) -> Written:
    """Write the hash of every file, as ``sha256sum`` checks them; links have none."""
    lines, size = [], 0
    for path in sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size += path.stat().st_size
        lines.append(_sum_line(digest, str(path.relative_to(tree))))
    text = "".join(lines)
    (tree / SUMS).write_text(text, "utf-8")
    return Written(len(lines) + 1, size + len(text.encode()))


def _sum_line(digest: str, name: str) -> str:
    """A line of ``sha256sum``, which begins with a backslash where the name had to be escaped."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


def _settle(tree: Path, executable: frozenset[Path]) -> None:
    """Set every mode and time: the umask must not decide what an image holds, and neither must the hour."""
    for folder, _, names in os.walk(tree, topdown=False):
        for path in (Path(folder, name) for name in names):
            if not path.is_symlink():
                path.chmod(0o755 if path in executable else 0o644)
            os.utime(path, (0, 0), follow_symlinks=False)
        Path(folder).chmod(0o755)
        os.utime(folder, (0, 0))
