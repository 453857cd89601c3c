"""Run the tests of others on our parts: ``make peers INFERENCE_SCHEMA=DIR INFERENCE_SERVER=DIR``.

Their code is not in this repository. It is taken from a package's own source distribution, where a package index has
one that carries tests, else from the folder that is given: a checkout of the package's repository. Exit code 1 where a
test fails, 3 where a suite is not there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Suite:
    """The tests of one package: ``folder`` of its source; ``plugin`` puts our parts in the place of its own.

    ``replaced`` are files of the folder that are ours instead, by name: each imports all of a module.
    """

    package: str
    option: str
    repository: str
    folder: str
    files: tuple[str, ...]
    plugin: str
    replaced: tuple[tuple[str, str], ...] = ()


SUITES = (
    Suite(
        "inference-schema", "INFERENCE_SCHEMA", "Azure/InferenceSchema", "tests", ("test_*.py",), "tests.peers.schema"
    ),
    Suite(
        "azureml-inference-server-http",
        "INFERENCE_SERVER",
        "microsoft/azureml-inference-server",
        "tests/server",
        ("test_routes.py", "test_user_script.py", "test_swagger.py", "test_compat.py"),
        "tests.peers.azure_server",
        (("conftest.py", "tests.peers.azure_fixtures"), ("common.py", "tests.peers.azure_server")),
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every suite that can be had; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    for suite in SUITES:
        parser.add_argument(
            f"--{suite.option.lower().replace('_', '-')}",
            type=Path,
            metavar="DIR",
            default=os.environ.get(suite.option) or None,
            help=f"a checkout of {suite.repository} on GitHub",
        )
    parser.add_argument("--offline", action="store_true", help="ask no package index")
    options = vars(parser.parse_args(arguments))
    code = 0
    with tempfile.TemporaryDirectory() as name:
        for number, suite in enumerate(SUITES):
            work = Path(name) / str(number)
            work.mkdir()
            given = options[suite.option.lower()]
            source = Path(given) if given else None if options["offline"] else _distribution(suite, work)
            if source is None or not (source / suite.folder).is_dir():
                where = f"{source} has no {suite.folder}" if given else "no source distribution with tests was found"
                sys.stderr.write(
                    f"{suite.package}: {where}; give a checkout of {suite.repository}: make peers {suite.option}=DIR\n"
                )
                code = code or 3
                continue
            print(f"--- the tests of {suite.package}", flush=True)
            if _run(suite, source / suite.folder, work):
                code = 1
    return code


def _distribution(suite: Suite, work: Path) -> Path | None:
    """The unpacked source distribution of the package, where the index has one."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--no-binary", ":all:", "--dest", str(work), suite.package]
    subprocess.run(command, capture_output=True, check=False)
    for archive in work.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            tar.extractall(work, filter="data")
    return next((path for path in work.iterdir() if (path / suite.folder).is_dir()), None)


def _run(suite: Suite, folder: Path, work: Path) -> int:
    """Run a copy of the tests, beside our files; return pytest's exit code."""
    # Not called "tests": that is the package of our own tests, which the plugin is in.
    copy = work / f"tests_of_{suite.option.lower()}"
    shutil.copytree(folder, copy)
    for file, module in suite.replaced:
        (copy / file).write_text(f"from {module} import *  # noqa: F403\n")
    files = sorted(str(path) for pattern in suite.files for path in copy.glob(pattern))
    # Settings of theirs would name plugins that we do not have.
    (work / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-c", str(work / "pytest.ini"), "--rootdir", str(work), "-q", "-rsf"]
    command += ["-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", suite.plugin, *files]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=work, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
