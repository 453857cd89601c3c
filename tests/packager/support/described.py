"""A workspace whose images have everything that an SBOM tells: a base with records, wheels, code and models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from edgepack.names import ModelRef
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from packager.images.build import Build, BuildOptions
from packager.inference.entry_script import read_entry_script
from packager.wheels.cache import Wheel
from packager.wheels.groups import WheelGroup
from packager.wheels.layers import group_wheels
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import AMD64, ARM64, debian, make_base, make_index
from tests.packager.support.wheels import make_wheel, sha256
from tests.packager.support.workspaces import make_workspace

OS_RELEASE = b'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\n'
STATUS = b"""Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9
Depends: libgcc-s1, libcrypt1 (>= 1:4.4)

Package: libgcc-s1
Status: install ok installed
Architecture: amd64
Source: gcc-12 (12.2.0-14)
Version: 12.2.0-14

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
_FORM = b"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
COPYRIGHT = _FORM + b"\nFiles: *\nLicense: GPL-2+ or Expat\n"
# What is in the base besides Python and the C library.
RECORDS: dict[str, bytes | str] = {
    "etc/os-release": OS_RELEASE,
    "var/lib/dpkg/status": STATUS,
    "usr/share/doc/libc6/copyright": COPYRIGHT,
    "usr/lib/python3/dist-packages/six-1.16.0.dist-info/METADATA": b"Name: six\nVersion: 1.16.0\nLicense: MIT\n\n",
}


def make_described(
    folder: Path, monkeypatch: pytest.MonkeyPatch, layers: Sequence[dict[str, bytes | str]] = ()
) -> Workspace:
    """A workspace with a model, the base ``full:1`` for two platforms, and wheels in the place of the scoring stack."""
    workspace = make_workspace(folder)
    images = [
        (one, make_base(workspace.store, [{**debian(one.architecture), **RECORDS}, *layers], one))
        for one in (AMD64, ARM64)
    ]
    workspace.store.tag("full:1", make_index(workspace.store, images))
    groups = group_wheels(some_wheels(workspace, folder / "wheels"))

    def wheels(*_: object, **__: object) -> tuple[WheelGroup, ...]:
        return groups

    monkeypatch.setattr("packager.images.build.scoring_wheels", wheels)
    return workspace


def some_wheels(workspace: Workspace, folder: Path) -> list[Wheel]:
    """Two small wheels, of which one asks for the other."""
    made = [
        make_wheel(folder, "numpy", "2.0", files={"numpy/__init__.py": b"", "numpy/tests/test.py": b"1"}),
        make_wheel(folder, "helper", "1.5", requires=("numpy>=2", 'pytest; extra == "test"')),
    ]
    return [workspace.builder.wheels.add(path, Digest(sha256(path))) for path in made]


def write_code(folder: Path, text: str = "VALUE = 1") -> Path:
    """A source directory with an entry script and a module beside it."""
    source = folder / "source"
    (source / "inner").mkdir(parents=True, exist_ok=True)
    (source / "score.py").write_text(f"{text}\ndef init():\n    pass\ndef run(data):\n    return data\n")
    (source / "inner" / "data.txt").write_text("data")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    return source


def build(
    workspace: Workspace, *platforms: Platform, source: Path | None = None, model: bool = True, base: str = "full:1"
) -> Build:
    """Build ``churn:1`` of the model, of code, or of both."""
    script = None if source is None else read_entry_script("score.py", source)
    refs = [ModelRef("churn")] if model else []
    return workspace.builder.build(refs, "churn:1", platforms or (AMD64,), BuildOptions(base, script=script))
