"""Set up a checkout: Debian packages where that is possible, a virtual environment, edgepack with its extras.

Needs nothing but Python 3.11: ``python3 scripts/setup.py demo|test``. What is done already is not done again.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BOOTSTRAP = ROOT / ".setup"

# What tests need: program or file -> Debian package. The demo needs none.
TEST_PARTS = {
    "mmdebstrap": "mmdebstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",  # absent on Ubuntu
    "dockerd": "docker.io",
    "docker": "docker.io",
    "ip": "iproute2",
    "iptables": "iptables",
    "readelf": "binutils",
    "podman": "podman",
    "catatonit": "catatonit",  # which a pod of Podman needs
    "kubectl": "kubernetes-client",
    "crun": "crun",
    "runc": "runc",
    "docker-registry": "docker-registry",
    "skopeo": "skopeo",
    "umoci": "umoci",
    "htpasswd": "apache2-utils",
    "pg_ctlcluster": "postgresql",
    "qemu-aarch64-static": "qemu-user-static",
    "update-binfmts": "binfmt-support",
    "newuidmap": "uidmap",
    "zstd": "zstd",
    "openssl": "openssl",
    "chromium": "chromium",
    "wrk": "wrk",
    "curl": "curl",
    "haproxy": "haproxy",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "mosquitto": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
}
EXTRAS = {"demo": "all", "test": "dev"}


def main() -> None:
    """Set up for ``demo`` or ``test``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("purpose", choices=sorted(EXTRAS))
    purpose = parser.parse_args().purpose
    if sys.version_info < (3, 11):  # noqa: UP036 - an older Python gets this message
        sys.exit("edgepack needs Python 3.11 or later; run make with PYTHON=/path/to/python3.11")
    os.environ["PATH"] += os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
    if purpose == "test":
        install_debian(TEST_PARTS)
    install_python(purpose)


def install_debian(parts: dict[str, str]) -> None:
    """Install the Debian packages of the programs that are missing, or say what is missing."""
    missing = sorted({package for part, package in parts.items() if not is_here(part)})
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(
            f"setup: missing {' '.join(missing)}, and only root on Debian or Ubuntu installs them here: "
            "the tests that need them are skipped"
        )
        return
    print(f"setup: installing the Debian packages {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], environment, check=False)
    run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], environment)


def is_here(part: str) -> bool:
    """Whether a file exists, or a program is on PATH."""
    return Path(part).exists() if part.startswith("/") else shutil.which(part) is not None


def install_python(purpose: str) -> None:
    """Make the virtual environment and install the locked packages and edgepack itself, where that has changed."""
    lock = ROOT / "requirements" / f"{EXTRAS[purpose]}.txt"
    stamp = VENV / f".edgepack-{EXTRAS[purpose]}"
    wanted = hashlib.sha256(lock.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    python = VENV / "bin" / "python"
    if stamp.exists() and stamp.read_text() == wanted and python.exists():
        return
    uv = find_uv()
    environment = {**pip_settings(), **os.environ}
    if not python.exists():  # also when its base Python was removed
        run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(VENV)], environment)
    environment["VIRTUAL_ENV"] = str(VENV)
    # Some versions of uv know it as an argument only.
    no_index = ["--no-index"] if environment.get("UV_NO_INDEX", "").lower() in ("1", "true", "yes", "on") else []
    print(f"setup: installing the Python packages of requirements/{lock.name}")
    install = [uv, "pip", "install", "--quiet", *no_index, "--compile-bytecode"]
    run([*install, "--require-hashes", "-r", str(lock)], environment)
    # The build backend is in the lock, so that building edgepack itself needs nothing more.
    run([uv, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)], environment)
    stamp.write_text(wanted)


def find_uv() -> str:
    """The path of uv: on PATH, or installed below ``.setup``."""
    found = shutil.which("uv")
    if found is not None:
        return found
    own = BOOTSTRAP / "bin" / "uv"
    if not own.exists():
        print("setup: installing uv")
        make_bootstrap()
    return str(own)


def make_bootstrap() -> None:
    """A small environment that holds uv; Debian's Python needs a package more for it."""
    if not Path(sysconfig.get_path("stdlib"), "ensurepip").is_dir():
        # Not python3-venv: that is for the distribution's default Python, and this one may be another.
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            sys.exit(f"setup: uv is not on PATH and this Python has no venv: install uv, or the package {package}")
        print(f"setup: installing the Debian package {package}")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-q"], environment, check=False)
        run(["apt-get", "install", "-y", "-q", "--no-install-recommends", package], environment)
    run([sys.executable, "-m", "venv", str(BOOTSTRAP)])
    run([str(BOOTSTRAP / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv"])


def pip_settings() -> dict[str, str]:
    """pip's package indexes as uv's variables: uv does not read pip's settings."""
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "no-index": "UV_NO_INDEX",
        "trusted-host": "UV_INSECURE_HOST",
        "proxy": "ALL_PROXY",
        "cert": "SSL_CERT_FILE",
    }
    configuration, found = pip_configuration(), {}
    # As pip has it: the environment wins over the command's section, and that over the general one.
    for section in ("global.", "install.", ":env:."):
        for key, value in configuration.items():
            name = names.get(key[len(section) :]) if key.startswith(section) else None
            if name:
                found[name] = ("," if name == "UV_FIND_LINKS" else " ").join(value.split())
    if "UV_INDEX" in found:
        # pip takes the best of all its indexes; uv would stop at the first that has the name. Hashes are checked.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return found


def pip_configuration() -> dict[str, str]:
    """What ``pip config list`` says, by any pip: Debian's Python has none, and that beside uv reads the same files."""
    for python in (sys.executable, str(BOOTSTRAP / "bin" / "python")):
        if python != sys.executable and not Path(python).exists():
            continue
        command = [python, "-m", "pip", "config", "list"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            # pip prints Python literals.
            lines = (line.partition("=") for line in done.stdout.splitlines())
            return {key: str(ast.literal_eval(value)) for key, equals, value in lines if equals}
    variables = {name[4:].lower().replace("_", "-"): value for name, value in os.environ.items() if name[:4] == "PIP_"}
    return {f":env:.{name}": value for name, value in variables.items()}


def run(command: list[str], environment: dict[str, str] | None = None, *, check: bool = True) -> None:
    """Run a command and end with its code when it fails."""
    code = subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode
    if check and code != 0:
        sys.exit(f"setup: {command[0]} ended with code {code}")


if __name__ == "__main__":
    main()
