"""The set-up of a checkout: what is done already is not done again, and what is missing is said."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import Done, finish, run

ROOT = Path(__file__).resolve().parent.parent
# Records what it was called with, and makes what the real one would.
_FAKE_UV = """#!/bin/sh
echo "$@" >> "$UV_CALLS"
if [ "$1" = venv ]; then
    for last; do :; done
    mkdir -p "$last/bin" && ln -sf "$REAL_PYTHON" "$last/bin/python"
fi
"""


class Checkout:
    """A copy of what set-up reads, with nothing on PATH but a shell's tools and a uv that only records."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.calls = folder / "checkout", folder / "bin", folder / "calls"
        for name in ("scripts", "requirements"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", self.folder)
        self.bin.mkdir()
        for tool in ("sh", "mkdir", "ln"):
            found = shutil.which(tool)
            assert found is not None
            (self.bin / tool).symlink_to(found)
        (self.bin / "uv").write_text(_FAKE_UV)
        (self.bin / "uv").chmod(0o755)

    def run(self, purpose: str, **env: str) -> Done:
        """Run set-up where no apt-get is, and on PATH only what is here."""
        environment = {"PATH": str(self.bin), "UV_CALLS": str(self.calls), "REAL_PYTHON": sys.executable,
                       "HOME": str(self.folder), "PIP_CONFIG_FILE": os.devnull, **env}  # fmt: skip
        return finish(sys.executable, self.folder / "scripts/setup.py", purpose, env=environment, cwd=self.folder)

    def uv_calls(self) -> list[str]:
        """The lines with which uv was called since the last time."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_who_is_not_root_installs_nothing_from_debian(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install = runpy.run_path(str(ROOT / "scripts/setup.py"))["install_debian"]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it must start nothing")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subprocess, "run", never)
    install({"sh": "dash", "no-such-program": "some-package"})
    assert capsys.readouterr().out == (
        "setup: missing some-package, and only root on Debian or Ubuntu installs them here: "
        "the tests that need them are skipped\n"
    )
    install({"sh": "dash"})
    assert capsys.readouterr().out == ""


def test_the_demo_needs_no_program_of_debian(checkout: Checkout) -> None:
    done = checkout.run("demo")
    assert done.code == 0, done.stderr
    assert done.stdout.splitlines() == ["setup: installing the Python packages of requirements/all.txt"]


def test_for_tests_every_missing_part_is_named(checkout: Checkout) -> None:
    (checkout.bin / "skopeo").write_text("#!/bin/sh\n")
    (checkout.bin / "skopeo").chmod(0o755)
    line = checkout.run("test").stdout.splitlines()[0]
    assert line.startswith("setup: missing ")
    assert line.endswith("the tests that need them are skipped")
    for package in ("crun", "umoci", "podman", "mmdebstrap"):
        assert f" {package} " in line or f" {package}," in line
    assert "skopeo" not in line


def test_nothing_is_installed_twice(checkout: Checkout) -> None:
    checkout.run("demo")
    made, packages, own = checkout.uv_calls()
    assert made.startswith("venv ")
    assert "--require-hashes" in packages
    assert f"-e {checkout.folder}" in own
    again = checkout.run("demo")
    assert (again.code, checkout.uv_calls()) == (0, [])
    assert "installing" not in again.stdout


def test_another_purpose_or_another_lock_is_installed_into_the_same_environment(checkout: Checkout) -> None:
    checkout.run("demo")
    checkout.uv_calls()
    checkout.run("test")
    assert [line.split()[0] for line in checkout.uv_calls()] == ["pip", "pip"]
    with (checkout.folder / "requirements/all.txt").open("a") as file:
        file.write("# changed\n")
    checkout.run("demo")
    assert [line.split()[0] for line in checkout.uv_calls()] == ["pip", "pip"]


def test_an_environment_whose_python_is_gone_is_made_again(checkout: Checkout) -> None:
    checkout.run("demo")
    checkout.uv_calls()
    (checkout.folder / ".venv/bin/python").unlink()
    (checkout.folder / ".venv/bin/python").symlink_to("/nowhere/python3")
    assert checkout.run("demo").code == 0
    assert checkout.uv_calls()[0].startswith("venv ")


def test_a_failing_installation_is_told_and_tried_again(checkout: Checkout) -> None:
    (checkout.bin / "uv").write_text(_FAKE_UV + '[ "$1" = venv ] || exit 3\n')
    done = checkout.run("demo")
    assert done.code == 1
    assert "ended with code 3" in done.stderr
    assert "Traceback" not in done.stderr
    (checkout.bin / "uv").write_text(_FAKE_UV)
    checkout.uv_calls()
    assert checkout.run("demo").code == 0
    assert len(checkout.uv_calls()) == 2


def test_a_wrong_purpose_is_refused(checkout: Checkout) -> None:
    done = checkout.run("nothing")
    assert done.code == 2
    assert "choose from" in done.stderr


def test_pips_settings_are_told_to_uv_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://one.example/simple\n"
        "extra-index-url =\n    https://two.example/simple\n    https://three.example/simple\n"
        "find-links = /a /b\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    settings = runpy.run_path(str(ROOT / "scripts/setup.py"))["pip_settings"]()
    assert (
        settings.items()
        >= {
            "UV_DEFAULT_INDEX": "https://one.example/simple",
            "UV_INDEX": "https://two.example/simple https://three.example/simple",
            "UV_FIND_LINKS": "/a,/b",
            "UV_INDEX_STRATEGY": "unsafe-best-match",
        }.items()
    )


def test_pips_settings_are_read_by_the_pip_beside_uv_where_the_python_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Debian, whose Python comes without pip: only the small environment that holds uv has one."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", [*sys.path])
    module = runpy.run_path(str(ROOT / "scripts/setup.py"))
    bare = tmp_path / "python3"
    bare.write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
    bare.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://one.example/simple\nno-index = true\n[install]\nfind-links = /a\n"
    )
    monkeypatch.setattr(sys, "executable", str(bare))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setitem(module["pip_configuration"].__globals__, "BOOTSTRAP", tmp_path)
    found = module["pip_settings"]()
    assert found["UV_DEFAULT_INDEX"] == "https://one.example/simple"
    assert (found["UV_NO_INDEX"], found["UV_FIND_LINKS"]) == ("true", "/a")
    # Its variables are known without any pip, and win over its files.
    monkeypatch.setenv("PIP_INDEX_URL", "https://two.example/simple")
    assert module["pip_settings"]()["UV_DEFAULT_INDEX"] == "https://two.example/simple"
    (tmp_path / "bin/python").unlink()
    assert module["pip_settings"]()["UV_DEFAULT_INDEX"] == "https://two.example/simple"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_alone_shows_what_can_be_made() -> None:
    """Every target that has a line of help, and nothing is set up."""
    shown = [run("make", *words, cwd=ROOT) for words in ([], ["help"])]
    assert shown[0] == shown[1]
    lines = {line.split()[1]: line for line in shown[0].splitlines() if line.startswith("make ")}
    assert {"demo", "test", "quick", "check", "help"} <= set(lines)
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert list(lines) == targets


def test_an_older_python_gets_its_sentence_and_no_syntax_error(monkeypatch: pytest.MonkeyPatch) -> None:
    source = (ROOT / "scripts/setup.py").read_text()
    ast.parse(source, feature_version=(3, 7))  # Debian 10; `make fresh` runs it with the 3.9 of Debian 11
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    monkeypatch.setattr(sys, "argv", ["setup.py", "demo"])
    with pytest.raises(
        SystemExit, match=r"edgepack needs Python 3\.11 or later; run make with PYTHON=/path/to/python3\.11"
    ):
        runpy.run_path(str(ROOT / "scripts/setup.py"), run_name="__main__")
