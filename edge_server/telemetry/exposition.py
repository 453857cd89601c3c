"""Prometheus' text exposition format, version 0.0.4."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

Labels = Iterable[tuple[str, str]]


def family(name: str, kind: str, help_text: str) -> str:
    """The lines before a family's samples; ``kind`` is counter, gauge, summary or histogram."""
    escaped = help_text.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {escaped}\n# TYPE {name} {kind}\n"


def sample(name: str, labels: Labels, value: float) -> str:
    """One line."""
    return f"{name}{_braced(labels)} {number(value)}\n"


def histogram(name: str, labels: Sequence[tuple[str, str]], bounds: Sequence[float], cells: Sequence[float]) -> str:
    """The lines of one histogram: ``cells`` hold the count of each bucket, the count above all bounds, and the sum."""
    counts = list(accumulate(cells[:-1]))
    edges = [*map(number, bounds), "+Inf"]
    lines = [
        sample(f"{name}_bucket", [*labels, ("le", edge)], count) for edge, count in zip(edges, counts, strict=True)
    ]
    lines += [sample(f"{name}_sum", labels, cells[-1]), sample(f"{name}_count", labels, counts[-1])]
    return "".join(lines)


def number(value: float) -> str:
    """A number as the format writes it: whole numbers without a point."""
    if math.isfinite(value):
        return str(int(value)) if value == int(value) else repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _braced(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
