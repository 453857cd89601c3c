"""Which wheels share a layer."""

from __future__ import annotations

from dataclasses import dataclass

from packager.wheels.cache import Wheel


@dataclass(frozen=True)
class WheelGroup:
    """Wheels that share a layer."""

    kind: str
    title: str
    wheels: tuple[Wheel, ...]

    @property
    def planned_size(self) -> int:
        """Bytes of what goes in: the wheel files."""
        return sum(wheel.size for wheel in self.wheels)
