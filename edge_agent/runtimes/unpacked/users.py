"""The user that an image gives by name, looked up in the image's own files (image-spec 1.1, config.md, "User")."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgepack.limits import LIMITS
from edgepack.oci.config import ImageConfig


def with_numbers(config: ImageConfig, layers: Sequence[Path]) -> ImageConfig:
    """``config`` with its user and group as numbers; as it is where ``layers``, base first, do not name them."""
    user, _, group = config.user.partition(":")
    if not user or (_is_number(user) and (not group or _is_number(group))):
        return config
    entry = [user, "", user] if _is_number(user) else _entry("passwd", user, layers)
    number = group if _is_number(group) else "".join(_entry("group", group, layers)[2:3]) if group else ""
    if len(entry) < 3 or (group and not number):
        return config
    gid = number or "".join(entry[3:4])
    return replace(config, user=f"{entry[2]}:{gid}" if gid else entry[2])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _entry(file: str, name: str, layers: Sequence[Path]) -> list[str]:
    """The fields of the line of ``name``, whose third is a number; empty without one (passwd(5), group(5))."""
    return entry_of(name, _text(file, layers))


def entry_of(name: str, text: str) -> list[str]:
    """The fields of the line of ``name`` in ``text``, whose third is a number; empty without one."""
    for line in text.splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) > 2 and _is_number(fields[2]):
            return fields
    return []


def _text(file: str, layers: Sequence[Path]) -> str:
    """The image's ``/etc/FILE``, of the uppermost layer that has one; nothing is followed out of a layer."""
    for layer in reversed(layers):
        try:
            folder = os.open(layer / "etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # it has none, or a link
            continue
        try:
            fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            continue
        finally:
            os.close(folder)
        with os.fdopen(fd, "rb") as stream:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return ""
            return stream.read(LIMITS.error_bytes).decode("utf-8", "replace")
    return ""
