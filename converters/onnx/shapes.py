"""Ports of a graph that declare no shape: they take or give tensors of any rank.

The runtime shows such a shape as an empty one, which is also that of a scalar; only the model itself tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.graph.session import Port, Session
from converters.package import manifest
from converters.proof import samples
from converters.proof.specs import Spec

# The ranks that are tried, the usual ones first, and how many widths of weights.
_RANKS = (2, 1, 3, 4, 0)
_MOST_WIDTHS = 16


def undeclared(ports: Sequence[Any]) -> frozenset[str]:
    """The names of the inputs or outputs of a graph (``ValueInfoProto``) that declare no shape."""
    return frozenset(port.name for port in ports if not port.type.tensor_type.HasField("shape"))


def trials(model: Any, session: Session, sample: Path | None) -> Iterator[list[Spec]]:
    """The inputs, with shapes for those that declare none: as in the user's sample, else of several ranks in turn.

    ``UsageError`` for a sample that cannot be read.
    """
    specs = [Spec(port.name, port.dtype, port.shape) for port in session.inputs]
    free = undeclared(model.graph.input)
    if not free.intersection(spec.name for spec in specs):
        yield specs
        return
    if sample is not None:
        ranks = _ranks_of(sample, specs)
        yield [replace(spec, shape=(None,) * ranks.get(spec.name, 2)) if spec.name in free else spec for spec in specs]
        return
    for shape in _shapes(_widths(model, free)):
        yield [replace(spec, shape=shape) if spec.name in free else spec for spec in specs]


def described(converted: manifest.Converted, model: Any, ports: Sequence[Port]) -> manifest.Converted:
    """With a null for the shape of every input, and of every output in ``ports``, that is not known."""
    document = dict(converted.manifest)
    free = undeclared(model.graph.input)
    # Of an output the runtime may have found out what is not declared.
    unknown = undeclared(model.graph.output) & {port.name for port in ports if not port.shape}
    for field, names in (("inputs", free), ("outputs", unknown)):
        document[field] = [
            {**entry, "shape": None} if entry["graph_name"] in names else entry for entry in document[field]
        ]
    return replace(converted, manifest=document)


def _ranks_of(sample: Path, specs: Sequence[Spec]) -> Mapping[str, int]:
    """By input the rank of its array in the user's sample; the columns of a table belong to several inputs, or one."""
    given = samples.arrays(sample)
    if given is None:
        return {} if len(specs) == 1 else dict.fromkeys((spec.name for spec in specs), 1)
    if len(specs) == len(given) == 1:
        given = {specs[0].name: next(iter(given.values()))}
    return {name: array.ndim for name, array in given.items()}


def _widths(model: Any, free: frozenset[str]) -> list[int]:
    """The lengths of axes of the weights that nodes use on these inputs: one of them may be the inputs' width."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found: dict[int, None] = {}
    for node in model.graph.node:
        if free.intersection(node.input):
            found |= dict.fromkeys(length for name in node.input for length in weights.get(name, ()) if length > 1)
    return list(found)[:_MOST_WIDTHS]


def _shapes(widths: Sequence[int]) -> Iterator[tuple[int | None, ...]]:
    for rank in _RANKS:
        yield (None,) * rank
        if rank in (2, 3):
            yield from ((None,) * (rank - 1) + (width,) for width in widths)
        if rank == 4:
            yield from ((None, width, None, None) for width in widths)
