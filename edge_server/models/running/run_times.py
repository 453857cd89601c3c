"""How long a model's runs took so far, to predict which would block the event loop."""

from __future__ import annotations

_NEWEST_WEIGHT = 0.2


class RunTimes:
    """Seconds of a run by the number of values that go in, in steps of powers of two."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def learn(self, size: int, seconds: float) -> None:
        """Note that a run of ``size`` values took ``seconds``; slow ones are forgotten slowly: the next may be slow."""
        step = size.bit_length()
        known = self._seconds.get(step)
        if known is not None and seconds < known:
            seconds = known + (seconds - known) * _NEWEST_WEIGHT
        self._seconds[step] = seconds

    def expect(self, size: int) -> float | None:
        """Seconds that a run of ``size`` values will take at most; None while nothing is known.

        Where no run of about that size was seen, it is scaled up from a smaller one, or taken from a larger one.
        """
        step = size.bit_length()
        known = self._seconds.get(step)
        if known is not None:
            return known
        smaller = max((other for other in self._seconds if other < step), default=None)
        if smaller is not None:
            return self._seconds[smaller] * float(2 ** (step - smaller))
        larger = min(self._seconds, default=None)
        return None if larger is None else self._seconds[larger]
