"""Names, labels and annotations of Kubernetes' objects."""

from __future__ import annotations

import re

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
# RFC 1123: a label, and a name of labels with dots between.
_DNS_LABEL = re.compile(_LABEL)
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# RFC 1035: a label that begins with a letter, which services have.
_SERVICE = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_NAME_PART = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
# IANA_SVC_NAME of RFC 6335: at most 15 characters, with a letter.
_PORT = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*")
_PATH_NAME = re.compile(r"(?!\.{1,2}$)[^/%]+")


def is_name(text: str) -> bool:
    """Whether most objects may have it: RFC 1123, up to 253 characters."""
    return len(text) <= 253 and _DNS_NAME.fullmatch(text) is not None


def is_label_name(text: str) -> bool:
    """Whether it is one label of RFC 1123: a container, a volume, a namespace."""
    return _DNS_LABEL.fullmatch(text) is not None


def is_service_name(text: str) -> bool:
    """Whether it is one label of RFC 1035: a service."""
    return _SERVICE.fullmatch(text) is not None


def is_path_name(text: str) -> bool:
    """Whether it can be part of a path: a role may have colons."""
    return _PATH_NAME.fullmatch(text) is not None


def is_port_name(text: str) -> bool:
    """Whether a container's port may have it."""
    return _PORT.fullmatch(text) is not None


def is_key(text: str) -> bool:
    """Whether a label or an annotation may have this name: perhaps a prefix and a slash, and up to 63 characters."""
    prefix, slash, name = text.rpartition("/")
    return _NAME_PART.fullmatch(name) is not None and (not slash or is_name(prefix))


def is_label_value(text: str) -> bool:
    """Whether a label may have this value."""
    return not text or _NAME_PART.fullmatch(text) is not None


def label_value(text: str) -> str:
    """``text`` as a label can have it: other characters become ``-``, and what is too long is left out."""
    return re.sub(r"[^-A-Za-z0-9_.]", "-", text)[:63].strip("-_.")
