"""The mappings of a raw request: headers, and fields that may come more than once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any


class HeaderFields:
    """Headers in their order. Names are case-insensitive and may be repeated.

    Iterating gives pairs, ``keys()`` names, so that ``dict(headers)`` works; a repeated name gives its first value.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = list(pairs)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return str(value)

    def __setitem__(self, name: str, value: Any) -> None:
        """Replace every header of that name by one."""
        self.remove(name)
        self.add(name, value)

    def __delitem__(self, name: str) -> None:
        self.remove(name)

    def __repr__(self) -> str:
        return f"HeaderFields({self._pairs!r})"

    def get(self, name: str, default: Any = None, type: Callable[[str], Any] | None = None) -> Any:  # noqa: A002
        """The first value, through ``type``; ``default`` when there is none, or ``type`` does not take it."""
        found = self.getlist(name)
        return _first(found, default, type)

    def getlist(self, name: str) -> list[str]:
        """All values of that name."""
        lower = name.lower()
        return [value for found, value in self._pairs if found.lower() == lower]

    get_all = getlist

    def add(self, name: str, value: Any) -> None:
        """Add a header and keep those of the same name."""
        self._pairs.append((str(name), str(value)))

    add_header = add

    def set(self, name: str, value: Any) -> None:
        """Replace every header of that name by one."""
        self[name] = value

    def setdefault(self, name: str, value: Any) -> str:
        """Add the header when there is none of that name; return its value."""
        if name not in self:
            self.add(name, value)
        return self[name]

    def update(self, *others: Any, **more: Any) -> None:
        """Set every header of a mapping or of pairs."""
        for other in (*others, more):
            for name, value in other.items() if hasattr(other, "items") else other:
                self[name] = value

    extend = update

    def remove(self, name: str) -> None:
        """Remove every header of that name, if there is one."""
        lower = name.lower()
        self._pairs = [pair for pair in self._pairs if pair[0].lower() != lower]

    def pop(self, name: str, default: Any = None) -> Any:
        """Remove every header of that name and return the first."""
        value = self.get(name, default)
        self.remove(name)
        return value

    def keys(self) -> list[str]:
        """All names."""
        return [name for name, _ in self._pairs]

    def values(self) -> list[str]:
        """All values."""
        return [value for _, value in self._pairs]

    def items(self) -> list[tuple[str, str]]:
        """All pairs."""
        return list(self._pairs)


class Fields(dict[str, Any]):
    """Fields of a query or a form: a dictionary of each name's first value, with methods for all values."""

    def __init__(self, pairs: Iterable[tuple[str, Any]] = ()) -> None:
        super().__init__()
        self._all: dict[str, list[Any]] = {}
        for name, value in pairs:
            self._all.setdefault(name, []).append(value)
            self.setdefault(name, value)

    def get(self, name: str, default: Any = None, type: Callable[[Any], Any] | None = None) -> Any:  # noqa: A002
        """The first value, through ``type``; ``default`` when there is none, or ``type`` does not take it."""
        return _first(self._all.get(name, []), default, type)

    def getlist(self, name: str, type: Callable[[Any], Any] | None = None) -> list[Any]:  # noqa: A002
        """All values of that name, without those that ``type`` does not take."""
        missing = object()
        found = (_first([value], missing, type) for value in self._all.get(name, []))
        return [value for value in found if value is not missing]

    def lists(self) -> list[tuple[str, list[Any]]]:
        """Every name with all of its values."""
        return [(name, list(values)) for name, values in self._all.items()]

    def pairs(self) -> list[tuple[str, Any]]:
        """Every value with its name."""
        return [(name, value) for name, values in self._all.items() for value in values]

    def to_dict(self, flat: bool = True) -> dict[str, Any]:
        """A plain dictionary of first values, or of lists of all values."""
        return dict(self) if flat else dict(self.lists())


def _first(values: list[Any], default: Any, convert: Callable[[Any], Any] | None) -> Any:
    if not values:
        return default
    if convert is None:
        return values[0]
    try:
        return convert(values[0])
    except (ValueError, TypeError):
        return default
