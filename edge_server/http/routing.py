"""The route table: exact paths first, then prefixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_server.http.messages import Route


@dataclass(frozen=True)
class Routes:
    """``exact`` maps whole paths; ``prefixes`` maps what a path begins with (ends with ``/``) to one route each."""

    exact: Mapping[str, Route] = field(default_factory=dict)
    prefixes: Mapping[str, Route] = field(default_factory=dict)

    def find(self, path: str) -> Route | None:
        """The route of a path, or None."""
        route = self.exact.get(path)
        if route is None:
            for prefix, other in self.prefixes.items():
                if path.startswith(prefix):
                    return other
        return route

    def __or__(self, other: Routes) -> Routes:
        return Routes({**self.exact, **other.exact}, {**self.prefixes, **other.prefixes})
