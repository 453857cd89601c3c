"""Which of many short texts some bytes hold, in one pass however many they are.

A text of seven bytes or more holds, wherever it begins, four bytes that begin at a multiple of four. So four at a time
are looked up in a table of all such parts, and the texts are searched for around what is in it. Python's own search, a
pass for each text, decides; alone it does for few bytes, and where numpy is not installed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_GROUP = 4
_WHOLE = 2 * _GROUP - 1
# Below them a search for each text takes less time than the import of numpy.
_FEW_BYTES = 64 << 10
_FEW_TEXTS = 4
# Knuth's multiplier (The Art of Computer Programming, volume 3, section 6.4), for the upper 16 of 32 bits.
_MULTIPLIER, _BITS = 2654435761, 16
# With more candidates than this in some bytes, one search through all of them is quicker.
_MANY = 64


class Needles:
    """Texts with what each stands for; a text that stands for several things is given several times."""

    def __init__(self, texts: Iterable[tuple[bytes, str]]) -> None:
        self._texts = tuple(texts)
        self._short = tuple(pair for pair in self._texts if len(pair[0]) < _WHOLE)
        self._tables: tuple[Any, Any] | None = None
        self.longest = max((len(text) for text, _ in self._texts), default=0)

    def __bool__(self) -> bool:
        return bool(self._texts)

    def found(self, data: bytes) -> list[str]:
        """What the texts in ``data`` stand for, in their order."""
        tables = None if len(data) < _FEW_BYTES or len(self._texts) < _FEW_TEXTS else self._made_tables()
        if tables is None:
            return _search(self._texts, data)
        places = _candidates(data, *tables)
        if len(places) > _MANY:
            return _search(self._texts, data)
        near = [data[max(0, place - self.longest) : place + self.longest + _GROUP] for place in places]
        names = {name for window in near for name in _search(self._texts, window)}
        names.update(_search(self._short, data))
        return [name for _, name in self._texts if name in names]

    def _made_tables(self) -> tuple[Any, Any] | None:
        """By their hashes, which groups may be a part of a text, and all that are; None without numpy."""
        if self._tables is None:
            try:
                import numpy as np
            except ModuleNotFoundError:
                return None
            parts = {text[at : at + _GROUP] for text, _ in self._texts if len(text) >= _WHOLE for at in range(_GROUP)}
            known = np.sort(np.frombuffer(b"".join(parts), np.uint32))
            likely = np.zeros(1 << _BITS, np.bool_)
            likely[_hashes(known)] = True
            self._tables = likely, known
        return self._tables


def _candidates(data: bytes, likely: Any, known: Any) -> list[int]:
    """Where in ``data`` a part of a text begins at a multiple of four."""
    import numpy as np

    groups = np.frombuffer(data, np.uint32, count=len(data) // _GROUP)
    places = np.flatnonzero(likely.take(_hashes(groups)))
    return [int(at) * _GROUP for at in places[np.isin(groups[places], known)]]


def _hashes(groups: Any) -> Any:
    import numpy as np

    return (groups * np.uint32(_MULTIPLIER)) >> np.uint32(_BITS)


def _search(texts: Iterable[tuple[bytes, str]], data: bytes) -> list[str]:
    return [name for text, name in texts if text in data]
