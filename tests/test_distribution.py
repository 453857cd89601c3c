"""What the wheel and the source distribution carry beside the code."""

from __future__ import annotations

import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from tests.support.distributions import build

ROOT = Path(__file__).resolve().parent.parent


def test_the_wheel_carries_the_licence_and_names_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(build(tmp_path, "wheel")) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        folder = name.removesuffix("METADATA")
        metadata = HeaderParser().parsestr(wheel.read(name).decode())
        licence = wheel.read(f"{folder}licenses/LICENSE")
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert b"Apache License" in licence


def test_the_source_distribution_carries_what_a_checkout_needs(tmp_path: Path) -> None:
    with tarfile.open(build(tmp_path, "sdist")) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    assert {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "Makefile",
        "pyproject.toml",
        "docs/architecture.md",
        "docs/adr/README.md",
        "examples/README.md",
        "requirements/dev.txt",
        "scripts/setup.py",
        "tests/conftest.py",
    } <= names
