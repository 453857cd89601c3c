"""Text in a POSIX locale: names of files are UTF-8 whatever the locale says, and printing never fails."""

from __future__ import annotations

import io
import os
import sys


def use_utf8() -> None:
    """Start this program again in Python's UTF-8 mode where it would read and write names of files as something else.

    That is so in a locale without UTF-8 when Python was told not to make up for it; layers have names in any script.
    """
    if sys.flags.utf8_mode or not sys.executable or sys.getfilesystemencoding().lower() in ("utf-8", "utf8"):
        return
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - this program


def print_anything() -> None:
    """Let stdout and stderr escape what they cannot encode instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
