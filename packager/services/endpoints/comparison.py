"""Whether two versions of an endpoint differ in their errors, or by chance alone; pure.

The two-proportion z test with the pooled proportion, two-sided: of ``n1`` requests to the one ``e1`` failed, of ``n2``
to the other ``e2``; ``p = (e1 + e2) / (n1 + n2)``, ``z = (e2/n2 - e1/n1) / sqrt(p (1 - p) (1/n1 + 1/n2))``. By the
usual rule it says nothing where fewer than five failures, or than five successes, are expected of one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgepack.state.reported_endpoints import ReportedVersion

TEST = "two-proportion z test, pooled, two-sided"
# Below this probability a difference counts as one.
LEVEL = 0.05
_LEAST_EXPECTED = 5.0


@dataclass(frozen=True)
class Comparison:
    """A version beside the control: how much more often it fails, and how likely chance alone does as much.

    ``z`` and ``p`` are ``None`` where there are too few requests to say.
    """

    difference: float | None
    z: float | None = None
    p: float | None = None

    @property
    def words(self) -> str:
        """What that says."""
        if self.p is None or self.difference is None:
            return "too few to say"
        if self.p >= LEVEL:
            return f"no difference shown (p = {self.p:.2f})"
        shown = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{'more' if self.difference > 0 else 'fewer'} errors ({shown})"

    def to_json(self) -> dict[str, object]:
        """The comparison as the JSON interface shows it."""
        return {"test": TEST, "difference": self.difference, "z": self.z, "p": self.p, "words": self.words}


def compare(control: ReportedVersion, other: ReportedVersion) -> Comparison:
    """``other`` beside ``control``, by their errors."""
    if not control.requests or not other.requests:
        return Comparison(None)
    difference = other.errors / other.requests - control.errors / control.requests
    total = control.requests + other.requests
    pooled = (control.errors + other.errors) / total
    least = min(control.requests, other.requests) * min(pooled, 1 - pooled)
    if least < _LEAST_EXPECTED:
        return Comparison(difference)
    z = difference / math.sqrt(pooled * (1 - pooled) * (1 / control.requests + 1 / other.requests))
    return Comparison(difference, z, math.erfc(abs(z) / math.sqrt(2)))
