"""The layout of collected data: paths of files, and the columns that relate inputs to outputs."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

# The contract's names, in its order: section 7.
CORRELATIONS = (
    "$aml_dc_correlation_id",
    "$aml_dc_scoring_timestamp",
    "$aml_dc_boundary",
    "$aml_workspace",
    "$aml_service_name",
    "$aml_model_name",
    "$aml_model_version",
    "$aml_request_id",
)
WORKSPACE = "default/default/default"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def file_path(
    workspace: str, service: str, model: str, version: str, designation: str, name: str, day: datetime
) -> str:
    """The file of one day below the ring's folder.

    ``workspace`` is ``<subscription>/<group>/<workspace>``; characters that a path must not have become ``_``.
    """
    folder = _folder(workspace, service, model, version, designation)
    return f"{folder}/{day.year:04}/{day.month:02}/{day.day:02}/{_safe(name)}.csv"


@lru_cache(1024)
def _folder(workspace: str, service: str, model: str, version: str, designation: str) -> str:
    parts = [*(workspace.split("/") + ["default"] * 3)[:3], service, model, version, designation]
    return "/".join(["modeldata", *map(_safe, parts)])


def correlations(
    workspace: str, service: str, model: str, version: str, correlation: str, request_id: str, now: datetime
) -> dict[str, str]:
    """The eight columns' values for one call."""
    values = (
        correlation,
        (moment := now.isoformat(timespec="microseconds")),
        f"{moment[:13]}:00:00+00:00",  # the hour to which the row belongs
        workspace,
        service,
        model,
        version,
        request_id,
    )
    return dict(zip(CORRELATIONS, values, strict=True))


def utc_now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


@lru_cache(1024)
def _safe(part: str) -> str:
    cleaned = _UNSAFE.sub("_", part) or "default"
    return cleaned if cleaned.strip(".") else "_"
