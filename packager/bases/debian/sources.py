"""Where Debian's packages come from: the mirrors that are given, else those of this machine's apt and Debian's own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import getproxies

from edgepack.errors import UsageError
from edgepack.text import redacted

MIRRORS_VARIABLE = "EDGEPACK_DEBIAN_MIRRORS"
# https://www.debian.org/mirror/list: served by content delivery networks everywhere.
_DEFAULT = ("https://deb.debian.org/debian", "https://deb.debian.org/debian-security")
# Everything that Debian has ever published; https://snapshot.debian.org
_SNAPSHOT = "https://snapshot.debian.org"


@dataclass(frozen=True)
class Sources:
    """Addresses of archives, the first asked first; the archive of dropped versions; a proxy for each scheme."""

    archives: tuple[str, ...]
    snapshot: str = _SNAPSHOT
    proxies: Mapping[str, str] | None = None


def find_sources(given: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Sources:
    """The archives to ask: those ``given``, else those of ``EDGEPACK_DEBIAN_MIRRORS``, else apt's, then Debian's own.

    An archive's address is what apt calls its URI, such as ``http://mirror.example/debian``. Raises ``UsageError`` for
    one that is not http or https.
    """
    named = tuple(given) or tuple(
        (os.environ if environment is None else environment).get(MIRRORS_VARIABLE, "").split()
    )
    check_mirrors(named, "--mirror" if given else MIRRORS_VARIABLE)
    archives = named or (*machine_archives(), *_DEFAULT)
    return Sources(tuple(dict.fromkeys(address.rstrip("/") for address in archives)), proxies=_proxies())


def check_mirrors(addresses: Sequence[str], where: str) -> None:
    """Raise ``UsageError`` for an address that is not http or https."""
    for address in addresses:
        if not re.match(r"https?://[^/\s]+", address):
            hint = "give an address such as http://mirror.example/debian"
            raise UsageError(f"{redacted(address)!r} is not the address of a mirror", where=where, hint=hint)


def machine_archives(apt: Path = Path("/etc/apt")) -> list[str]:
    """The addresses of the mirrors of Debian that this machine's apt uses.

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
            # apt-transport-mirror(1): images for clouds name a file with a list of mirrors.
            for name in re.findall(r"\bmirror\+file:(?://)?(/\S+)", text):
                text += "\n" + (Path(name).read_text("utf-8", "replace") if Path(name).is_file() else "")
            archives.update(re.findall(r"\bhttps?://\S+?/debian(?:-security)?(?=/?(?:\s|$))", text))
    return sorted(archives)


def _proxies() -> dict[str, str]:
    """The proxies of the environment (``http_proxy``, ``https_proxy``), else those of this machine's apt."""
    found = getproxies()
    for line in apt_settings():
        if match := re.fullmatch(r'Acquire::(https?)::Proxy "(\S+)"', line):
            scheme, address = match[1].lower(), match[2]
            if address != "DIRECT":
                found.setdefault(scheme, address)
    return found


def apt_settings() -> list[str]:
    """This machine's settings of how apt reaches a mirror, as apt's configuration has them (apt.conf(5))."""
    if shutil.which("apt-config") is None:
        return []
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    pattern = r'^Acquire::(?:https?::Proxy|Check-Valid-Until|Check-Date|Retries) "[^"@]+";$'
    return [line.rstrip(";") for line in done.stdout.splitlines() if re.match(pattern, line)]
