"""Variants of a model are kept only if they gain and answer alike; each is measured and told of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.graph import edits
from converters.optimize import choice, optimize
from converters.optimize.variants import NotApplicableError, Variant, made
from converters.package import manifest


def network(sizes: Sequence[int], scale: float = 1.0) -> bytes:
    """A classifier of dense layers with fixed weights."""
    random = np.random.default_rng(3)
    nodes, weights, name = [], [], "x"
    for number, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        weight = (random.standard_normal((rows, columns)) * scale / np.sqrt(rows)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{number}"], [f"m{number}"]))
        name = f"m{number}"
        if number < len(sizes) - 2:
            nodes.append(helper.make_node("Relu", [name], [f"r{number}"]))
            name = f"r{number}"
    nodes.append(helper.make_node("Softmax", [name], ["p"], axis=1))
    nodes.append(helper.make_node("ArgMax", ["p"], ["label"], axis=1, keepdims=0))
    body = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", sizes[0]])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", sizes[-1]]),
        ],
        weights,
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def package(model: bytes, width: int) -> manifest.Converted:
    rows = np.random.default_rng(4).standard_normal((300, width)).astype(np.float32)
    names = ("label", "p")
    answers = dict(zip(names, ort.InferenceSession(model).run(None, {"x": rows[:4]}), strict=True))
    return manifest.Converted(
        model,
        {
            "source": {"recipe": "plain"},
            "inputs": [{"name": "features", "graph_name": "x"}],
            "outputs": [{"name": "label", "role": "label"}, {"name": "p", "role": "probabilities"}],
            "opset": {"": 18},
            "minimum_runtime": "1.17",
            "parity": {"accepted": {}, "passed": True},
        },
        {"inputs": {"features": rows[:4].tolist()}, "outputs": {name: answers[name].tolist() for name in names}},
        {"warnings": []},
        "1",
        {"x": rows},
    )


def test_a_smaller_form_that_answers_alike_is_kept_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    converted = package(network([32, 256, 256, 4]), 32)
    # Which form is faster is the machine's business; this is about what follows from it.
    monkeypatch.setattr(choice, "_latencies", lambda sessions, one: [1e-5] * len(sessions))
    found = optimize(converted)
    table = {entry["name"]: entry for entry in found.report["variants"]}
    assert list(table) == ["plain", "graph, basic", "graph, extended", "float16", "int8, dynamic", "int8, static"]
    (kept,) = (entry for entry in table.values() if entry["kept"])
    assert kept["name"] != "plain"
    assert kept["size"] == len(found.model) < 0.6 * len(converted.model)
    assert found.manifest["source"]["recipe"] == f"plain, {kept['name']}"
    assert found.manifest["parity"]["accepted"]["p"] > 1e-4, "what it differs by at most is said"
    onnx.checker.check_model(onnx.load_from_string(found.model))
    feeds = converted.feeds or {}
    plain, other = (ort.InferenceSession(data).run(None, dict(feeds)) for data in (converted.model, found.model))
    assert (plain[0] == other[0]).mean() >= 0.99
    assert kept["label_agreement"] == pytest.approx((plain[0] == other[0]).mean())
    golden = found.golden or {}
    rows = np.array(golden["inputs"]["features"], np.float32)
    np.testing.assert_allclose(
        golden["outputs"]["p"], ort.InferenceSession(found.model).run(["p"], {"x": rows})[0], rtol=1e-6
    )


def test_a_form_that_answers_otherwise_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    converted = package(network([32, 64, 64, 4]), 32)
    other = network([32, 64, 64, 4], scale=1.5)
    monkeypatch.setattr(choice, "VARIANTS", (Variant("wrong", lambda data, feeds: other, 1e-2, 1e-3, 0.999),))
    found = optimize(converted)
    assert found.model == converted.model
    plain, wrong = found.report["variants"]
    assert plain["kept"]
    assert not wrong["kept"]
    assert "differ by more than it may" in wrong["reason"]


def test_a_form_without_gain_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    converted = package(network([8, 8, 4]), 8)
    monkeypatch.setattr(choice, "VARIANTS", (Variant("same", lambda data, feeds: data, 1e-4, 1e-5, 1.0),))
    monkeypatch.setattr(choice, "_latencies", lambda sessions, one: [1e-5] * len(sessions))
    found = optimize(converted)
    assert found.model == converted.model
    assert "no gain: 1.0" in found.report["variants"][1]["reason"]


def test_what_has_no_float_weights_is_left_alone() -> None:
    def refuse(data: bytes, feeds: Any) -> bytes:
        raise NotApplicableError("it has no float32 weights")

    with pytest.raises(NotApplicableError, match="no float32"):
        made(Variant("x", refuse, 1, 1, 1), b"", {})


def test_without_rows_nothing_is_tried() -> None:
    converted = manifest.Converted(b"", {}, None, {"warnings": ["a"]}, "1", None)
    found = optimize(converted)
    assert found.report["warnings"][0] == "a"
    assert "give a sample" in found.report["warnings"][1]


def test_nodes_are_put_in_order() -> None:
    model = onnx.load_from_string(network([4, 4, 2]))
    nodes = list(model.graph.node)[::-1]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    with pytest.raises(onnx.checker.ValidationError, match="sorted"):
        onnx.checker.check_model(model)
    edits.sort(model)
    onnx.checker.check_model(model)


def test_pictures_are_made_into_integers_too() -> None:
    """As Keras flattens them: by a shape that is calculated, which a preparation has to see the weights for."""
    random = np.random.default_rng(5)

    def weight(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(random.random(shape).astype(np.float32), name)

    body = helper.make_graph(
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", ["t", "first"], ["f"]),
            helper.make_node("Relu", ["f"], ["a"]),
            helper.make_node("Conv", ["a", "w", "b"], ["c"]),
            helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["n"]),
            helper.make_node("Relu", ["n"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["pooled"]),
            helper.make_node("Shape", ["pooled"], ["size"]),
            helper.make_node("Slice", ["size", "start", "end"], ["rows"]),
            helper.make_node("Concat", ["rows", "width"], ["flat"], axis=0),
            helper.make_node("Reshape", ["pooled", "flat"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 9, 9, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
        [
            weight("first", 8, 3, 3, 3),
            weight("w", 16, 8, 3, 3),
            *(weight(name, 16) for name in ("b", "scale", "bias", "mean", "var")),
            *(numpy_helper.from_array(np.array([v]), name) for name, v in (("start", 0), ("end", 1), ("width", 16))),
        ],
    )
    data = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    feeds = {"x": random.standard_normal((32, 9, 9, 3)).astype(np.float32)}
    (static,) = (variant for variant in choice.VARIANTS if variant.name == "int8, static")
    found = ort.InferenceSession(made(static, data, feeds)).run(None, feeds)[0]
    plain = ort.InferenceSession(data).run(None, feeds)[0]
    assert np.abs(found - plain).max() < 0.05 * np.abs(plain).max()
