"""The newest packages of a recipe, to be locked: ``mmdebstrap`` resolves and downloads, apt checks signatures."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, BinaryIO, cast

from edgepack.errors import (
    EdgepackError,
    IncompatibleError,
    MissingPartError,
    NoSpaceError,
    NotFoundError,
    UnsafeArchiveError,
    disk_errors,
)
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Platform
from edgepack.oci.tar.stream import TarStream
from edgepack.text import redacted
from packager.bases.debian.debs import Package, read_package
from packager.bases.debian.recipe import BaseRecipe
from packager.bases.debian.sources import apt_settings, machine_archives

_log = logging.getLogger(__name__)
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def newest_packages(recipe: BaseRecipe, platform: Platform, folder: Path, mirrors: Sequence[str] = ()) -> list[Package]:
    """The packages of ``recipe`` and what they depend on in the newest versions, downloaded into ``folder``.

    ``mirrors`` are lines of apt's ``sources.list``; without any, this machine's mirrors of Debian. Raises
    ``MissingPartError`` without ``mmdebstrap``, ``NotFoundError`` for a package that no mirror has,
    ``IncompatibleError`` for a platform that none has, ``NoSpaceError``, ``EdgepackError``.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _download(recipe, platform, folder, mirrors)
        return sorted(map(read_package, folder.glob("*.deb")), key=lambda package: package.locked)


def _download(recipe: BaseRecipe, platform: Platform, folder: Path, mirrors: Sequence[str]) -> None:
    if shutil.which("mmdebstrap") is None or not _KEYRING.exists():
        part = "debian-archive-keyring" if shutil.which("mmdebstrap") else "mmdebstrap"
        hint = f"run 'apt-get install {part}'; only a lock needs it, and not a base from the lock"
        raise MissingPartError(f"{part} is not installed", hint=hint)
    # Only the archives are wanted, so neither a root user nor user namespaces are.
    mode = "root" if os.geteuid() == 0 else "chrootless"
    command = ["mmdebstrap", "--variant=extract", f"--mode={mode}", "--format=tar"]
    command += [f"--architectures={recipe.of_platform(platform)['debian']}", f"--include={','.join(recipe.packages)}"]
    command += ["--skip=essential/unlink,cleanup/apt/cache", *(f"--aptopt={option}" for option in apt_settings())]
    sources = mirrors or _source_lines(recipe.suite)
    # Without any, mmdebstrap takes the one that it was packaged with.
    command += [recipe.suite, "-", *(["-"] if sources else [])]
    with tempfile.TemporaryFile("w+") as stdin, tempfile.TemporaryFile("w+", errors="replace") as stderr:
        # Not as an argument: a mirror's address may hold a password.
        stdin.write("".join(f"{line}\n" for line in sources))
        stdin.seek(0)
        environment = {**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}
        with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, env=environment) as process:
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
        tree = TarStream(cast(BinaryIO, stream))
        for member in tree:
            if member.kind == "file" and member.name.endswith(".deb"):
                with (folder / Path(member.name).name).open("wb") as file:
                    file.writelines(tree.chunks())
    except UnsafeArchiveError:
        _log.debug("mmdebstrap wrote no tar; its exit status says why")
    while stream.read(LIMITS.chunk_bytes):  # what pads the tar, or the program would die of a closed pipe
        pass


def _failure(text: str, recipe: BaseRecipe, platform: Platform) -> EdgepackError:
    """What mmdebstrap's messages mean for the user."""
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
    last = redacted(next(iter(re.findall(r"^E: (.*)", text, re.MULTILINE)), "it does not say why"))
    return EdgepackError(f"mmdebstrap failed: {last}", where=recipe.name, hint="run it by hand to see more")


def _source_lines(suite: str) -> list[str]:
    """Lines of ``sources.list`` for ``suite`` from the mirrors of Debian that this machine's apt uses."""
    lines = []
    for archive in machine_archives():
        suites = [f"{suite}-security"] if archive.endswith("-security") else [suite, f"{suite}-updates"]
        lines += [f"deb [signed-by={_KEYRING}] {archive} {name} main" for name in suites]
    return lines
