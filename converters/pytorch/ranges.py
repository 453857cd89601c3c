"""Which whole numbers a model takes that refuses what is usually made up, found from the user's sample.

The lengths of packed sequences, for instance, are at least 1 and at most the length of the longest. Runs inside the
sandbox only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from converters.options import Options
from converters.proof import feeds
from converters.proof.exploration import WIDEST_RANGE, explore
from converters.proof.specs import Explored, Spec
from converters.pytorch import packed
from converters.pytorch.original import Original
from edgepack.errors import ConversionError


def explored(original: Original, options: Options) -> Explored:
    """What the model takes, by running it on made-up inputs, or on the sample's where it takes none of these.

    Raises ``ConversionError`` where it takes neither.
    """
    try:
        return explore(original, original.specs)
    except ConversionError as error:
        if options.sample is None or not any(spec.kind == "int" for spec in original.specs):
            raise
        if not any(spec.batched for spec in original.specs) and packed.packs(original):
            raise packed.refusal(error) from error  # they want their rows sorted by length, whatever their number
    own = feeds.sample_feeds(original.specs, options.sample)
    original.answer(own)
    return explore(original, tuple(_ranged(original, spec, own) for spec in original.specs))


def _ranged(original: Original, spec: Spec, own: Mapping[str, Any]) -> Spec:
    """The input with the range of whole numbers around those in the sample that the model takes."""
    import numpy as np

    if spec.kind != "int":
        return spec

    def takes(value: int) -> bool:
        try:
            original.answer({**own, spec.name: np.full_like(own[spec.name], value)})
        except ConversionError:
            return False
        return True

    least, most = int(own[spec.name].min()), int(own[spec.name].max())
    top = min(WIDEST_RANGE, int(np.iinfo(spec.dtype).max))
    low = 0 if least < 0 or takes(0) else _edge(takes, least, 0)
    return replace(spec, low=low, high=most if takes(top) else _edge(takes, most, top))


def _edge(takes: Callable[[int], bool], good: int, bad: int) -> int:
    """The last number that is taken on the way from one that is to one that is not, found by halving."""
    while abs(bad - good) > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if takes(middle) else (good, middle)
    return good
