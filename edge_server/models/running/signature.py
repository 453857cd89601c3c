"""Inputs and outputs of a graph as the runtime shows them, for models without a manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_server.errors import ScoringError
from edge_server.models.files.manifest import GRAPH_DTYPES, InputSpec, OutputSpec
from edge_server.models.files.ports import scalars

# ``tensor(float)``, ``optional(tensor(float))``; sequences and maps do not match.
_TENSOR = re.compile(r"(optional\()?tensor\((\w+)\)+")


def inputs_of(path: Path, session: Any) -> tuple[InputSpec, ...]:
    """The graph's own inputs; ScoringError when one of them is not a tensor, or there are none."""
    specs = []
    shapes = _Shapes(path)
    overridable = session.get_overridable_initializers()
    for node in (*session.get_inputs(), *overridable):
        dtype = dtype_of(node.type)
        if dtype is None:
            raise ScoringError(f"{path}: the input {node.name!r} is {node.type}, which cannot be given as JSON")
        optional = node.type.startswith("optional(") or node in overridable
        specs.append(InputSpec(node.name, node.name, dtype, shapes.of(node), optional=optional))
    if not specs:
        raise ScoringError(f"{path}: the graph has no inputs, so that there is nothing to score")
    return tuple(specs)


def outputs_of(path: Path, session: Any) -> tuple[OutputSpec, ...]:
    """The graph's own outputs; ScoringError for a tensor of a type that cannot be answered with."""
    specs = []
    shapes = _Shapes(path)
    for node in session.get_outputs():
        dtype = dtype_of(node.type)
        if dtype is None and _TENSOR.fullmatch(node.type):
            raise ScoringError(f"{path}: the output {node.name!r} is {node.type}, which JSON and numpy do not have")
        specs.append(OutputSpec(node.name, node.name, dtype, None if dtype is None else shapes.of(node)))
    return tuple(specs)


class _Shapes:
    """The shapes of a graph's ports; the file is read only where the runtime leaves something open."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _scalars(self) -> frozenset[str]:
        return scalars(self._path)

    def of(self, node: Any) -> tuple[int | None, ...] | None:
        """None for any rank, which the runtime shows as a shape without axes, as it shows a scalar's."""
        if not node.shape and node.name not in self._scalars:
            return None
        return tuple(size if isinstance(size, int) else None for size in node.shape)


def shared_lengths(session: Any, names: Mapping[str, str]) -> dict[str, list[tuple[str, int]]]:
    """Names of lengths that the graph has more than once, with the inputs and axes that have them."""
    places: dict[str, list[tuple[str, int]]] = {}
    for node in session.get_inputs():
        for axis, size in enumerate(node.shape):
            if isinstance(size, str) and size and node.name in names:
                places.setdefault(size, []).append((names[node.name], axis))
    return {symbol: found for symbol, found in places.items() if len(found) > 1}


def dtype_of(graph_type: str) -> str | None:
    """``tensor(float)`` to ``float32``; None for what is not a tensor, or is of a type that numpy does not have."""
    found = _TENSOR.fullmatch(graph_type)
    return None if found is None else GRAPH_DTYPES.get(found[2])
