"""The route table: exact paths first, then prefixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edge_server.http.messages import Handler


@dataclass(frozen=True)
class Route:
    """What answers at a path: a handler for each method. HEAD follows GET unless it has its own.

    `name` is the path as metrics show it, such as `/v2/models/{name}/infer`. `guarded` routes ask for a key or token
    where the service has them. `cors` routes may be asked by browsers of other origins. `write_problem` makes the body
    of an answer that refuses, where it is not the contract's `{"message": …}`. Answers of `scores` routes always say
    whether the run function failed. `unpacks` routes are given compressed bodies as if they had come plain.
    """

    name: str
    handlers: Mapping[str, Handler]
    guarded: bool = True
    cors: bool = False
    write_problem: Callable[[str], bytes] | None = None
    scores: bool = False
    unpacks: bool = False


@dataclass(frozen=True)
class Routes:
    """`exact` maps whole paths; `prefixes` maps what a path begins with (ends with `/`) to one route each."""

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
