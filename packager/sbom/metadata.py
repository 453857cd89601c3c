"""The METADATA of a distribution of Python (core metadata specification), as far as an SBOM says it."""

from __future__ import annotations

import re
from email.message import Message
from email.parser import BytesHeaderParser

from edgepack.limits import LIMITS
from packager.sbom.package import Package

_END = re.compile(rb"\r?\n\r?\n")
# A field that holds the text of a licence and not its name; the first line often is the name.
_NAME_CHARS = 120
# Classifiers that name one licence (PEP 639, appendix "Mapping License Classifiers to SPDX Identifiers"); of the others
# the words themselves are given.
_SPDX = {
    "Academic Free License (AFL)": "", "Apache Software License": "", "BSD License": "", "MIT License": "MIT",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0", "ISC License (ISCL)": "ISC", "The Unlicense (Unlicense)":
    "Unlicense", "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "zlib/libpng License": "Zlib",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only", "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Affero General Public License v3": "AGPL-3.0-only", "MIT No Attribution License (MIT-0)": "MIT-0",
}  # fmt: skip


def read_metadata(data: bytes, name: str, version: str, sha256: str = "") -> Package:
    """What METADATA says of a distribution that its file or folder calls ``name`` and ``version``.

    METADATA that cannot be read, or that is about another distribution, says nothing, and a property says so.
    """
    head = _END.split(data[: LIMITS.metadata_bytes], maxsplit=1)[0]
    fields = BytesHeaderParser().parsebytes(head + b"\n\n")
    notes: tuple[tuple[str, str], ...] = ()
    named = _one(fields, "Name")
    if normalised(named) != normalised(name):
        what = f"METADATA is about {printable_name(named)}" if named else "METADATA names nothing"
        return Package("pypi", normalised(name), version, sha256=sha256, properties=(("edgepack:unreadable", what),))
    return Package(
        "pypi", normalised(name), version, sha256=sha256, licences=_licences(fields), requires=_requires(fields),
        properties=notes,
    )  # fmt: skip


def printable_name(text: str) -> str:
    """At most the beginning of a name, in letters that a document can hold."""
    return "".join(letter for letter in text if letter.isprintable())[:64]


def normalised(name: str) -> str:
    """The name as indexes have it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _one(fields: Message, name: str) -> str:
    return _text(fields.get(name))


def _text(value: object) -> str:
    """A field's text: bytes that are no UTF-8, which the parser gives as surrogates, become question marks."""
    return str(value or "").encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()


def _licences(fields: Message) -> tuple[str, ...]:
    if expression := _one(fields, "License-Expression"):
        return (expression,)
    name = _one(fields, "License").partition("\n")[0].strip()
    if name and len(name) <= _NAME_CHARS and name.upper() not in ("UNKNOWN", "DUAL LICENSE"):
        return (_SPDX.get(name) or name,)
    found = []
    for one in fields.get_all("Classifier") or []:
        parts = [part.strip() for part in _text(one).split("::")]
        last = parts[-1]
        if parts[0] == "License" and last not in ("License", "OSI Approved"):
            found.append(_SPDX.get(last) or last)
    return tuple(dict.fromkeys(found))


def _requires(fields: Message) -> tuple[str, ...]:
    found = set()
    for line in fields.get_all("Requires-Dist") or []:
        text, _, marker = _text(line).partition(";")
        name = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", text)
        # Only extras are certainly not asked for; whether another marker holds shows in what is there.
        if name is not None and "extra" not in marker:
            found.add(normalised(name[1]))
    return tuple(sorted(found))
