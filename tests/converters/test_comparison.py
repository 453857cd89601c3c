"""Models of named tensors are compared with their originals at several sizes and on unusual inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters import Options
from converters.graph import checks, edits
from converters.graph.canonical import canonical
from converters.graph.session import Session
from converters.proof import comparison, feeds, second_opinion
from converters.proof.exploration import explore
from converters.proof.parity import MismatchError
from converters.proof.specs import Spec
from edgepack.errors import ConversionError, UsageError

TABLE = np.arange(20, dtype=np.float32).reshape(10, 2)
WEIGHTS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


@dataclass(frozen=True)
class Original:
    """A function of arrays; what it raises is its refusal."""

    function: Callable[..., Mapping[str, Any]]

    def answer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return dict(self.function(**feeds))
        except (IndexError, ValueError, KeyError) as error:
            raise ConversionError(str(error)) from error


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], **weights: Any) -> Any:
    body = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _product(x: Any) -> Any:
    with np.errstate(invalid="ignore"):  # infinity times 0
        return x @ WEIGHTS


def _linear(weights: Any = WEIGHTS) -> Session:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    ports = [("x", TensorProto.FLOAT, ["n", 3])], [("y", TensorProto.FLOAT, ["n", 4])]
    return Session(_model([node], *ports, w=weights).SerializeToString())


def _lookup() -> Session:
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    ports = [("ids", TensorProto.INT64, ["n", "t"])], [("y", TensorProto.FLOAT, ["n", "t", 2])]
    return Session(_model([node], *ports, table=TABLE).SerializeToString())


LINEAR = Original(lambda x: {"y": _product(x)})
X = Spec("x", "float32", (None, 3))


def _strict_table(ids: Any) -> dict[str, Any]:
    if (ids < 0).any():
        raise IndexError("negative")
    return {"y": TABLE[ids]}


def _prove(original: Original, session: Session, *specs: Spec, **options: Any) -> comparison.Proof:
    return comparison.prove(original, session, explore(original, specs), Options(**options))


def test_equal_model_is_proven_at_every_size() -> None:
    proof = _prove(LINEAR, _linear(), X)
    assert proof.batches == (1, 2, 4, 7, 256)
    assert [(entry.name, entry.passed, entry.rows) for entry in proof.parities] == [("y", True, 270)]
    assert proof.unusual["nan"] == proof.unusual["infinity"] == proof.unusual["empty"] == "equal"
    assert proof.rejects["huge"] is proof.rejects["infinity"] is False
    assert proof.golden is not None
    np.testing.assert_allclose(np.array(proof.golden["inputs"]["x"]) @ WEIGHTS, proof.golden["outputs"]["y"], rtol=1e-4)


def test_difference_is_refused_unless_it_was_accepted_by_name() -> None:
    session = _linear(WEIGHTS * np.float32(1.01))
    with pytest.raises(ConversionError, match=r'output "y".*270 rows differ'):
        _prove(LINEAR, session, X)
    proof = _prove(LINEAR, session, X, tolerances={"y": 0.02})
    assert proof.parities[0].accepted


def test_batch_that_was_baked_in_is_noticed() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Reshape", ["z", "shape"], ["y"])]
    ports = [("x", TensorProto.FLOAT, ["n", 3])], [("y", TensorProto.FLOAT, ["n", 4])]
    model = _model(nodes, *ports, w=WEIGHTS, shape=np.array([1, 4], np.int64))
    with pytest.raises(ConversionError, match=r"fails where the original answers \(x \(2, 3\)\)"):
        _prove(LINEAR, Session(model.SerializeToString()), X)


def test_model_of_one_size_is_run_at_that_size_and_says_so() -> None:
    proof = _prove(LINEAR, _linear(), Spec("x", "float32", (5, 3)))
    assert proof.batches == (5,)
    assert proof.parities[0].rows == 40
    assert proof.warnings == ("the model takes batches of 5 only",)


def test_range_of_whole_numbers_is_found_and_what_lies_outside_is_recorded() -> None:
    original = Original(_strict_table)
    explored = explore(original, [Spec("ids", "int64", (None, None))])
    assert (explored.specs[0].low, explored.specs[0].high) == (0, 9)
    drawn = feeds.random_feeds(explored.specs, 200)["ids"]
    assert (drawn.min(), drawn.max()) == (0, 9)
    proof = comparison.prove(original, _lookup(), explored, Options())
    assert proof.unusual["negative"] == proof.unusual["unknown"] == "rejected"
    # ONNX counts -1 from the end, and refuses 10.
    assert proof.warnings == ("the original refuses negative whole numbers, which the ONNX model reads as others",)


def test_closed_vocabulary_is_kept_to() -> None:
    words = {"red": 0.0, "green": 1.0}
    original = Original(lambda word: {"y": np.vectorize(words.__getitem__, otypes=[np.float32])(word)})
    (spec,) = explore(original, [Spec("word", "string", (None, 1), tuple(words))]).specs
    assert spec.closed
    assert set(feeds.random_feeds([spec], 50)["word"].ravel()) == set(words)


def test_thresholds_are_met_exactly_and_beside() -> None:
    drawn = feeds.random_feeds([Spec("x", "float32", (None, 4), values=(0.5,))], 200)["x"]
    half = np.float32(0.5)
    for value in (half, np.nextafter(half, np.float32(0)), np.nextafter(half, np.float32(1))):
        assert (drawn == value).any()


def test_input_that_the_original_does_not_have_is_refused() -> None:
    node = helper.make_node("Add", ["x", "mean"], ["y"])
    ports = [("x", TensorProto.FLOAT, ["n", 3]), ("mean", TensorProto.FLOAT, [1, 3])]
    session = Session(_model([node], ports, [("y", TensorProto.FLOAT, ["n", 3])]).SerializeToString())
    with pytest.raises(ConversionError, match=r"inputs that the original does not have \(mean\)"):
        _prove(Original(lambda x: {"y": x}), session, X)


def test_sample_keeps_its_axes_and_is_matched_by_name(tmp_path: Path) -> None:
    specs = [Spec("picture", "float32", (None, 4, 4, 3)), Spec("size", "int64", (None, 1))]
    pictures = np.random.default_rng(0).random((6, 4, 4, 3))
    np.savez(tmp_path / "s.npz", size=np.arange(6.0)[:, None], picture=pictures, more=np.zeros(6))
    found = feeds.sample_feeds(specs, tmp_path / "s.npz")
    np.testing.assert_array_equal(found["picture"], pictures.astype(np.float32))
    assert found["size"].dtype == np.int64
    (tmp_path / "s.csv").write_text("a,b,c\n1,2,3\n4,5,6\n")
    np.testing.assert_array_equal(feeds.sample_feeds([X], tmp_path / "s.csv")["x"], [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"picture": np.zeros((2, 4, 4, 3))}, "lacks the model's input 'size'"),
        ({"picture": np.zeros((2, 5, 4, 3)), "size": np.zeros((2, 1))}, r"shape \(2, 5, 4, 3\), the model takes"),
        ({"picture": np.zeros((2, 4, 4, 3)), "size": np.full((2, 1), 0.5)}, "holds float64, the model takes int64"),
        ({"picture": np.zeros((0, 4, 4, 3)), "size": np.zeros((0, 1))}, "no rows"),
    ],
    ids=["missing", "shape", "fractions", "empty"],
)
def test_sample_that_does_not_fit_is_refused(arrays: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    specs = [Spec("picture", "float32", (None, 4, 4, 3)), Spec("size", "int64", (None, 1))]
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(UsageError, match=sentence):
        feeds.sample_feeds(specs, tmp_path / "s.npz")


def test_sample_that_is_broken_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "s.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(UsageError, match="sample cannot be read"):
        feeds.sample_feeds([X], tmp_path / "s.npz")


def test_too_large_rows_give_no_golden_vectors() -> None:
    wide = Spec("x", "float32", (None, 30_000))
    node = helper.make_node("Relu", ["x"], ["y"])
    ports = [("x", TensorProto.FLOAT, ["n", 30_000])], [("y", TensorProto.FLOAT, ["n", 30_000])]
    session = Session(_model([node], *ports).SerializeToString())
    proof = _prove(Original(lambda x: {"y": np.maximum(x, 0)}), session, wide)
    assert proof.golden is None
    assert any("no golden vectors" in warning for warning in proof.warnings)


def test_equal_graphs_in_another_order_become_the_same_bytes() -> None:
    def build(first: str, second: str, swapped: bool) -> bytes:
        nodes = [helper.make_node("Relu", ["x"], [first]), helper.make_node("Neg", ["x"], [second])]
        nodes = nodes[::-1] if swapped else nodes
        nodes += [helper.make_node("Add", [first, second], ["y"]), helper.make_node("Abs", ["x"], ["unneeded"])]
        ports = [("x", TensorProto.FLOAT, ["n", 3])], [("y", TensorProto.FLOAT, ["n", 3])]
        model = _model(nodes, *ports)
        canonical(model)
        edits.check(model)
        assert [node.op_type for node in model.graph.node] == ["Relu", "Neg", "Add"]
        return edits.serialize(model)

    assert build("a", "b", swapped=False) == build("t9", "t0", swapped=True)


def test_canonical_naming_reaches_into_branches() -> None:
    def branch(weight: str, out: str) -> Any:
        node = helper.make_node("Add", ["inner", weight], [out])
        value = helper.make_tensor_value_info(out, TensorProto.FLOAT, ["n", 3])
        return helper.make_graph([node], out, [], [value], [numpy_helper.from_array(np.float32([1, 2, 3]), weight)])

    nodes = [
        helper.make_node("Relu", ["x"], ["inner"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=branch("w", "p"), else_branch=branch("v", "q")),
    ]
    ports = [("x", TensorProto.FLOAT, ["n", 3]), ("flag", TensorProto.BOOL, [])], [("y", TensorProto.FLOAT, ["n", 3])]
    model = _model(nodes, *ports)
    canonical(model)
    edits.check(model)
    session = Session(edits.serialize(model))
    (answer,) = session.run({"x": np.float32([[-1, 0, 2]]), "flag": np.array(False)})
    np.testing.assert_array_equal(answer, [[1, 2, 5]])


def test_numbers_that_are_multiples_of_each_other_and_flags_that_are_all_false_are_tried() -> None:
    nodes = [  # a remainder by a quotient, which is wrong where the quotient is rounded up to a whole number
        helper.make_node("Div", ["x", "by"], ["q"]),
        helper.make_node("Floor", ["q"], ["whole"]),
        helper.make_node("Mul", ["whole", "by"], ["taken"]),
        helper.make_node("Sub", ["x", "taken"], ["y"]),
    ]
    ports = [("x", TensorProto.FLOAT, ["n", 3])], [("y", TensorProto.FLOAT, ["n", 3])]
    model = _model(nodes, *ports, by=np.float32(0.7))
    reference = Original(lambda x: {"y": np.mod(x, np.float32(0.7))})
    explored = explore(reference, [Spec("x", "float32", (None, 3))])
    with pytest.raises(MismatchError, match="on inputs with multiples of a half"):
        comparison.prove(reference, Session(model.SerializeToString()), explored, Options())
    rows = {"x": np.ones((4, 20), np.float32), "wide": np.ones((2, 500)), "m": np.ones((4, 20), bool)}
    halves, flags = feeds.unusual(rows, "halves"), feeds.unusual(rows, "masked")
    assert halves is not None
    assert flags is not None
    assert all(len(set(row)) == 20 and not (row * 2 % 1).any() for row in halves["x"])
    assert np.abs(halves["wide"]).max() <= 8
    assert flags["m"][0].all()
    assert not flags["m"][1].any()


def _masked_mean(flags: bool) -> Any:
    """The mean over the places that are not padding: 0/0 in a row of nothing else. Padding is flagged, or a zero."""
    maker = helper.make_node("Cast", ["m"], ["pad"], to=TensorProto.BOOL)
    nodes = [
        helper.make_node("Identity", ["m"], ["pad"]) if flags else maker,
        helper.make_node("Not", ["pad"], ["kept"]) if flags else helper.make_node("Identity", ["pad"], ["kept"]),
        helper.make_node("Cast", ["kept"], ["k"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["k", "axis"], ["count"], keepdims=1),
        helper.make_node("Div", ["k", "count"], ["y"]),
    ]
    kind = TensorProto.BOOL if flags else TensorProto.INT64
    ports = [("m", kind, ["n", 3])], [("y", TensorProto.FLOAT, ["n", 3])]
    return _model(nodes, *ports, axis=np.array([1]))


@pytest.mark.parametrize("flags", [True, False])
def test_a_row_of_nothing_but_padding_that_only_the_graph_answers_with_nan_is_refused_by_it(flags: bool) -> None:
    def original(m: Any) -> Mapping[str, Any]:
        kept = (~m if flags else m != 0).astype(np.float32)
        return {"y": kept / np.maximum(kept.sum(axis=1, keepdims=True), 1)}

    specs = [Spec("m", "bool" if flags else "int64", (None, 3), low=0, high=3)]
    model, reference = _masked_mean(flags), Original(original)
    explored = explore(reference, specs)
    # Generated rows of nothing but padding would show it too; here only the kinds that are tried beside them do.
    ordinary = {"m": np.array([[True, False, False], [False, False, True]] if flags else [[1, 0, 2], [3, 1, 0]])}
    assert Session(model.SerializeToString()).run(ordinary)[0] == pytest.approx(original(**ordinary)["y"])
    kind = "masked" if flags else "zeros"
    padding = feeds.unusual(ordinary, kind, specs)
    assert padding is not None
    with pytest.raises(comparison.UndefinedError):
        comparison._treatment(reference, Session(model.SerializeToString()), ordinary, kind, explored.specs, Options())
    assert checks.without_nan(model)
    edits.check(model)
    guarded = Session(model.SerializeToString())
    assert comparison._treatment(reference, guarded, ordinary, kind, explored.specs, Options()) == "differs"
    with pytest.raises(ConversionError):
        guarded.run(padding)
    assert guarded.run(ordinary)[0] == pytest.approx(original(**ordinary)["y"])


def test_zeros_that_the_graph_answers_with_other_numbers_are_a_mismatch() -> None:
    def original(x: Any) -> Mapping[str, Any]:
        return {"y": np.where((x == 0).all(axis=1, keepdims=True), np.float32(1), _product(x))}

    specs = [Spec("x", "float32", (None, 3))]
    with pytest.raises(MismatchError, match="nothing but zeros"):
        comparison.prove(Original(original), _linear(), explore(Original(original), specs), Options())


def test_zeros_that_tie_may_get_another_label_where_the_numbers_are_equal() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
    ]
    ports = (
        [("x", TensorProto.FLOAT, ["n", 3])],
        [("y", TensorProto.FLOAT, ["n", 4]), ("label", TensorProto.INT64, ["n"])],
    )
    session = Session(_model(nodes, *ports, w=WEIGHTS).SerializeToString())

    def original(x: Any) -> Mapping[str, Any]:
        scores = _product(x)
        return {"y": scores, "label": 3 - scores[:, ::-1].argmax(axis=1)}

    proof = comparison.prove(
        Original(original), session, explore(Original(original), [Spec("x", "float32", (None, 3))]), Options()
    )
    assert proof.unusual["zeros"] == "equal"


def test_an_original_is_asked_in_its_users_own_way_too() -> None:
    class TwoWays(Original):
        def own(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
            return {"y": np.zeros_like(feeds["m"], dtype=np.float32)}

    def original(m: Any) -> Mapping[str, Any]:
        with np.errstate(invalid="ignore"):
            kept = (m != 0).astype(np.float32)
            return {"y": kept / kept.sum(axis=1, keepdims=True)}

    session = Session(_masked_mean(flags=False).SerializeToString())
    rows, specs = {"m": np.array([[1, 0, 2]])}, (Spec("m", "int64", (None, 3)),)
    assert comparison._treatment(Original(original), session, rows, "zeros", specs, Options()) == "equal"
    with pytest.raises(comparison.UndefinedError):
        comparison._treatment(TwoWays(original), session, rows, "zeros", specs, Options())


def test_an_original_that_answers_otherwise_each_time_is_not_a_matter_of_tolerance() -> None:
    random = np.random.default_rng(0)
    original = Original(lambda x: {"y": x @ WEIGHTS + random.normal(size=(len(x), 4)).astype(np.float32)})
    explored = explore(original, [Spec("x", "float32", (None, 3))])
    with pytest.raises(ConversionError, match="otherwise each time") as refused:
        comparison.prove(original, _linear(), explored, Options(tolerances={"y": 1.0}))
    assert "model.eval()" in str(refused.value.hint)
    assert "larger difference" not in str(refused.value)


def test_an_original_in_train_mode_is_told_so() -> None:
    original = Original(lambda x: {"y": _product(x - x.mean(axis=0))})
    explored = explore(original, [Spec("x", "float32", (None, 3))])
    with pytest.raises(ConversionError, match="among other rows than alone") as refused:
        comparison.prove(original, _linear(), explored, Options())
    assert "model.eval()" in str(refused.value.hint)


def test_a_second_opinion_finds_what_the_adapter_and_the_graph_share() -> None:
    rows = np.arange(6.0)
    second_opinion.require_same("predict", lambda: rows, lambda: rows * (1 + 1e-9), "")
    with pytest.raises(ConversionError, match="predict answers 2 of 6 rows otherwise"):
        second_opinion.require_same("predict", lambda: rows, lambda: np.where(rows > 3, 0, rows), "")

    def refuses() -> Any:
        raise ValueError("categories do not match")

    with pytest.raises(ConversionError, match="categories do not match"):
        second_opinion.require_same("predict", lambda: rows, refuses, "")


def test_a_model_that_counts_over_the_batch_is_not_joined_with_other_rows() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x", "axis"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    ports = [("x", TensorProto.FLOAT, ["n", 3])], [("y", TensorProto.FLOAT, ["n", 3])]
    session = Session(_model(nodes, *ports, axis=np.array([0])).SerializeToString())
    original = Original(lambda x: {"y": x - x.mean(axis=0, keepdims=True)})
    explored = explore(original, [Spec("x", "float32", (None, 3))])
    proof = comparison.prove(original, session, explored, Options())
    assert not proof.row_wise
    assert any("depends on the other rows" in warning for warning in proof.warnings)
    plain = Original(lambda x: {"y": _product(x)})
    assert comparison.prove(plain, _linear(), explore(plain, explored.specs), Options()).row_wise
