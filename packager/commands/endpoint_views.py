"""An endpoint as commands show it."""

from __future__ import annotations

from typing import Any

from packager.services.endpoint_deploying import Endpoints, Observed
from packager.services.endpoints.comparison import Comparison, compare
from packager.workspaces.workspace import Workspace


def endpoint_json(workspace: Workspace, found: Observed) -> dict[str, Any]:
    """The endpoint as the JSON interface shows it, with what its versions have answered beside each other."""
    one, seen = found.endpoint, found.seen
    address = Endpoints(workspace).address(one) or (None if seen is None else seen.url)
    return one.to_json() | {
        "state": None if seen is None else seen.state.value,
        "reason": None if seen is None else seen.reason,
        "scoring_uri": None if address is None else f"{address}/score",
        "since": None if seen is None else seen.to_json()["since"],
        "versions": _versions(found),
    }


def _versions(found: Observed) -> list[dict[str, Any]]:
    one = found.endpoint
    reported = {} if found.seen is None else {version.name: version for version in found.seen.versions}
    base = reported.get(one.service(one.control or one.default))
    versions = []
    for name, share in one.shares.items():
        seen = reported.get(one.service(name))
        comparison = None if seen is None or base is None or seen is base else compare(base, seen)
        versions.append({
            "name": name, "service": one.service(name), "traffic": share, "is_default": name == one.default,
            "is_control": name == one.control, "is_up": None if seen is None else seen.is_up,
            "requests": None if seen is None else seen.requests, "errors": None if seen is None else seen.errors,
            "latency_ms": None if seen is None else seen.latency_ms,
            "latency_most_ms": None if seen is None else seen.latency_most_ms,
            "comparison": None if comparison is None else comparison.to_json(),
        })  # fmt: skip
    return versions


def endpoint_rows(found: Observed) -> list[dict[str, object]]:
    """The versions of the endpoint side by side, as rows of a table."""
    return [_row(version) for version in _versions(found)]


def _row(version: dict[str, Any]) -> dict[str, object]:
    marks = [word for word, is_so in (("default", version["is_default"]), ("control", version["is_control"])) if is_so]
    requests, errors = version["requests"], version["errors"]
    rate = f"{errors} ({100 * errors / requests:.2f} %)" if requests else errors
    said = version["comparison"]
    return {
        "version": version["name"], "traffic": f"{version['traffic']} %", "role": " ".join(marks) or None,
        "up": None if version["is_up"] is None else "yes" if version["is_up"] else "no", "requests": requests,
        "errors": rate, "latency_ms": version["latency_ms"],
        "errors beside the control": None if said is None
        else Comparison(said["difference"], said["z"], said["p"]).words,
    }  # fmt: skip


def endpoint_line(workspace: Workspace, found: Observed) -> dict[str, object]:
    """The endpoint as one row of a table."""
    one = found.endpoint
    row: dict[str, object] = {
        "name": one.name, "state": None if found.seen is None else found.seen.state.value,
        "versions": ", ".join(f"{name} {share} %" for name, share in one.shares.items()), "default": one.default,
        "url": endpoint_json(workspace, found)["scoring_uri"],
    }  # fmt: skip
    return row if found.seen is None or found.seen.reason is None else row | {"reason": found.seen.reason}
