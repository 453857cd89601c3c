"""Which lengths, whole numbers and words a model takes, found by running its original.

Neutral to frameworks. Runs inside the sandbox only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from converters.proof.feeds import random_feeds
from converters.proof.specs import ORDINARY_NUMBER, Explored, Reference, Spec
from edgepack.errors import ConversionError

# Lengths that are tried for an axis that may have any: of text, of series, of pictures that are halved some times.
LENGTHS = (12, 7, 32, 64, 224, 2, 1)
# The largest whole number that is tried.
WIDEST_RANGE = 1 << 20


def explore(reference: Reference, specs: Sequence[Spec]) -> Explored:
    """Find lengths, ranges of whole numbers and closed vocabularies that the original takes, by running it.

    Raises ``ConversionError``, with its first refusal, where it takes nothing that was tried.
    """
    refusal: ConversionError | None = None
    # A vocabulary does not give the range: of two inputs it may belong to the other.
    plain = tuple(replace(spec, values=()) if spec.kind == "int" else spec for spec in specs)
    closed = tuple(replace(spec, closed=bool(spec.values) and spec.kind in ("int", "string")) for spec in specs)
    for tried in (plain, closed):
        lengths: list[int] = []
        for length in LENGTHS if any(axis is None for spec in tried for axis in spec.shape[1:]) else LENGTHS[:1]:
            try:
                reference.answer(random_feeds(tried, 2, length=length))
            except ConversionError as error:
                refusal = refusal or error
                continue
            lengths.append(length)
            if len(lengths) == 2:
                break
        if lengths:
            ranged = [spec if spec.closed else _ranged(reference, tried, spec, lengths[0]) for spec in tried]
            pairs = zip(ranged, specs, strict=True)
            return Explored(tuple(_with_values(spec, given) for spec, given in pairs), tuple(lengths))
    raise refusal or ConversionError("the model takes no inputs", hint="export it with inputs")


def _with_values(spec: Spec, given: Spec) -> Spec:
    """The vocabulary again, as far as it is in the range that was found."""
    if spec.kind != "int" or spec.closed or spec.low is None or spec.high is None:
        return spec
    wide = spec.high >= ORDINARY_NUMBER
    return replace(spec, values=tuple(value for value in given.values if wide or spec.low <= value <= spec.high))


def _ranged(reference: Reference, specs: tuple[Spec, ...], spec: Spec, length: int) -> Spec:
    """The input with the range of whole numbers that the original takes, found by halving."""
    import numpy as np

    if spec.kind != "int" or spec.high is not None:
        return spec
    others = random_feeds(specs, 2, length=length)

    def takes(value: int) -> bool:
        try:
            reference.answer({**others, spec.name: np.full_like(others[spec.name], value)})
        except ConversionError:
            return False
        return True

    limits = np.iinfo(spec.dtype)
    least = 0 if takes(0) or not takes(1) else 1  # lengths of packed sequences, for instance, are 1 at least
    top = min(WIDEST_RANGE, int(limits.max))
    if takes(top):
        low = -ORDINARY_NUMBER if limits.min < 0 and takes(max(-WIDEST_RANGE, int(limits.min))) else least
        return replace(spec, low=max(low, int(limits.min)), high=min(ORDINARY_NUMBER, top))
    good, bad = 1, top
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if takes(middle) else (good, middle)
    return replace(spec, low=least, high=good)
