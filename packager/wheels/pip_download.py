"""Wheels by pip, which knows the user's indexes, proxies and credentials; how far it is, by what it prints."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from edgepack.errors import EdgepackError
from edgepack.host.progress import Advance, Progress
from packager.wheels.conflicts import explained
from packager.wheels.indexes import Indexes
from packager.wheels.locks import Pin
from packager.wheels.tags import Target

_TIMEOUT = 3600
# Lines that pip prints with ``--progress-bar raw``: only what is shown depends on them.
_FILE = re.compile(r"(?:Collecting|Processing) ")
_DOWNLOAD = re.compile(r"\s+Downloading (?P<name>[^/\s]+\.whl)\b")
_BYTES = re.compile(r"Progress (?P<done>\d+) of (?P<total>\d+)$")


def download(pins: Sequence[Pin], target: Target, folder: Path, indexes: Indexes, progress: Progress) -> None:
    """Fetch the wheels of ``pins`` into ``folder``; raises ``EdgepackError``, ``IncompatibleError``."""
    listing = folder / "requirements.txt"
    options = "".join(f"{line}\n" for line in indexes.lines_for_pip())
    listing.write_text(options + "".join(pin.line() for pin in pins), "utf-8")
    command = [
        sys.executable, "-m", "pip", "download", "--progress-bar", "raw", "--disable-pip-version-check", "--no-input",
        "--no-deps", "--require-hashes", "--only-binary", ":all:",
        *(part for tag in target.platform_tags() for part in ("--platform", tag)),
        "--python-version", target.python, "--implementation", "cp",
        *(part for abi in (target.python_tag, "abi3", "none") for part in ("--abi", abi)),
        "--dest", str(folder), "--requirement", str(listing),
    ]  # fmt: skip
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8",
            errors="replace",
        ) as pip,
    ):  # fmt: skip
        clock = threading.Timer(_TIMEOUT, pip.kill)  # what it waits for may never come
        clock.start()
        try:
            assert pip.stdout is not None  # noqa: S101
            follow(pip.stdout, len(pins), progress)
            pip.wait()
        except BaseException:
            pip.kill()
            raise
        finally:
            clock.cancel()
        errors.seek(0)
        if pip.returncode == -signal.SIGKILL:
            raise EdgepackError("pip was stopped, or took more than an hour", hint="check the network and try again")
        if pip.returncode != 0:
            raise explained(indexes.redacted(errors.read()), target)


def follow(lines: Iterable[str], files: int, progress: Progress) -> None:
    """Tell ``progress`` what the ``lines`` of pip say, until they end; ``files`` is how many it is to fetch."""
    with progress("download packages", files, "files") as one_more, ExitStack() as download:
        begun, name, done = 0, "", 0
        advance: Advance = _nothing
        for line in map(str.rstrip, lines):
            if _FILE.match(line):
                download.close()
                if begun:
                    one_more(1)
                begun, advance = begun + 1, _nothing
            elif found := _DOWNLOAD.match(line):
                name = found["name"].partition("-cp")[0].partition("-py")[0]
            elif found := _BYTES.match(line):
                if advance is _nothing:
                    done, advance = 0, download.enter_context(progress(f"download {name}", int(found["total"])))
                advance(int(found["done"]) - done)
                done = int(found["done"])
        download.close()
        if begun:
            one_more(1)


def _nothing(count: int) -> None:
    """Of a file without a bar of its own."""
