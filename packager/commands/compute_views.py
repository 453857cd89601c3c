"""A compute target as commands show it."""

from __future__ import annotations

from packager.services.targets.compute_target import ComputeTarget


def compute_row(one: ComputeTarget) -> dict[str, object]:
    """The target as one row of a table."""
    return {
        "name": one.name, "context": one.context, "namespace": one.namespace,
        "kubeconfig": None if one.kubeconfig is None else str(one.kubeconfig),
    }  # fmt: skip
