"""uv, which resolves and installs wheels: finding it, and the indexes that it searches."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from edgepack.errors import MissingPartError
from edgepack.text import redacted

# Some versions of uv know it as an argument only.
NO_INDEX = "UV_NO_INDEX"
# What uv and pip print when no index is reachable.
NO_NETWORK = re.compile(
    r"network was disabled|error sending request|dns error|Failed to fetch|NewConnectionError|Failed to establish"
    r"|Max retries exceeded|ConnectTimeout|ReadTimeout|name resolution"
)
_ADDRESS = re.compile(r"https?://[^/\s`'\"]+")
_PYPI = "https://pypi.org/simple"
_PROXIES = ("all_proxy", "http_proxy", "https_proxy")
_TIMEOUT = 60


def find_uv() -> str:
    """The path of uv: the Python package's, else the one on PATH. Raises ``MissingPartError``."""
    import shutil

    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        found = shutil.which("uv")
        if found is None:
            raise MissingPartError("uv is not installed", hint="install edgepack[packager]") from error
        return found


def uv_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for uv: pip's settings take the place of those of uv that are not set."""
    found = dict(os.environ if environment is None else environment)
    settings = _pip_settings(found)
    if not any(name in found for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")):
        if url := settings.get("index-url"):
            found["UV_DEFAULT_INDEX"] = url
        if extra := settings.get("extra-index-url"):
            found["UV_EXTRA_INDEX_URL"] = " ".join(extra.split())
            # pip asks all its indexes for the best version. uv would stop at the first that knows the name, even if
            # that one has no wheel for the target.
            found.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    if links := settings.get("find-links"):
        found.setdefault("UV_FIND_LINKS", ",".join(links.split()))
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        found.setdefault(NO_INDEX, "1")
    if certificates := settings.get("cert"):
        found.setdefault("SSL_CERT_FILE", certificates)
    if constraints := settings.get("constraint"):
        found.setdefault("UV_CONSTRAINT", " ".join(constraints.split()))
    if hosts := settings.get("trusted-host"):
        found.setdefault("UV_INSECURE_HOST", " ".join(hosts.split()))
    if (proxy := settings.get("proxy")) and not any(name.lower() in _PROXIES for name in found):
        found["ALL_PROXY"] = proxy
    return found


def indexes(environment: Mapping[str, str]) -> list[str]:
    """The indexes and folders of wheels that uv searches in ``environment``, as a user may read them."""
    names = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
    places = [place for name in names for place in environment.get(name, "").split()]
    if "UV_DEFAULT_INDEX" not in environment and "UV_INDEX_URL" not in environment:
        places.append(_PYPI)
    if environment.get(NO_INDEX) == "1":
        places = []
    links = [link for link in environment.get("UV_FIND_LINKS", "").split(",") if link]
    return list(dict.fromkeys(redacted(place) for place in (*places, *links)))


def machine_constraints(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The lines of the constraint files that uv heeds in ``environment``, each with its file, as far as readable."""
    found: list[tuple[str, str]] = []
    for name in environment.get("UV_CONSTRAINT", "").split():
        with suppress(OSError, UnicodeDecodeError):
            lines = (line.partition(" #")[0].strip() for line in Path(name).read_text("utf-8").splitlines())
            found += [(line, name) for line in lines if line and not line.startswith(("#", "-"))]
    return tuple(found)


def unreachable_index(said: str) -> str | None:
    """The server that uv or pip could not reach, such as ``https://pypi.org``, by their message.

    ``None`` when the message is of something else.
    """
    if not NO_NETWORK.search(said):
        return None
    address = _ADDRESS.search(redacted(said))
    return "a package index" if address is None else address[0]


def _pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What ``pip config list`` shows for downloads, the strongest source winning (environment, command, global)."""
    import ast
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"],
        env=dict(environment), capture_output=True, text=True, timeout=_TIMEOUT, check=False,
    )  # fmt: skip
    found: dict[str, tuple[int, str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        strength = {"global": 1, "download": 2, ":env:": 3}.get(section, 0)
        if strength > found.get(name, (0, ""))[0]:
            found[name] = (strength, str(ast.literal_eval(value)))
    return {name: value for name, (_, value) in found.items()}
