"""Tree ensembles of any framework as ONNX, compared and summed in double.

The operator is TreeEnsemble of ai.onnx.ml 5, where thresholds, leaves and result are all double; TreeEnsembleRegressor
of version 3 also compares doubles, but rounds its sums to float32, so that classes that are nearly tied come out tied.
A leaf of TreeEnsemble adds to one output only. Trees whose leaves hold several values answer the number of a row in a
table of the distinct leaves; the rows are gathered and added tree by tree, in the order in which the originals add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Protocol

from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError

ML = "ai.onnx.ml"
# The version of ai.onnx.ml in which TreeEnsemble appeared and the operators of RETIRED went.
ML_VERSION = 5
RETIRED = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
# How many gathered doubles a row may take at once: 1000 rows then take 8 MB.
GATHERED = 1024
# onnxruntime 1.32 reads a tree by recursion and dies: on a stack of 2 MB beyond 2000 levels, of 8 MB beyond 8000.
DEEPEST = 2000


class Mode(IntEnum):
    """A node's comparison, ``feature <mode> threshold``, by its number in TreeEnsemble."""

    LE = 0
    LT = 1
    GE = 2
    GT = 3
    EQ = 4
    NE = 5
    MEMBER = 6


@dataclass(frozen=True, eq=False)
class Tree:
    """One tree: arrays with an entry for each node; node 0 is the root.

    ``feature`` (int), ``threshold`` (double), ``true`` and ``false`` (int, the children; in a leaf both are negative)
    and ``value`` (double): either shape (nodes,), which the tree adds to the output ``target``, or (nodes, outputs).
    Values count in leaves only, comparisons in other nodes only. ``mode`` is a ``Mode`` for all nodes or an array of
    one each; ``nan_true`` says where a missing feature takes the true branch, for all or for each.

    ``members`` maps each node of mode MEMBER to the whole numbers that take the true branch. The feature there must be
    a whole number or NaN: onnxruntime 1.32 cuts off fractions before it looks a number up.
    """

    feature: Any
    threshold: Any
    true: Any
    false: Any
    value: Any
    mode: Any = Mode.LE
    nan_true: Any = False
    members: Mapping[int, Sequence[int]] = field(default_factory=lambda: MappingProxyType({}))
    target: int = 0


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees that are added up, in their order, to ``outputs`` values a row; their ``value`` are all of one shape.

    With ``average`` the sum is divided by the number of trees. ``base`` holds a value for each output: the sum starts
    from it, or it is added to the average.
    """

    trees: Sequence[Tree]
    outputs: int = 1
    average: bool = False
    base: Any = None


class Graph(Protocol):
    """What ``emit`` writes to: a tensor is its name; an array given for one becomes a constant."""

    def add(self, op_type: str, *inputs: Any, domain: str = "", version: int | None = None, **attributes: Any) -> str:
        """Add a node with one output and return that output's name."""

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add a constant, of ``dtype`` where given, and return its name."""


def emit(graph: Graph, x: str, forest: Forest) -> str:
    """Write ``forest`` for the matrix ``x``, double, shape (rows, features); the answer is double, (rows, outputs).

    The finished model must go through ``settle_opset``. Raises ``ConversionError`` where there are no trees, or where
    one is deeper than ``DEEPEST``.
    """
    import numpy as np

    if not forest.trees:
        raise ConversionError("the ensemble has no trees", hint="train it again, with at least one round")
    base = None if forest.base is None else np.asarray(forest.base, dtype=np.float64).reshape(1, forest.outputs)
    trees = list(forest.trees)
    several = any(np.ndim(tree.value) == 2 and forest.outputs > 1 for tree in trees)
    if base is not None and not forest.average and not several:
        trees = [*(_constant_tree(value, target) for target, value in enumerate(base[0]) if value), *trees]
        base = None
    total = _gathered(graph, x, trees, forest.outputs) if several else _summed(graph, x, trees, forest.outputs)
    if forest.average:
        total = graph.add("Div", total, graph.constant(np.float64(len(forest.trees)), np.float64))
    return total if base is None else graph.add("Add", total, graph.constant(base, np.float64))


def settle_opset(model: Any) -> None:
    """Raise a finished model to the version of ai.onnx.ml that its TreeEnsemble nodes need, if it has any.

    Raises ``ConversionError`` where another converter has put a tree operator in that this version no longer has.
    """
    kinds = {node.op_type for node in model.graph.node if node.domain == ML}
    if "TreeEnsemble" not in kinds:
        return
    if kinds.intersection(RETIRED):
        raise ConversionError(
            "the model mixes tree operators of two versions of ai.onnx.ml, which no graph can hold",
            hint=SCRIPT,
        )
    for entry in model.opset_import:
        if entry.domain == ML:
            entry.version = max(entry.version, ML_VERSION)


def _constant_tree(value: float, target: int) -> Tree:
    import numpy as np

    return Tree(np.zeros(1, int), np.zeros(1), np.full(1, -1), np.full(1, -1), np.full(1, value), target=target)


def _summed(graph: Graph, x: str, trees: Sequence[Tree], outputs: int) -> str:
    """Trees of which each adds one value a leaf to its own output."""
    import numpy as np

    weights = [np.asarray(tree.value, dtype=np.float64).reshape(-1) for tree in trees]
    return _ensemble(graph, x, trees, weights, [tree.target for tree in trees], outputs)


def _gathered(graph: Graph, x: str, trees: Sequence[Tree], outputs: int) -> str:
    """Trees whose leaves hold a value for every output."""
    import numpy as np

    values = [np.ascontiguousarray(tree.value, dtype=np.float64) + 0.0 for tree in trees]  # + 0.0: no negative zeros
    ends = np.cumsum([len(value) for value in values])[:-1]
    leaf = np.concatenate([np.asarray(tree.true) < 0 for tree in trees])
    rows = np.concatenate(values).reshape(len(leaf), outputs)
    # As bytes they sort several times faster than as numbers.
    leaves = rows[leaf].view(np.dtype((np.void, 8 * outputs)))[:, 0]
    known, number = np.unique(leaves, return_inverse=True)
    distinct = known.view(np.float64).reshape(-1, outputs)
    numbers = np.zeros(len(leaf))
    numbers[leaf] = number
    found = _ensemble(graph, x, trees, np.split(numbers, ends), list(range(len(trees))), len(trees))
    index, table = graph.add("Cast", found, to=7), graph.constant(distinct, np.float64)  # 7: int64
    step = max(1, GATHERED // outputs)
    total = ""
    for start in range(0, len(trees), step):
        part = index
        if step < len(trees):
            part = graph.add("Gather", index, np.arange(start, min(start + step, len(trees))), axis=1)
        picked = graph.add("Gather", table, part, axis=0)
        added = graph.add("ReduceSum", picked, np.array([1]), keepdims=0)
        total = graph.add("Add", total, added) if total else added
    return total


def _ensemble(
    graph: Graph, x: str, trees: Sequence[Tree], weights: Sequence[Any], targets: Sequence[int], outputs: int
) -> str:
    """One TreeEnsemble node: ``weights`` by tree and node, the output of each tree, and how many outputs there are."""
    import numpy as np
    from onnx import numpy_helper

    parts = [_flat(tree, weight, target) for tree, weight, target in zip(trees, weights, targets, strict=True)]
    inner_counts = np.array([len(part["feature"]) for part in parts])
    leaf_counts = np.array([len(part["weight"]) for part in parts])
    inner_starts, leaf_starts = np.cumsum(inner_counts) - inner_counts, np.cumsum(leaf_counts) - leaf_counts
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "members"}
    by_node_inner = np.repeat(inner_starts, inner_counts)
    by_node_leaf = np.repeat(leaf_starts, inner_counts)
    attributes: dict[str, Any] = {
        "n_targets": outputs,
        "aggregate_function": 1,  # SUM
        "post_transform": 0,  # NONE
        "tree_roots": inner_starts.tolist(),
        "nodes_featureids": whole["feature"].tolist(),
        "nodes_modes": numpy_helper.from_array(whole["mode"].astype(np.uint8), "nodes_modes"),
        "nodes_splits": numpy_helper.from_array(whole["threshold"], "nodes_splits"),
        "leaf_weights": numpy_helper.from_array(whole["weight"], "leaf_weights"),
        "leaf_targetids": whole["target"].tolist(),
    }
    for side in ("true", "false"):
        is_leaf = whole[f"{side}_leaf"]
        child = whole[side] + np.where(is_leaf, by_node_leaf, by_node_inner)
        attributes[f"nodes_{side}nodeids"] = child.tolist()
        attributes[f"nodes_{side}leafs"] = is_leaf.astype(np.int64).tolist()
    if whole["nan_true"].any():
        attributes["nodes_missing_value_tracks_true"] = whole["nan_true"].astype(np.int64).tolist()
    members = [item for part in parts for item in part["members"]]
    if members:
        attributes["membership_values"] = numpy_helper.from_array(np.concatenate(members), "membership_values")
    # Version 3 is what skl2onnx is told to aim at; ``settle_opset`` puts it right.
    return graph.add("TreeEnsemble", x, domain=ML, version=3, **attributes)


def _flat(tree: Tree, weight: Any, target: int) -> dict[str, Any]:
    """A tree's comparisons and leaves numbered apart, each from 0, comparisons in their order."""
    import numpy as np

    true, false = np.asarray(tree.true, dtype=np.int64), np.asarray(tree.false, dtype=np.int64)
    leaf = true < 0
    if leaf[0]:
        # A comparison whose two branches answer the same. With one leaf for both, onnxruntime 1.32 makes the tree a
        # leaf; where that is the first of all, it also takes the leaves that it drops when it joins a chain (see
        # ``_separated``), and adds them all up where there are several outputs.
        zeros, either = np.zeros(1, dtype=np.int64), np.ones(1, dtype=bool)
        return {
            "feature": zeros, "threshold": np.zeros(1), "mode": zeros, "nan_true": ~either,
            "true": zeros, "false": zeros + 1, "true_leaf": either, "false_leaf": either,
            "weight": np.repeat(weight[:1], 2), "target": np.full(2, target), "members": [],
        }  # fmt: skip
    inner = ~leaf
    feature = np.asarray(tree.feature, dtype=np.int64)
    mode = np.broadcast_to(np.asarray(tree.mode, dtype=np.int64), leaf.shape)
    missing = np.broadcast_to(np.asarray(tree.nan_true, dtype=bool), leaf.shape)
    # onnxruntime 1.32 lets NaN differ from everything, whatever the node says: write == with the branches swapped.
    differs = mode == Mode.NE
    mode, missing = np.where(differs, Mode.EQ, mode), missing ^ differs
    true, false = np.where(differs, false, true), np.where(differs, true, false)
    threshold = np.asarray(tree.threshold, dtype=np.float64).copy()
    sets = {node: tree.members[node] for node in np.flatnonzero(inner & (mode == Mode.MEMBER)).tolist()}
    for node in [node for node, items in sets.items() if not len(items)]:
        # onnxruntime 1.32 refuses an empty set; nothing is less than this either.
        del sets[node]
        mode[node], threshold[node] = Mode.LT, -np.inf
    threshold[mode == Mode.MEMBER] = 0.0
    nodes = {
        "feature": feature, "threshold": threshold, "mode": mode, "nan_true": missing, "true": true, "false": false,
        "weight": weight,
    }  # fmt: skip
    nodes = _separated(nodes)
    true, false = nodes["true"], nodes["false"]
    if _is_too_deep(true, false):
        raise ConversionError(
            f"a tree has more than {DEEPEST} levels, which onnxruntime cannot read", hint="train it with a max_depth"
        )
    leaf = true < 0
    inner = ~leaf
    number = np.where(leaf, np.cumsum(leaf), np.cumsum(inner)) - 1
    return {
        **{name: nodes[name][inner] for name in ("feature", "threshold", "mode", "nan_true")},
        "true": number[true[inner]],
        "false": number[false[inner]],
        "true_leaf": leaf[true[inner]],
        "false_leaf": leaf[false[inner]],
        "weight": nodes["weight"][leaf],
        "target": np.full(int(leaf.sum()), target),
        "members": [np.append(np.asarray(sorted(items), dtype=np.float64), np.nan) for items in sets.values()],
    }


