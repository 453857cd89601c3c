"""A user's options for a conversion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgepack.errors import UsageError

ANY_OUTPUT = "*"
LARGEST_TOLERANCE = 1.0


@dataclass(frozen=True)
class Options:
    """``sample`` is a file of input rows; ``entry`` a PyTorch model's ``module:factory``; ``signature`` a SavedModel's.

    ``allow_unsafe`` admits files that run code of their own when they are loaded (``.h5``, ``Lambda`` layers) in the
    sandbox. ``tolerances`` maps an output's name, or ``*`` for every output, to a relative difference that the user
    accepts and that the package then records. ``optimize`` tries smaller and faster variants.

    Raises ``UsageError`` for a tolerance out of range.
    """

    sample: Path | None = None
    entry: str | None = None
    signature: str | None = None
    allow_unsafe: bool = False
    tolerances: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    optimize: bool = False

    def __post_init__(self) -> None:
        for name, value in self.tolerances.items():
            if not 0 < value <= LARGEST_TOLERANCE:
                raise UsageError(
                    f"a tolerance of {value!r} for {name!r} is out of range",
                    hint=f"give a relative difference above 0, at most {LARGEST_TOLERANCE:g}, such as 1e-3",
                )

    def tolerance(self, output: str) -> float | None:
        """What the user accepts for an output; None where it was not given."""
        return self.tolerances.get(output, self.tolerances.get(ANY_OUTPUT))

    def to_json(self) -> dict[str, Any]:
        """For the sandbox's request."""
        return {
            "sample": None if self.sample is None else str(self.sample),
            "entry": self.entry,
            "signature": self.signature,
            "allow_unsafe": self.allow_unsafe,
            "tolerances": dict(self.tolerances),
            "optimize": self.optimize,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Options:
        """The options that ``to_json`` wrote."""
        sample = value["sample"]
        return cls(**{**value, "sample": None if sample is None else Path(sample)})
