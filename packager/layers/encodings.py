"""The forms in which a credential may be in a file: as bytes, escaped, and in alphabets of 64 or 16 letters.

Of the last kind are base64 and hexadecimal digits, in lines of any length, with any separators: they are searched for
in what is left of a text without everything else (``compact``).
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote, quote_plus

_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
_OTHERS = bytes(set(range(256)).difference(_LETTERS))
# The alphabet for URLs is read as the other one (RFC 4648, section 5).
_ONE_ALPHABET = bytes.maketrans(b"-_", b"+/")
# Which characters an address may keep differs: nothing, paths, JavaScript's encodeURIComponent, its encodeURI.
_KEPT = ("", "/", "!*'()", "!*'();/?:@&=+$,#")


def compact(data: bytes) -> bytes:
    """``data`` without what is not base64 or a digit: line breaks, also written ones (``\\n``), quotes, colons."""
    if b"\\" in data and b"\0" not in data:  # weights have every pair of bytes somewhere, and no written line breaks
        for written in (b"\\n", b"\\r", b"\\t"):
            data = data.replace(written, b"")
    return data.translate(_ONE_ALPHABET, _OTHERS)


def literal_forms(value: bytes) -> tuple[bytes, ...]:
    """``value`` as it is, in UTF-16 and Latin-1, and as JSON, XML, Python and addresses escape it; each form once."""
    found = {value: None}
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return tuple(found)
    found |= dict.fromkeys(_recoded(text, "utf-16-le", "utf-16-be", "latin-1"))
    forms = [*_in_addresses(text), repr(text)[1:-1], html.escape(text), html.escape(text, quote=False)]
    for written in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        # PHP escapes the slash, Go what could be a tag.
        tags = written.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
        forms += [written, written.replace("/", "\\/"), tags, tags.replace("/", "\\/")]
    forms += [*_in_capitals(text), *_in_markup(text), *_in_quotes(text), ascii(text)[1:-1], repr(value)[2:-1]]
    return tuple(found | dict.fromkeys(form.encode() for form in forms))


def compact_forms(value: bytes) -> tuple[bytes, ...]:
    """``value`` in base64, once and twice, and in digits by 16, 10 and 8, as ``compact`` leaves them; each once."""
    found: dict[bytes, None] = {}
    found |= dict.fromkeys(_in_base64(value))
    with suppress(UnicodeDecodeError):  # as PowerShell's encoded commands have it
        found |= dict.fromkeys(_in_base64(value.decode().encode("utf-16-le")))
    # A Docker configuration in a Kubernetes secret: base64 of a text with base64 of user:password in it.
    for once in tuple(_in_base64(value)):
        found |= dict.fromkeys(_in_base64(once))
    digits = value.hex()
    escaped, listed = ("".join(f"{before}{byte:02x}" for byte in value) for before in ("x", "0x"))
    decimal, octal = "".join(map(str, value)), "".join(f"{byte:03o}" for byte in value)
    for form in (decimal, octal, digits, digits.upper(), escaped, escaped.upper().replace("X", "x"), listed,
                 listed.upper().replace("X", "x")):  # fmt: skip
        found[form.encode()] = None
    return tuple(found)


def _recoded(text: str, *names: str) -> Iterator[bytes]:
    for name in names:
        try:
            yield text.encode(name)
        except UnicodeEncodeError:
            continue


def _in_addresses(text: str) -> Iterator[str]:
    for kept in _KEPT:
        for form in (quote(text, kept), quote_plus(text, kept)):
            yield form
            pieces = form.split("%")
            yield "%".join([pieces[0], *(piece[:2].lower() + piece[2:] for piece in pieces[1:])])


def _in_capitals(text: str) -> Iterator[str]:
    """As .NET writes JSON (System.Text.Json), and Java a value of its properties: ``\\u00E9``, not ``\\u00e9``."""
    units = text.encode("utf-16-be")
    letters = [int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2)]
    for escaped, marked in (("\"&'+<>`", "\\"), ("", "\\:=#!")):
        yield "".join(
            f"\\u{letter:04X}" if letter > 0x7E or chr(letter) in escaped
            else f"\\{chr(letter)}" if chr(letter) in marked
            else chr(letter)
            for letter in letters
        )  # fmt: skip


def _in_markup(text: str) -> Iterator[str]:
    """Quotes by their numbers or by ``&apos;``, and what is not ASCII by its number."""
    bare = html.escape(text, quote=False)
    for double, single in (("&#34;", "&#39;"), ("&quot;", "&apos;"), ("&quot;", "&#39;"), ("&quot;", "&#x27;")):
        written = bare.replace('"', double).replace("'", single)
        yield from (written, written.encode("ascii", "xmlcharrefreplace").decode())
    yield bare.encode("ascii", "xmlcharrefreplace").decode()


def _in_quotes(text: str) -> Iterator[str]:
    """As shells quote it, and as a letter is doubled: quotes in YAML, SQL and CSV, ``$`` and ``%`` in templates."""
    yield from (text.replace(letter, letter * 2) for letter in "'\"$%")
    yield from (text.replace("'", "'\\''"), text.replace("'", "'\"'\"'"))
    yield re.sub(r"[^\w@%+=:,./#~-]", r"\\\g<0>", text)
    yield re.sub(r'["$`\\]', r"\\\g<0>", text)
    yield re.escape(text)


def _in_base64(value: bytes) -> Iterator[bytes]:
    """The letters that ``value`` decides at any place of a longer text, such as ``user:password``."""
    for before in range(3):
        letters = base64.b64encode(bytes(before) + value)
        # The letters at both ends also depend on the neighbours: 6 bits each, the first after `before` bytes.
        yield letters[-(-before * 8 // 6) : (before + len(value)) * 8 // 6]