def _separated(nodes: dict[str, Any]) -> dict[str, Any]:
    """The nodes of a tree, none of which onnxruntime joins to the wrong effect; new ones are at the end.

    onnxruntime 1.32 makes one comparison of two of one feature, with == or a set, the second on the first's false
    branch, where both true branches look the same. It looks at thresholds and leaves, but not at the ways of missing
    values, and keeps the first's. A comparison between the two that is always true keeps them apart.
    """
    import numpy as np

    feature, mode, missing = nodes["feature"], nodes["mode"], nodes["nan_true"]
    true, false, weight = nodes["true"], nodes["false"], nodes["weight"]
    inner = true >= 0
    if missing[inner].all() or not missing[inner].any():
        return nodes
    equality = inner & ((mode == Mode.EQ) | (mode == Mode.MEMBER))
    first = np.flatnonzero(equality & equality[false] & (feature == feature[false]))
    second = false[first]
    here, there = true[first], true[second]
    leaves = ~inner[here] & ~inner[there] & (weight[here] == weight[there]) & ~missing[first] & missing[second]
    # Of larger branches only the roots are compared here: to part what would have stayed apart does no harm.
    branches = inner[here] & inner[there]
    for name in ("feature", "mode", "threshold"):
        branches &= nodes[name][here] == nodes[name][there]
    parted = leaves | branches
    first, second = first[parted], second[parted]
    count, total = len(first), len(true)
    if not count:
        return nodes
    between = total + np.arange(count)
    false = false.copy()
    false[first] = between
    none = np.full(count, -1, dtype=np.int64)
    added = {
        "feature": (feature[first], none + 1),
        "threshold": (np.full(count, np.inf), np.zeros(count)),
        "mode": (np.full(count, Mode.LE, dtype=np.int64), none + 1),
        "nan_true": (np.ones(count, dtype=bool), np.zeros(count, dtype=bool)),
        "true": (second, none),
        "false": (between + count, none),  # a leaf that no row gets to
        "weight": (np.zeros(count), np.zeros(count)),
    }
    return {name: np.concatenate([values, *added[name]]) for name, values in (nodes | {"false": false}).items()}


def _is_too_deep(true: Any, false: Any) -> bool:
    import numpy as np

    if len(true) <= 2 * DEEPEST:  # a deeper one has more nodes
        return False
    level = np.zeros(1, dtype=np.int64)
    for _ in range(DEEPEST):
        level = np.concatenate([true[level], false[level]])
        level = level[true[level] >= 0]
        if not len(level):
            return False
    return True
