"""The configured models, by name and version."""

from __future__ import annotations

from collections.abc import Iterable

from edge_server.config.values import ModelPlace
from edge_server.errors import BadRequest

_NAMES_SHOWN = 20


class Directory:
    """Finds models by the names and versions in requests."""

    def __init__(self, places: Iterable[ModelPlace]) -> None:
        self._by_name: dict[str, dict[int, ModelPlace]] = {}
        for place in places:
            self._by_name.setdefault(place.name, {})[place.version] = place
        self._highest = {name: versions[max(versions)] for name, versions in self._by_name.items()}
        self._only = next(iter(self._highest.values())) if len(self._highest) == 1 else None

    def find(self, name: str | None, version: int | None) -> ModelPlace:
        """The model of that name and version; no version: the highest, no name: the only one.

        BadRequest 404 where there is none, 400 where a name is needed.
        """
        if name is None:
            if self._only is None:
                raise BadRequest(f"name one of the models by ?model=NAME; there are {_listed(self._by_name)}")
            if version is None:
                return self._only
            name = self._only.name
        versions = self._by_name.get(name)
        if versions is None:
            raise BadRequest(f"there is no model {name!r:.80}; there are {_listed(self._by_name)}", 404)
        if version is None:
            return self._highest[name]
        place = versions.get(version)
        if place is None:
            raise BadRequest(f"the model {name!r} has no version {version}; it has {_listed(sorted(versions))}", 404)
        return place

    def versions(self, name: str) -> tuple[int, ...]:
        """The versions of a model, lowest first; none for an unknown one."""
        return tuple(sorted(self._by_name.get(name, ())))


def _listed(names: Iterable[str | int]) -> str:
    shown = [repr(name) for name in names]
    more = len(shown) - _NAMES_SHOWN
    return ", ".join(shown[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "") if shown else "none"
