"""Try ``make demo`` on machines that have nothing: minimal root file systems of Debian, as root and as a user.

``python scripts/fresh.py [--suite NAME...] [--as root|user...] [--folder DIR]``; needs root and mmdebstrap. Each case
is a clone in a home folder that only its owner may enter, with umask 077 and the distribution's own Python, in mount
and process namespaces of its own that take everything with them. ``--folder`` keeps the root file systems.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What a user needs, as README says. Debian 11 has Python 3.9.
PACKAGES = "python3,python3-venv,git,make,ca-certificates"
SUITES = {"bullseye": 1, "bookworm": 0, "trixie": 0, "testing": 0}
TOO_OLD = "edgepack needs Python 3.11 or later"
USERS = {"root": (0, "/root"), "user": (1000, "/home/user")}
# What of this machine's settings says how to reach an index of packages.
_NETWORK = re.compile(r"(PIP|UV)_\w+|SSL_CERT_\w+|\w+_proxy|\w+_PROXY|EDGEPACK_DEBIAN_\w+")
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
_SECONDS = 1800


@dataclass(frozen=True)
class Case:
    """One machine and who works on it; ``expected`` is the exit code of ``make demo``."""

    suite: str
    who: str
    expected: int


@dataclass(frozen=True)
class Result:
    """Whether a case ended as expected, and the beginning of the digest of the image that it made first, if any."""

    good: bool
    image: str


def main() -> None:
    """Run the cases that are asked for; the exit code is 0 when all ended as expected, with one image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("--as", dest="who", nargs="+", choices=USERS, default=list(USERS))
    parser.add_argument("--folder", type=Path, help="keep root file systems and logs here")
    parser.add_argument("--inside", nargs=4, metavar=("LOWER", "WORK", "WHO", "SOURCE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        lower, work, who, source = arguments.inside
        sys.exit(inside(Path(lower), Path(work), who, Path(source)))
    missing = [name for name in ("mmdebstrap", "unshare", "git") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        sys.exit(f"fresh: needs root{''.join(f', {name}' for name in missing)}")
    cases = [Case(suite, who, SUITES[suite]) for suite in arguments.suite for who in arguments.who]
    with tempfile.TemporaryDirectory(prefix="edgepack-fresh-") as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="source-", dir=folder) as source:
            # Once, so that all machines get the same commit.
            clone(ROOT, Path(source, "edgepack"))
            results = [run(case, folder, Path(source, "edgepack")) for case in cases]
    images = {result.image for result in results if result.image}
    if len(images) > 1:
        print(f"fresh: the machines made different images of the same model: {', '.join(sorted(images))}")
    sys.exit(0 if all(result.good for result in results) and len(images) < 2 else 1)


def run(case: Case, folder: Path, source: Path) -> Result:
    """Run ``make demo`` in a clone of ``source``; its output goes to a file of ``folder``."""
    lower = root_file_system(case.suite, folder)
    log = folder / f"{case.suite}-{case.who}.log"
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="work-", dir=folder) as work, log.open("wb") as output:
        me = [sys.executable, str(Path(__file__).resolve()), "--inside", str(lower), work, case.who, str(source)]
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *me]
        try:
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False, timeout=_SECONDS
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    text = log.read_text("utf-8", "replace")
    good = code == 0 if case.expected == 0 else code != 0 and TOO_OLD in text and "Traceback" not in text
    python = next(iter(re.findall(r"^Python (\S+)$", text, re.MULTILINE)), "?")
    runtime, image = next(iter(re.findall(r" is Healthy on port \d+ by (\w+): sha256:(\w+)", text)), ("-", ""))
    seconds = time.monotonic() - started
    last = text.strip().rpartition("\n")[2]
    told = "as expected" if good else f"FAILED with code {code}, see {log}: {last[:150]}"
    print(
        f"{case.suite:<9} {case.who:<5} Python {python:<8} {runtime:<8} {image:<13} {seconds:5.0f} s  {told}",
        flush=True,
    )
    return Result(good, image)


def root_file_system(suite: str, folder: Path) -> Path:
    """The folder of a minimal Debian, made by mmdebstrap where it is not there."""
    target = folder / suite
    if not target.is_dir():
        print(f"fresh: making {suite}", flush=True)
        with tempfile.TemporaryDirectory(prefix=f"{suite}-", dir=folder) as temporary:
            made = Path(temporary, "root")
            # A mirror may be frozen, and the clock of this machine may not.
            command = ["mmdebstrap", "--quiet", "--variant=minbase", '--aptopt=Acquire::Check-Valid-Until "false"']
            subprocess.run([*command, f"--include={PACKAGES}", suite, made], check=True, stdin=subprocess.DEVNULL)
            made.rename(target)
    return target


def inside(lower: Path, work: Path, who: str, source: Path) -> int:
    """In namespaces of its own: lay a writable layer over the root file system, clone, and run ``make demo`` there."""
    uid, home = USERS[who]
    root = work / "root"
    for name in ("root", "upper", "overlay"):
        (work / name).mkdir()
    work.chmod(0o755)
    mount("--make-rprivate", "/")
    mount("-t", "overlay", "-o", f"lowerdir={lower},upperdir={work}/upper,workdir={work}/overlay", "overlay", root)
    (root / home.lstrip("/")).mkdir(parents=True, exist_ok=True)
    if uid:
        with (root / "etc/passwd").open("a") as file:
            file.write(f"user:x:{uid}:{uid}::{home}:/bin/sh\n")
    for name in ("etc/resolv.conf", "etc/hosts", _CERTIFICATES):
        shutil.copy(Path("/", name), root / name)
    checkout = root / home.lstrip("/") / "edgepack"
    clone(source, checkout)
    subprocess.run(["chown", "-R", f"{uid}:{uid}", root / home.lstrip("/")], check=True)
    (root / home.lstrip("/")).chmod(0o700)
    mount("--rbind", "/dev", root / "dev")
    mount("-t", "tmpfs", "tmpfs", root / "tmp")
    mount("-t", "proc", "proc", root / "proc")
    environment = {"HOME": home, "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **network_settings(os.environ)}
    command = f"cd {home}/edgepack && python3 --version && umask 077 && make demo"
    return subprocess.run(
        ["chroot", f"--userspec={uid}:{uid}", root, "sh", "-c", command], env=environment, check=False
    ).returncode


def clone(source: Path, target: Path) -> None:
    """Clone what is committed."""
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", source, target], check=True)


def mount(*arguments: str | Path) -> None:
    """Run mount(8)."""
    subprocess.run(["mount", *arguments], check=True)


def network_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables by which the network is reached, pip's files included; no folder of this machine."""
    found = {name: value for name, value in environment.items() if _NETWORK.fullmatch(name)}
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        name = f"PIP_{key.rpartition('.')[2].replace('-', '_').upper()}"
        if key.startswith("global."):
            found.setdefault(name, str(ast.literal_eval(value)))
    kept = {}
    for name, value in found.items():
        words = [word for word in value.split() if not word.startswith(("/", "file:")) or word == f"/{_CERTIFICATES}"]
        if words:
            kept[name] = " ".join(words)
    return kept


if __name__ == "__main__":
    main()
