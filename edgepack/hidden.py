"""Values that only show when they are asked for: what a debugger, a log or a traceback prints of them is ``***``.

They are what libraries want, a text, bytes or a dictionary. What is made of one by ``+`` or an f-string is plain again.
"""

from __future__ import annotations

from typing import Any, NoReturn

MASK = "***"


class _Hidden:
    """Neither its ``repr`` nor a pickle has the value; a copy of it is itself, as of other constants."""

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: object) -> Any:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a credential cannot be pickled")


class HiddenText(_Hidden, str):
    """A text for a library that wants one, such as a header with a token."""

    __slots__ = ()


class HiddenBytes(_Hidden, bytes):
    """Bytes for a library that wants some, such as the body of a request."""


class HiddenObject(_Hidden, dict[str, Any]):
    """A JSON object with something secret in it; ``json.loads(…, object_hook=HiddenObject)`` makes all of them such."""

    __slots__ = ()
