"""The decorator of a ``run`` that asks for the request itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

_Run = TypeVar("_Run", bound=Callable[..., Any])
_MARK = "_scoring_rawhttp"


def rawhttp(run: _Run) -> _Run:
    """Decorator: ``run`` is given the AMLRequest itself and may return an AMLResponse."""
    try:
        setattr(run, _MARK, True)
    except AttributeError:  # a bound method, or another callable without attributes
        wrapped = functools.wraps(run)(lambda request: run(request))
        setattr(wrapped, _MARK, True)
        return wrapped  # type: ignore[return-value]
    return run


def is_raw(run: Callable[..., Any]) -> bool:
    """Whether ``run`` was decorated with rawhttp."""
    return getattr(run, _MARK, False) is True
