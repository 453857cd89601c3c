"""Errors by V2's schema: ``{"error": text}``."""

from __future__ import annotations

import orjson


def body(problem: str) -> bytes:
    """The body of an answer that refuses; routes below /v2 have it as their ``write_problem``."""
    return orjson.dumps({"error": problem})
