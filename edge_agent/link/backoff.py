"""How long to wait before the next try: longer from failure to failure, and different on each device."""

from __future__ import annotations

import random
from dataclasses import dataclass

# A connection that lasted this long was a good one.
STABLE_SECONDS = 60.0


@dataclass
class Backoff:
    """Doubling pauses with jitter: devices that lost one broker together must not come back together."""

    first_seconds: float = 1.0
    longest_seconds: float = 120.0
    failures: int = 0

    def pause(self) -> float:
        """Count a failure; how many seconds to wait."""
        # 2 ** 32 seconds is beyond every limit, and no number grows for ever.
        most = min(self.longest_seconds, self.first_seconds * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return most * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    def lasted(self, seconds: float) -> None:
        """Begin anew after a connection that lasted long enough; a short one changes nothing."""
        if seconds >= STABLE_SECONDS:
            self.failures = 0
