"""Cookies as requests carry them and as answers set them (RFC 6265), and dates in headers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

_ESCAPE = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))")
# What stands in a value as it is; anything else is quoted.
_PLAIN = re.compile(r"[\w!#$%&'()*+\-./:<=>?@\[\]^`{|}~]*", re.ASCII)
_NAME = re.compile(r"[\w!#$%&'*+\-.^`|~]+", re.ASCII)
_SAME_SITE = ("Strict", "Lax", "None")


def read_cookies(headers: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names and values in Cookie headers, in their order; a piece without ``=`` is a name."""
    for header in headers:
        for piece in header.split(";"):
            name, _, value = piece.partition("=")
            name, value = name.strip(), value.strip()
            if len(value) >= 2 and value[0] == value[-1] == '"':
                octets = _ESCAPE.sub(_unescaped, value[1:-1]).encode("latin-1", "replace")
                value = octets.decode("utf-8", "replace")
            if name:
                yield name, value


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 8)) if found[1] else found[2]


def write_cookie(
    name: str,
    value: str = "",
    *,
    max_age: timedelta | int | None = None,
    expires: str | datetime | float | None = None,
    path: str | None = "/",
    domain: str | None = None,
    secure: bool = False,
    httponly: bool = False,
    samesite: str | None = None,
    partitioned: bool = False,
) -> str:
    """The value of a Set-Cookie header; ValueError for a name or an attribute that a cookie cannot have."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a cookie cannot have the name {name!r:.60}")
    if samesite is not None and samesite.title() not in _SAME_SITE:
        raise ValueError(f"samesite must be one of {', '.join(_SAME_SITE)}, not {samesite!r:.60}")
    seconds = int(max_age.total_seconds()) if isinstance(max_age, timedelta) else max_age
    if expires is None and seconds is not None:
        expires = time.time() + seconds  # for clients that know no Max-Age
    parts = [f"{name}={_quoted(value)}"]
    attributes = {
        "Domain": domain and domain.lstrip("."),
        "Expires": http_date(expires),
        "Max-Age": seconds,
        "Secure": secure or partitioned,
        "HttpOnly": httponly,
        "Path": path,
        "SameSite": samesite and samesite.title(),
        "Partitioned": partitioned,
    }
    for attribute, given in attributes.items():
        if given is True:
            parts.append(attribute)
        elif given is not None and given is not False:
            parts.append(f"{attribute}={given}")
    text = "; ".join(parts)
    if any(character < " " or character == "\x7f" for character in text):
        raise ValueError(f"the cookie {name} has a control character in it")
    return text


def http_date(moment: str | datetime | float | None) -> str | None:
    """A date as HTTP writes it; a datetime without a zone counts as UTC."""
    if moment is None or isinstance(moment, str):
        return moment
    # A worker whose script sets no dates need not pay for it.
    from email.utils import format_datetime, formatdate

    if isinstance(moment, (int, float)):
        return formatdate(moment, usegmt=True)
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return format_datetime(zoned.astimezone(UTC), usegmt=True)


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    octets = value.encode()
    return f'"{"".join(_octet(octet) for octet in octets)}"'


def _octet(octet: int) -> str:
    if octet in b'"\\':
        return f"\\{octet:c}"
    return f"{octet:c}" if 32 <= octet < 127 and octet not in b",;" else f"\\{octet:03o}"


def read_date(value: str | None) -> datetime | None:
    """The date in a header; None without one, and for one that cannot be read."""
    if value is None:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(value)
    except ValueError:
        return None
