"""Which known word somebody meant who typed another one.

The server imports nothing of this package; ``edge_server/config/nearness.py`` repeats ``nearest``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def did_you_mean(typed: str, known: Iterable[str], otherwise: str = "") -> str:
    """A hint that names the word of ``known`` nearest to ``typed``, where there is one, and says ``otherwise``."""
    near = nearest(typed, known)
    return otherwise if near is None else f"did you mean {near!r}? {otherwise}".rstrip()


def tag_meant(typed: str, known: Iterable[str], otherwise: str) -> str:
    """The same for the tag of an image, ``NAME:TAG``: without a tag near it, those of the same name are listed."""
    tags = sorted(known)
    near = did_you_mean(typed, tags)
    name = typed.rpartition(":")[0] or typed
    same = [tag for tag in tags if tag.rpartition(":")[0] == name]
    if not near and same:
        return f"there is {listed(same)}; {otherwise}"
    return f"{near} {otherwise}".lstrip()


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first ``most`` names of a list, for an error to show."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def nearest(typed: str, known: Iterable[str]) -> str | None:
    """The word of ``known`` that ``typed`` is a misspelling or an abbreviation of; None where none is near.

    Capitals, and the signs between the parts of a word, do not count. Of words that are equally near, the first by
    spelling is taken.
    """
    plain, near, longer = _plain(typed), [], []
    for word in sorted(set(known)):
        other = _plain(word)
        shorter = min(len(plain), len(other))
        away = distance(plain, other)
        # A third of the letters may be wrong: more would turn any short word into any other.
        if away <= (max(1, shorter // 3) if shorter > 1 else 0):
            near.append((away, word))
        elif len(plain) > 1 and other.startswith(plain[0]) and _is_within(plain, other):
            longer.append(word)
    return min(near)[1] if near else min(longer, key=len, default=None)


def distance(one: str, other: str) -> int:
    """How many letters are missing, added, wrong, or exchanged with their neighbour (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        now = [row]
        for at, wanted in enumerate(other, 1):
            best = min(last[at] + 1, now[at - 1] + 1, last[at - 1] + (letter != wanted))
            if row > 1 and at > 1 and letter == other[at - 2] and one[row - 2] == wanted:
                best = min(best, before[at - 2] + 1)
            now.append(best)
        before, last = last, now
    return last[-1]


def _is_within(short: str, word: str) -> bool:
    """Whether ``word`` has the letters of ``short`` in their order."""
    letters = iter(word)
    return all(letter in letters for letter in short)


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "").replace(" ", "")
