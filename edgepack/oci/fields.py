"""Fields of the image specification's documents: read as their type, or refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from edgepack.errors import InvalidDocumentError

_T = TypeVar("_T")


def text_map(value: object, where: object, name: str) -> dict[str, str]:
    """An object of texts, empty when it is absent; raises ``InvalidDocumentError``."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise InvalidDocumentError(where, [f"{name} must map text to text"])
    return dict(value)


def text_list(value: object, where: object, name: str) -> tuple[str, ...]:
    """A list of texts, empty when it is absent; raises ``InvalidDocumentError``."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise InvalidDocumentError(where, [f"{name} must be a list of texts"])
    return tuple(value)


def text_field(value: Mapping[str, Any], key: str, where: object, default: str = "") -> str:
    """The text at ``key``, or ``default``; raises ``InvalidDocumentError``."""
    text = value.get(key)
    if not isinstance(text, str | None):
        raise InvalidDocumentError(where, [f"{key} must be text"])
    return text or default


def list_of(value: object, read: Callable[[Any, str], _T], where: object, name: str) -> tuple[_T, ...]:
    """The items of a list, each by ``read``, which is given the item and its place in the document."""
    if not isinstance(value, list):
        raise InvalidDocumentError(where, [f"{name} must be a list"])
    return tuple(read(item, f"{where}: {name}[{number}]") for number, item in enumerate(value))
