"""The records that package managers keep in an image: dpkg's status, Alpine's installed database, os-release."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from packager.sbom.package import Package

# Debian's short names of licences (copyright-format 1.0, section 7.1) and SPDX's.
_SHORT = re.compile(r"^License: *(\S.*?) *$", re.MULTILINE)
_GNU = re.compile(r"(GPL|LGPL|AGPL|GFDL)-(\d)(?:\.(\d))?(\+?)")
_NAMES = {"Expat": "MIT", "PSF-2": "PSF-2.0", "Python": "Python-2.0", "public-domain": "public domain"}


def system_of(os_release: bytes) -> str:
    """The distribution and its version, such as ``debian-12``; ``""`` where it is not said (os-release(5))."""
    fields = {}
    for line in os_release.decode("utf-8", "replace").splitlines():
        name, equals, value = line.partition("=")
        if equals:
            fields[name.strip()] = value.strip().strip("\"'")
    return "-".join(filter(None, (fields.get("ID", ""), fields.get("VERSION_ID", ""))))


def debian_packages(status: bytes, system: str) -> Iterator[Package]:
    """The installed packages of dpkg's ``status``, or of one file of ``status.d``."""
    for paragraph in re.split(r"\n\s*\n", status.decode("utf-8", "replace")):
        fields = _fields(paragraph)
        if not fields.get("Package") or not fields.get("Version"):
            continue
        if "Status" in fields and not fields["Status"].endswith(" installed"):
            continue  # removed, and its configuration is still there
        yield Package(
            "deb", fields["Package"], fields["Version"], fields.get("Architecture", ""),
            # deb-control(5): absent when it has the package's name, and with a version where that differs.
            source=(fields.get("Source", "").split() or [""])[0],
            requires=_names(f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}"),
            distribution=system,
        )  # fmt: skip


def alpine_packages(installed: bytes, system: str) -> Iterator[Package]:
    """The packages of Alpine's ``lib/apk/db/installed`` (apk's index format)."""
    for paragraph in re.split(r"\n\s*\n", installed.decode("utf-8", "replace")):
        fields = dict(re.findall(r"^([A-Za-z]):(.*)$", paragraph, re.MULTILINE))
        if fields.get("P") and fields.get("V"):
            licence = (fields["L"].strip(),) if fields.get("L", "").strip() else ()
            yield Package(
                "apk", fields["P"], fields["V"], fields.get("A", ""), source=fields.get("o", ""), licences=licence,
                distribution=system,
            )  # fmt: skip


def debian_licences(copyright_file: bytes) -> tuple[str, ...]:
    """The licences that a machine-readable copyright file names; none for one in free text."""
    text = copyright_file.decode("utf-8", "replace")
    if "://www.debian.org/doc/packaging-manuals/copyright-format" not in text[:400]:
        return ()
    found = set()
    for names in _SHORT.findall(text):
        for name in re.split(r",? and |,? or |, ", names):
            found.add(_spdx(name.strip()))
    return tuple(sorted(found - {""}))


def _spdx(name: str) -> str:
    name = re.sub(r"\s+with .*", "", name)
    if match := _GNU.fullmatch(name):
        return f"{match[1]}-{match[2]}.{match[3] or 0}-{'or-later' if match[4] else 'only'}"
    return _NAMES.get(name, re.sub(r"^(BSD-\d)-clause$", r"\1-Clause", name))[:120]


def _fields(paragraph: str) -> Mapping[str, str]:
    return dict(re.findall(r"^([A-Za-z][A-Za-z0-9-]*): *(.*)$", paragraph, re.MULTILINE))


def _names(depends: str) -> tuple[str, ...]:
    """The packages that a field of dependencies names, alternatives too: which is there shows in the image."""
    names = (re.match(r"\s*([a-z0-9][a-z0-9+.-]+)", one) for one in re.split(r"[,|]", depends))
    return tuple(sorted({match[1] for match in names if match}))
