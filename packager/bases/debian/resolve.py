"""Debian's packages from a mirror: ``mmdebstrap`` resolves and downloads, apt checks signatures, nothing is run."""

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
    DigestMismatchError,
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
from packager.bases.debian.recipe import BaseRecipe, Lock, lock_path

_log = logging.getLogger(__name__)
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def fetch(
    recipe: BaseRecipe, platform: Platform, workdir: Path, lock: Lock | None, locked: bool, mirrors: Sequence[str]
) -> list[Package]:
    """The packages of ``recipe`` below ``workdir``, in the versions of ``lock`` where the mirror has them."""
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
                _log.warning("%s: building from the versions that it has, so the digest will differ", error.what)
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


def _download(recipe: BaseRecipe, platform: Platform, folder: Path, pins: list[str], mirrors: Sequence[str]) -> None:
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
    sources = mirrors or machine_mirrors(recipe.suite)
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
    last = redacted(next(iter(re.findall(r"^E: (.*)", text, re.MULTILINE)), "it does not say why"))
    return EdgepackError(f"mmdebstrap failed: {last}", where=recipe.name, hint="run it by hand to see more")


def machine_mirrors(suite: str, apt: Path = Path("/etc/apt")) -> list[str]:
    """Lines of ``sources.list`` for ``suite`` from the mirrors of Debian that this machine's apt uses.

    Other archives are passed over: those that name another key, or an address that does not end in ``debian`` or
    ``debian-security``.
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
