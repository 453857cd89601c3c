"""Small wheels made to measure, and a folder of them in the place of a package index."""

from __future__ import annotations

import base64
import hashlib
import stat
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from edgepack.oci.layer import Layer
from edgepack.oci.store import Store
from packager.wheels.cache import Wheel
from packager.wheels.layers import WheelLayers, group_wheels
from packager.wheels.settings import LayerSettings
from packager.wheels.symbols import without_symbols
from packager.wheels.trim import TrimRule, file_rules


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    tag: str = "py3-none-any",
    files: Mapping[str, bytes] | None = None,
    requires: tuple[str, ...] = (),
    entry_points: str = "",
    executable: tuple[str, ...] = (),
    record: Mapping[str, str] | None = None,
    raw: tuple[zipfile.ZipInfo, ...] = (),
) -> Path:
    """A wheel with ``files``; ``record`` overrides lines of RECORD, ``raw`` adds members past all rules."""
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    content = {f"{name}/__init__.py": b"VALUE = 1\n"} if files is None else dict(files)
    content[f"{info}/METADATA"] = ("\n".join(lines) + "\n").encode()
    content[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    if entry_points:
        content[f"{info}/entry_points.txt"] = entry_points.encode()
    rows = {path: f"{path},{_hash(data)},{len(data)}" for path, data in content.items()}
    rows |= dict(record or {})
    rows[f"{info}/RECORD"] = f"{info}/RECORD,,"
    content[f"{info}/RECORD"] = ("\n".join(rows.values()) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in content.items():
            item = zipfile.ZipInfo(member)
            item.external_attr = (stat.S_IFREG | (0o755 if member in executable else 0o644)) << 16
            archive.writestr(item, data, zipfile.ZIP_DEFLATED)
        for item in raw:
            archive.writestr(item, b"x")
    return path


def _hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def only_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip know no index but ``folder``, and uv nothing at all."""
    import os

    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(folder.parent / "uv-cache"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")


def wheel_layers(
    wheels: Iterable[Wheel], store: Store, cache: Path, settings: LayerSettings, requested: Iterable[str] = ()
) -> list[Layer]:
    """The layers of ``wheels`` in ``store``, heavy ones first."""
    groups = group_wheels(wheels, settings.rules, requested)
    made = WheelLayers(store, cache, settings).make(groups)
    return [made[group] for group in groups]


def saved_bytes(wheels: Mapping[str, Path], rules: Sequence[TrimRule], whole: Mapping[str, TrimRule]) -> dict[str, int]:
    """The bytes of files that each rule keeps out of ``wheels`` (files by their distribution's name)."""
    saved = dict.fromkeys((rule.name for rule in rules), 0)
    for name, path in wheels.items():
        own = file_rules(rules, name)
        with zipfile.ZipFile(path) as archive:
            for item in archive.infolist():
                rule = whole.get(name) or next((rule for rule in own if rule.leaves_out(item.filename)), None)
                if rule is not None:
                    saved[rule.name] += item.file_size
                    continue
                for rule in own:
                    if rule.cuts(item.filename):
                        saved[rule.name] += item.file_size - len(without_symbols(archive.read(item)))
    return saved
