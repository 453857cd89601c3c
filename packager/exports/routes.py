"""Routes of the hub of IoT Edge: ``FROM source [WHERE condition] INTO sink``, read and checked.

No schema of IoT Edge looks into them, and the hub drops the messages of one that it does not understand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ROUTE = re.compile(
    r"\s*FROM\s+(?P<source>\S+)(?:\s+WHERE\s+(?P<condition>.+?))?\s+INTO\s+(?P<sink>\$upstream|BrokeredEndpoint\s*\(.*\))\s*",
    re.IGNORECASE | re.DOTALL,
)
_MODULE = r"[a-zA-Z0-9_-]+"
_SOURCE = re.compile(
    rf"/\*|/twinChangeNotifications(?:/\*)?|/deviceLifecycleEvents(?:/\*)?|/messages(?:/\*)?"
    rf"|/messages/modules(?:/\*|/(?P<module>{_MODULE})(?:/\*|/outputs(?:/(?:\*|(?P<output>[^/\s]+)))?)?)?",
    re.IGNORECASE,
)
_SINK = re.compile(
    rf"BrokeredEndpoint\s*\(\s*(?P<quote>[\"'])/modules/(?P<module>{_MODULE})/inputs/(?P<input>[^/\s\"']+)(?P=quote)\s*\)",
    re.IGNORECASE,
)
_PAIRS = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Route:
    """A route: messages of a module, or of all with ``None``, to a module's input, or to the cloud with ``None``."""

    source: str
    source_module: str | None
    condition: str | None
    sink_module: str | None
    sink_input: str | None


def parse_route(text: str) -> Route | str:
    """The route, or what is wrong with it in words."""
    match = _ROUTE.fullmatch(text)
    if match is None:
        return 'is not FROM SOURCE [WHERE CONDITION] INTO SINK, the sink $upstream or BrokeredEndpoint("…")'
    source = _SOURCE.fullmatch(match["source"])
    if source is None:
        return (
            f"has the source {match['source']!r}; known are /*, /messages/*, /messages/modules/MODULE/outputs/OUTPUT"
            " and /twinChangeNotifications"
        )
    condition = match["condition"]
    if condition is not None and (wrong := _wrong_condition(condition)):
        return f"has a condition with {wrong}"
    if match["sink"].lower() == "$upstream":
        return Route(match["source"], source["module"], condition, None, None)
    sink = _SINK.fullmatch(match["sink"])
    if sink is None:
        return f'has the sink {match["sink"]}; write it as BrokeredEndpoint("/modules/MODULE/inputs/INPUT")'
    return Route(match["source"], source["module"], condition, sink["module"], sink["input"])


def _wrong_condition(text: str) -> str:
    """What does not fit together: brackets and quotes; the hub alone knows all functions."""
    expected: list[str] = []
    quote = ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _PAIRS:
            expected.append(_PAIRS[character])
        elif character in _PAIRS.values() and (not expected or expected.pop() != character):
            return f"a {character!r} too many"
    if quote:
        return f"a {quote} that is not closed"
    return f"a {expected[-1]!r} missing" if expected else ""
