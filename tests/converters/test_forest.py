"""Tree ensembles written by ``converters.graph.forest`` answer what walking the trees answers, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.graph import edits, forest
from converters.graph.forest import Forest, Mode, Tree
from converters.graph.session import Session
from edgepack.errors import ConversionError


class Writer:
    """A small graph of the double matrix X."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: Any = None) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def add(self, op_type: str, *inputs: Any, domain: str = "", version: int | None = None, **attributes: Any) -> str:
        names = [item if isinstance(item, str) else self.constant(item) for item in inputs]
        name = f"tensor{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, names, [name], domain=domain, **attributes))
        return name

    def model(self, output: str) -> Any:
        axes = [None, None]
        body = helper.make_graph(
            self.nodes,
            "forest",
            [helper.make_tensor_value_info("X", TensorProto.DOUBLE, axes)],
            [helper.make_tensor_value_info(output, TensorProto.DOUBLE, axes)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(forest.ML, 3)]
        return helper.make_model(body, opset_imports=opsets, ir_version=8)


def _answers(trees: Forest, x: Any) -> Any:
    writer = Writer()
    model = writer.model(forest.emit(writer, "X", trees))
    forest.settle_opset(model)
    edits.check(model)
    session = Session(edits.serialize(model))
    (whole,) = session.run({"X": x})
    one_by_one = np.vstack([session.run({"X": x[row : row + 1]})[0] for row in range(len(x))])
    np.testing.assert_array_equal(whole, one_by_one)
    return whole


COMPARE = {
    Mode.LE: np.less_equal,
    Mode.LT: np.less,
    Mode.GE: np.greater_equal,
    Mode.GT: np.greater,
    Mode.EQ: np.equal,
    Mode.NE: np.not_equal,
}


def _walk(trees: Forest, x: Any) -> Any:
    """The answers by the definition, one row and one node after the other."""
    total = np.zeros((len(x), trees.outputs))
    if trees.base is not None and not trees.average:
        total += trees.base
    for tree in trees.trees:
        modes = np.broadcast_to(tree.mode, tree.true.shape)
        missing = np.broadcast_to(tree.nan_true, tree.true.shape)
        for row, values in enumerate(x):
            node = 0
            while tree.true[node] >= 0:
                value = values[tree.feature[node]]
                if np.isnan(value):
                    taken = missing[node]
                elif modes[node] == Mode.MEMBER:
                    taken = value in tree.members[node]
                else:
                    taken = COMPARE[Mode(modes[node])](value, tree.threshold[node])
                node = tree.true[node] if taken else tree.false[node]
            if np.ndim(tree.value) == 2:
                total[row] += tree.value[node]
            else:
                total[row, tree.target] += tree.value[node]
    if trees.average:
        total = total / len(trees.trees)
        total = total if trees.base is None else total + trees.base
    return total


def _random_tree(random: Any, inner: int, outputs: int | None, target: int = 0) -> Tree:
    """``inner`` comparisons of features 0 to 3 (fractions) and 4 (whole numbers), leaves where nothing follows."""
    count = 2 * inner + 1
    true, false = np.full(count, -1), np.full(count, -1)
    free, following = [0], 1
    for _ in range(inner):
        node = free.pop(int(random.integers(len(free))))
        true[node], false[node] = following, following + 1
        free += [following, following + 1]
        following += 2
    mode = random.integers(0, 7, count)
    feature = np.where(mode == Mode.MEMBER, 4, random.integers(0, 4, count))
    members = {
        node: random.choice(260, int(random.choice([0, 1, 3, 60, 200])), replace=False).tolist()
        for node in np.flatnonzero((mode == Mode.MEMBER) & (true >= 0)).tolist()
    }
    return Tree(
        feature=feature,
        threshold=random.choice(np.append(random.standard_normal(12), np.inf), count),
        true=true,
        false=false,
        value=random.standard_normal(count if outputs is None else (count, outputs)),
        mode=mode,
        nan_true=random.random(count) < 0.5,
        members=members,
        target=target,
    )


def _rows(random: Any, trees: Forest) -> Any:
    """Every threshold, one ulp around it in double and in float32, whole numbers around the sets, and missing ones."""
    points = np.unique(np.concatenate([tree.threshold for tree in trees.trees]))
    points = points[np.isfinite(points)]
    around = [points, np.nextafter(points, np.inf), np.nextafter(points, -np.inf), points.astype(np.float32)]
    values = np.concatenate([*around, [np.inf, -np.inf, np.nan, np.nan, np.nan]])
    x = random.choice(values, (400, 5))
    x[:, 4] = random.choice(np.append(np.arange(-3, 400), [np.nan] * 40), 400)
    return x


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
def test_every_comparison_missing_values_and_sets_of_categories_go_where_the_definition_says(
    outputs: int, average: bool
) -> None:
    random = np.random.default_rng(outputs)
    trees = tuple(_random_tree(random, 12, None, target=number % outputs) for number in range(15))
    ensemble = Forest(trees, outputs, average, base=random.standard_normal(outputs))
    assert any(len(items) == 0 for tree in trees for items in tree.members.values())
    x = _rows(random, ensemble)
    np.testing.assert_array_equal(_answers(ensemble, x), _walk(ensemble, x))


@pytest.mark.parametrize("outputs", [2, 600])
def test_leaves_of_several_values_are_added_tree_by_tree(outputs: int) -> None:
    random = np.random.default_rng(7)
    ensemble = Forest(tuple(_random_tree(random, 9, outputs) for _ in range(5)), outputs, average=True)
    x = _rows(random, ensemble)[:100]
    np.testing.assert_array_equal(_answers(ensemble, x), _walk(ensemble, x))


def test_values_that_float32_cannot_tell_apart_stay_apart() -> None:
    tree = Tree(
        feature=np.zeros(3, int),
        threshold=np.array([0.1, 0.0, 0.0]),
        true=np.array([1, -1, -1]),
        false=np.array([2, -1, -1]),
        value=np.array([[0.0, 0.0], [0.5, 0.5 + 1e-12], [1e300, 0.0]]),
    )
    x = np.array([[0.1], [np.nextafter(0.1, 1)], [np.nextafter(0.1, 0)], [np.float32(0.1)]])
    answers = _answers(Forest((tree,), 2), x)
    assert answers.tolist() == [[0.5, 0.5 + 1e-12], [1e300, 0.0], [0.5, 0.5 + 1e-12], [1e300, 0.0]]


def _chains(random: Any, outputs: int | None, target: int) -> Tree:
    """Chains of ==, != and sets on few features, whose branches often answer the same and treat NaN differently."""
    mode, feature, threshold, true, false, value, members = [], [], [], [], [], [], {}
    features = int(random.integers(1, 3))

    def leaf(number: float) -> int:
        for column, entry in ((mode, 0), (feature, 0), (threshold, 0.0), (true, -1), (false, -1), (value, number)):
            column.append(entry)
        return len(mode) - 1

    def branch(kind: int) -> int:
        if kind < 2:
            return leaf(kind + 1.0)
        node = leaf(0.0)
        mode[node], feature[node], threshold[node] = [Mode.LE, Mode.EQ][kind - 2], 1, 3.0
        true[node], false[node] = leaf(3.0), leaf(4.0)
        return node

    def chain(length: int) -> int:
        node = leaf(0.0)
        if length:
            mode[node] = int(random.choice([Mode.EQ, Mode.NE, Mode.MEMBER]))
            feature[node], threshold[node] = 0 if mode[node] == Mode.MEMBER else random.integers(features), 3.0
            if random.random() < 0.8:
                threshold[node] = float(random.integers(1, 9))
            if mode[node] == Mode.MEMBER:
                members[node] = random.choice(60, int(random.integers(1, 4)), replace=False).tolist()
            ends = [branch(int(random.integers(4))), chain(length - 1)]
            true[node], false[node] = ends[::-1] if mode[node] == Mode.NE else ends
        return node

    chain(int(random.integers(0, 6)))
    values = np.array(value)
    return Tree(
        feature=np.array(feature, dtype=int),
        threshold=np.array(threshold),
        true=np.array(true),
        false=np.array(false),
        value=values if outputs is None else np.stack([values + number for number in range(outputs)], axis=1),
        mode=np.array(mode),
        nan_true=random.random(len(mode)) < random.choice([0.0, 0.5, 1.0]),
        members=members,
        target=target,
    )


@pytest.mark.parametrize("kind", ["one output", "several outputs", "leaves of several values"])
def test_chains_of_categories_whose_leaves_are_equal_answer_one_leaf_each(kind: str) -> None:
    random = np.random.default_rng(5)
    outputs = 1 if kind == "one output" else 3
    for _ in range(60):
        shape = outputs if kind == "leaves of several values" else None
        trees = tuple(_chains(random, shape, number % outputs) for number in range(int(random.integers(1, 5))))
        base = random.integers(0, 2, outputs) if kind == "several outputs" else None
        ensemble = Forest(trees, outputs, base=base)
        x = random.integers(-1, 20, (40, 2)) / random.choice([1.0, 2.0], (40, 2))
        x[:, 0] = np.floor(x[:, 0])  # sets are for whole numbers
        x[random.random(x.shape) < 0.2] = np.nan
        np.testing.assert_array_equal(_answers(ensemble, x), _walk(ensemble, x))


@pytest.mark.parametrize("value", [np.array([2.5]), np.array([[2.5, -1.0]])])
def test_a_tree_of_a_single_leaf_answers_its_value(value: Any) -> None:
    leaf = Tree(np.array([-2]), np.array([-2.0]), np.array([-1]), np.array([-1]), value)
    answers = _answers(Forest((leaf, leaf), value.size), np.array([[np.nan], [1.0]]))
    np.testing.assert_array_equal(answers, np.tile(2 * value.reshape(1, -1), (2, 1)))


@pytest.mark.parametrize("depth", [forest.DEEPEST, forest.DEEPEST + 1])
def test_a_tree_too_deep_for_the_runtime_is_refused(depth: int) -> None:
    number = np.arange(depth)
    true, false = np.full(2 * depth + 1, -1), np.full(2 * depth + 1, -1)
    true[:depth], false[:depth] = depth + 1 + number, number + 1
    values = np.arange(2.0 * depth + 1)
    chain = Forest((Tree(np.zeros(2 * depth + 1, int), values, true, false, values),))
    if depth > forest.DEEPEST:
        with pytest.raises(ConversionError, match="levels"):
            forest.emit(Writer(), "X", chain)
    else:
        x = np.array([[0.0], [7.5], [depth + 1.0]])
        assert _answers(chain, x).ravel().tolist() == [depth + 1, depth + 9, depth]


def test_no_trees_are_refused() -> None:
    with pytest.raises(ConversionError, match="no trees"):
        forest.emit(Writer(), "X", Forest(()))


def test_tree_operators_of_two_versions_are_refused_and_a_graph_without_ours_is_left_alone() -> None:
    writer = Writer()
    leaf = Tree(np.array([-2]), np.array([-2.0]), np.array([-1]), np.array([-1]), np.array([1.0]))
    model = writer.model(forest.emit(writer, "X", Forest((leaf,))))
    old = helper.make_node("TreeEnsembleRegressor", ["X"], ["old"], domain=forest.ML)
    model.graph.node.append(old)
    with pytest.raises(ConversionError, match="two versions"):
        forest.settle_opset(model)
    del model.graph.node[0]
    forest.settle_opset(model)
    assert edits.opsets(model)[forest.ML] == 3
    assert isinstance(model, onnx.ModelProto)
