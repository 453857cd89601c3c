"""Text from elsewhere shows what it is, and neither moves the cursor nor tells a password."""

from __future__ import annotations

import pytest

from edgepack.text import printable, redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 1", "größe 1"),
        ("a\x1b[2J", "a\\x1b[2J"),
        ("\t\n\x9b\u202e", "\\t\\n\\x9b\\u202e"),
        ("\udc80", "\\udc80"),
    ],
)
def test_what_cannot_be_printed_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://ann:pw@host/simple now", "see https://****@host/simple now"),
        ("see https://host/a@b", "see https://host/a@b"),
        ("E: http://ann@firm:p@ss@host:80/debian and ftp://x@y", "E: http://****@host:80/debian and ftp://****@y"),
    ],
)
def test_credentials_are_removed_from_urls(text: str, shown: str) -> None:
    assert redacted(text) == shown
