"""The parity report (JSON, schema ``edgepack.parity/v1``) as one HTML page without any other file or script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from converters.report import plots

STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}h3{font-size:1rem}
table{border-collapse:collapse;margin:.5rem 0}
th,td{border-bottom:1px solid #8886;padding:.25rem .7rem;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.pass{color:#17803d}.fail{color:#c22}
svg{margin-right:1rem}svg text{font-size:10px;fill:currentColor}
.axis{fill:none;stroke:currentColor;opacity:.5}.bar,.point{fill:#3b6fd4}.point{opacity:.6}
.limit{stroke:#c22;stroke-dasharray:4 3}.equal{stroke:currentColor;opacity:.3}
"""


def render(report: Mapping[str, Any], title: str) -> str:
    """The page for ``report``; ``title`` names the model."""
    sections = [
        _head(report, title),
        _outputs(report),
        _plots(report),
        _by_rows(report),
        _odd(report),
        _variants(report),
        _attempts(report),
        _facts(report),
    ]
    body = "\n".join(filter(None, sections))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Parity of {escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _head(report: Mapping[str, Any], title: str) -> str:
    source, summary = report.get("source", {}), report.get("summary")
    text = f"{source.get('framework')} {source.get('version')}, recipe: {source.get('recipe')}"
    if "refusal" in report:
        text = f"{source.get('framework')}, {source.get('file')}"
    if report.get("estimator"):
        text = f"{report['estimator']}, {text}"
    lines = [f"<h1>Parity of {escape(title)}</h1>", f"<p>{escape(text)}</p>"]
    if "refusal" in report:
        lines.append(f'<p><strong class="fail">Refused</strong>: {escape(str(report["refusal"]["what"]))}</p>')
        lines.append(f"<p>What to do: {escape(str(report['refusal']['hint']))}</p>")
    elif summary is None:
        lines.append("<p><strong>Not compared</strong>: the model could not be run without a sample.</p>")
    else:
        verdict = (
            '<strong class="pass">passed</strong>' if summary["passed"] else '<strong class="fail">failed</strong>'
        )
        lines.append(f"<p>The ONNX model answers like the original: {verdict}, on {summary['rows']} rows.</p>")
        if summary.get("accepted"):
            text = ", ".join(f"{name}: {value:g}" for name, value in summary["accepted"].items())
            lines.append(f"<p><strong>Differences accepted by name:</strong> {escape(text)}</p>")
    warnings = report.get("warnings") or []
    if warnings:
        lines.append("<ul>" + "".join(f"<li>{escape(str(note))}</li>" for note in warnings) + "</ul>")
    return "\n".join(lines)


def _outputs(report: Mapping[str, Any]) -> str:
    rows = [
        (
            entry["name"],
            entry["method"],
            entry["rows"],
            _number(entry["max_abs"]),
            _number(entry["max_rel"]),
            _share(entry["label_agreement"]),
            entry["differing"],
            entry["ties"],
            "passed" if entry["passed"] else "failed",
        )
        for entry in report.get("outputs", [])
    ]
    head = ("output", "method", "rows", "largest difference", "relative", "labels agree", "rows off", "ties", "")
    return _section("Outputs", head, rows)


def _plots(report: Mapping[str, Any]) -> str:
    drawn = []
    for entry in report.get("outputs", []):
        sketch = entry.get("sketch") or {}
        plot = plots.histogram(sketch.get("decades", {}), entry.get("tolerance")) + plots.scatter(
            sketch.get("points", [])
        )
        if plot:
            drawn.append(f"<h3>{escape(entry['name'])}</h3>\n{plot}")
    return "\n".join(["<h2>Differences and answers</h2>", *drawn]) if drawn else ""


def _by_rows(report: Mapping[str, Any]) -> str:
    rows = []
    for kind, found in (report.get("rows") or {}).items():
        if not isinstance(found, Mapping):
            rows.append((kind, found, "", "", "", "", ""))
            continue
        for name, seen in found["outputs"].items():
            rows.append(
                (
                    kind,
                    found["rows"],
                    name,
                    _number(seen["max_abs"]),
                    _share(seen["label_agreement"]),
                    seen["differing"],
                    seen["ties"],
                )
            )
    head = ("kind", "rows", "output", "largest difference", "labels agree", "rows off", "ties")
    return _section("Rows compared", head, rows)


def _odd(report: Mapping[str, Any]) -> str:
    rows = []
    for kind, treatment in (report.get("odd_inputs") or {}).items():
        entry = treatment if isinstance(treatment, Mapping) else {"verdict": treatment}
        verdict = str(entry["verdict"])
        rows.append((kind.replace("_", " "), verdict, entry.get("original", ""), entry.get("onnx", "")))
    return _section("Unusual inputs", ("input", "verdict", "the original", "the ONNX model"), rows)


def _variants(report: Mapping[str, Any]) -> str:
    rows = [
        (
            entry["name"],
            _size(entry.get("size")),
            _micros(entry.get("latency")),
            _share(entry.get("label_agreement")),
            _number(entry.get("max_abs")),
            "kept" if entry.get("kept") else entry.get("reason", ""),
        )
        for entry in report.get("variants", [])
    ]
    head = ("variant", "size", "one row", "labels agree", "largest difference", "")
    return _section("Optimised variants", head, rows)


def _attempts(report: Mapping[str, Any]) -> str:
    entries = report.get("attempts", [])
    tried = _section("Recipes tried", ("recipe", "outcome"), [(entry["recipe"], entry["outcome"]) for entry in entries])
    rows = [
        (
            entry["recipe"],
            entry.get("output"),
            row["row"],
            row.get("kind", ""),
            _cells(row),
            row["original"],
            row["onnx"],
        )
        for entry in entries
        for row in entry.get("differing_rows", ())
    ]
    head = ("recipe", "output", "row", "kind", "inputs", "the original", "the ONNX model")
    return "\n".join(filter(None, [tried, _section("Rows that differ", head, rows)]))


def _cells(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.get("inputs", {}).items())


def _facts(report: Mapping[str, Any]) -> str:
    isolation = report.get("isolation") or {}
    rows = [(name, version) for name, version in (report.get("versions") or {}).items()]
    rows += [(f"isolation: {name}", value) for name, value in isolation.items() if value is not None]
    rows += [("model digest", (report.get("source") or {}).get("digest", ""))]
    return _section("Made with", ("part", "version"), rows)


def _section(title: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows]
    if not lines:
        return ""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return (
        f"<h2>{escape(title)}</h2>\n<table><thead><tr>{names}</tr></thead>\n<tbody>\n"
        + "\n".join(lines)
        + ("\n</tbody></table>")
    )


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    if text in ("passed", "failed"):
        return f'<td class="{text[:4]}">{text}</td>'
    return f'<td class="n">{text}</td>' if isinstance(value, int | float) else f"<td>{escape(text)}</td>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _size(value: int | None) -> str:
    return "" if value is None else f"{value / 1000:.1f} kB"


def _micros(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e6:.0f} µs"
