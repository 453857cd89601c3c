"""One order and one naming for equal ONNX graphs: some converters' own depend on addresses in memory.

Runs inside the sandbox only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any


def canonical(model: Any) -> None:
    """Order nodes and weights by how the outputs need them, and name them by that order; the unneeded goes.

    Inputs and outputs of the model keep their names, which say more than what is between.
    """
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    numbers = (f"t{number}" for number in itertools.count())
    fresh = (name for name in numbers if name not in kept)
    _rewrite(model.graph, {name: name for name in kept}, fresh)


def _rewrite(graph: Any, outer: dict[str, str], fresh: Iterator[str]) -> None:
    """``outer`` maps old names to new ones for what is visible already."""
    ordered = _ordered(graph)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    used = [name for node in ordered for name in _reads(node)] + [value.name for value in graph.output]
    chosen = [weights[name] for name in dict.fromkeys(used) if name in weights]
    names = dict(outer)
    inside = [value.name for value in graph.input] + [tensor.name for tensor in chosen]
    for name in [*inside, *(output for node in ordered for output in node.output if output)]:
        if name not in outer:
            names[name] = next(fresh)
    for node in ordered:
        node.name = names.get(node.output[0], node.output[0])
        for field in (node.input, node.output):
            for position, name in enumerate(field):
                field[position] = names.get(name, name)
        for inner in _subgraphs(node):
            inner.name = node.name
            _rewrite(inner, names, fresh)
    for thing in (*graph.input, *graph.output, *chosen):
        thing.name = names.get(thing.name, thing.name)
    nodes = [_copy(node) for node in ordered]
    tensors = [_copy(tensor) for tensor in chosen]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)


def _ordered(graph: Any) -> list[Any]:
    """The nodes that the outputs need, each after those that it reads from."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    done: dict[int, Any] = {}
    waiting = [(makers[value.name], False) for value in reversed(graph.output) if value.name in makers]
    while waiting:
        number, ready = waiting.pop()
        if number in done:
            continue
        node = graph.node[number]
        if ready:
            done[number] = node
            continue
        waiting.append((number, True))
        waiting.extend((makers[name], False) for name in reversed(_reads(node)) if name in makers)
    return list(done.values())


def _reads(node: Any) -> list[str]:
    """The names that a node reads, also from inside its subgraphs, in a fixed order."""
    names = [name for name in node.input if name]
    for inner in _subgraphs(node):
        for child in _ordered(inner):
            names += _reads(child)
        names += [value.name for value in inner.output]
    return names


def _subgraphs(node: Any) -> list[Any]:
    attributes = sorted(node.attribute, key=lambda attribute: str(attribute.name))
    return [graph for entry in attributes for graph in (*((entry.g,) if entry.HasField("g") else ()), *entry.graphs)]


def _copy(message: Any) -> Any:
    made = type(message)()
    made.CopyFrom(message)
    attributes = getattr(made, "attribute", None)
    if attributes is not None:
        attributes.sort(key=lambda attribute: attribute.name)
    return made
