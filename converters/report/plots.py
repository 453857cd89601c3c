"""Small plots as SVG text: how large the differences are, and the ONNX model's answers over the original's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 360, 220, 52, 34, 10


def histogram(decades: Mapping[str, int], allowed: float | None) -> str:
    """Counts of values by the decade of their absolute difference; ``allowed`` is marked where it is given."""
    if not decades:
        return ""
    lowest, highest = min(map(int, decades)), max(map(int, decades))
    if allowed is not None:
        mark = _decade(allowed)
        lowest, highest = min(lowest, mark), max(highest, mark)
    span = highest - lowest + 1
    step, tallest = (WIDTH - LEFT - 10) / span, max(decades.values())
    parts = [_axes("absolute difference", "values")]
    for decade in range(lowest, highest + 1):
        count = decades.get(str(decade), 0)
        x, full = LEFT + (decade - lowest) * step, HEIGHT - BOTTOM - TOP
        height = full * count / tallest
        if count:
            parts.append(
                f'<rect x="{x + 1:.1f}" y="{HEIGHT - BOTTOM - height:.1f}" width="{max(step - 2, 1):.1f}" '
                f'height="{height:.1f}" class="bar"><title>{count} values: {_span(decade)}</title></rect>'
            )
        if span <= 10 or (decade - lowest) % 2 == 0:
            parts.append(_text(x + step / 2, HEIGHT - BOTTOM + 13, f"1e{decade}", "middle"))
    parts.append(_text(LEFT - 4, TOP + 8, str(tallest), "end"))
    if allowed is not None:
        x = LEFT + (_decade(allowed) - lowest + 0.5) * step
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" class="limit"/>')
        parts.append(_text(x - 4, TOP + 10, "allowed", "end"))
    return _svg(parts, "histogram of the differences")


def scatter(points: Sequence[Sequence[float]]) -> str:
    """The ONNX model's answers (up) over the original's (right); on the line where they are equal."""
    if not points:
        return ""
    values = [value for point in points for value in point]
    low, high = min(values), max(values)
    size = (high - low) or max(abs(high), 1.0)
    low, high = low - size * 0.05, high + size * 0.05

    def across(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - 10)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP)

    parts = [_axes("original", "ONNX")]
    parts.append(
        f'<line x1="{across(low):.1f}" y1="{up(low):.1f}" x2="{across(high):.1f}" y2="{up(high):.1f}" class="equal"/>'
    )
    parts += [f'<circle cx="{across(a):.1f}" cy="{up(b):.1f}" r="2" class="point"/>' for a, b in points]
    parts.append(_text(LEFT, HEIGHT - BOTTOM + 13, f"{min(values):.3g}", "start"))
    parts.append(_text(WIDTH - 10, HEIGHT - BOTTOM + 13, f"{max(values):.3g}", "end"))
    return _svg(parts, "answers of the ONNX model over those of the original")


def _decade(value: float) -> int:
    return int(f"{value:.0e}".partition("e")[2])


def _span(decade: int) -> str:
    return "equal, or nearly" if decade <= -16 else f"1e{decade} to 1e{decade + 1}"


def _axes(below: str, beside: str) -> str:
    bottom = HEIGHT - BOTTOM
    return (
        f'<path d="M{LEFT} {TOP}V{bottom}H{WIDTH - 10}" class="axis"/>'
        + _text((LEFT + WIDTH) / 2, HEIGHT - 4, below, "middle")
        + f'<text transform="translate(12 {(TOP + bottom) / 2:.0f}) rotate(-90)" text-anchor="middle">{escape(beside)}'
        "</text>"
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(parts: Sequence[str], label: str) -> str:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg {size} role="img" aria-label="{escape(label)}">' + "".join(parts) + "</svg>"
