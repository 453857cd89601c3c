"""Locks hold the hashes of the wheels for every supported Python and processor, whatever machine they were made on."""

from __future__ import annotations

import importlib.metadata
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.tags import parse_tag

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def check() -> dict[str, Any]:
    before = list(sys.path)
    try:
        return runpy.run_path(str(ROOT / "scripts/check_locks.py"))
    finally:
        sys.path[:] = before


def installed_tags(name: str, version: str) -> set[str]:
    """The tags of the wheel that is installed in this version; empty for another version, or none."""
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return set()
    wheel = found.read_text("WHEEL") or ""
    return set(re.findall(r"^Tag: (\S+)", wheel, re.MULTILINE)) if found.version == version else set()


def test_a_wheel_for_one_python_or_processor_is_never_the_only_one_of_its_version(check: dict[str, Any]) -> None:
    """What can be seen with no network: the wheels that are installed here have companions for the others."""
    judged, lonely = 0, []
    for name, path in check["locks"]().items():
        text = path.read_text()
        for (package, version), hashes in check["_hashes"](text).items():
            tags = {tag for text in installed_tags(package, version) for tag in parse_tag(text)}
            if not tags or any(tag.platform == "any" for tag in tags):
                continue
            judged += 1
            pythons = len({python for python, _ in check["targets_of"](name)})
            # A wheel with abi3, or with no code for Python, serves all of them.
            alone = any(tag.abi in ("abi3", "none") for tag in tags)
            needed = len({machine for _, machine in check["targets_of"](name)}) * (1 if alone else pythons)
            # A marker may give other Pythons another version.
            if len(hashes) < needed and f"{package}=={version} ;" not in text:
                lonely.append(f"{name}: {package} {version} has {len(hashes)} hashes, {needed} are needed")
    assert lonely == []
    assert judged > 20


def test_a_wheel_that_is_missing_or_has_another_hash_is_named_with_its_python_and_processor(
    check: dict[str, Any],
) -> None:
    def wheel(tag: str, digit: str) -> dict[str, Any]:
        return {"url": f"https://index.example/p-1.0-{tag}.whl", "hashes": {"sha256": digit * 64}}

    listed = {
        "packages": [
            {
                "name": "p",
                "version": "1.0",
                "wheels": [
                    wheel("cp311-cp311-manylinux_2_28_x86_64", "a"),
                    wheel("cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64", "b"),
                    wheel("cp312-cp312-manylinux_2_28_x86_64", "c"),
                    wheel("cp312-cp312-musllinux_1_2_aarch64", "d"),
                ],
            },
            {"name": "p", "version": "2.0", "wheels": [wheel("py3-none-any", "e")]},
        ]
    }
    lock = "\n".join(
        [
            "p==1.0 ; python_full_version < '3.13' \\",
            f"    --hash=sha256:{'a' * 64} \\",
            f"    --hash=sha256:{'c' * 64}",
            "P==2.0 ; python_full_version >= '3.13' \\",
            f"    --hash=sha256:{'e' * 64}",
        ]
    )
    targets = [(python, machine) for python in check["PYTHONS"] for machine in check["MACHINES"]]
    assert list(check["missing_wheels"](lock, listed, targets)) == [
        "p==1.0: Python 3.11 on aarch64: the lock has none of its hashes",
        "p==1.0: Python 3.12 on aarch64 has no wheel",
    ]


def test_a_lock_is_made_from_one_index_and_not_from_what_this_machine_has_besides(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://index.example/simple\nextra-index-url = file:///here\nfind-links = /wheels\n"
    )
    monkeypatch.setenv("UV_FIND_LINKS", "/more")
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    before = list(sys.path)
    try:
        environment = runpy.run_path(str(ROOT / "scripts/lock.py"))["one_index"]()
    finally:
        sys.path[:] = before
    assert environment["UV_DEFAULT_INDEX"] == "https://index.example/simple"
    assert not {"UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"} & set(environment)
