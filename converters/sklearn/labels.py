"""The label of a classifier's graph: the converter's own, or the first of its largest probabilities.

scikit-learn's classifiers mostly answer the first class that has the largest probability. A converted forest adds
its trees in float32, in an order that depends on batch and threads, so that classes which are exactly tied in the
original come out an arbitrary hair apart, and the converter's label falls to either. The label made here takes
probabilities that float32 cannot tell apart for tied. Runs inside the sandbox only.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from converters.graph import edits
from converters.graph.session import Session
from converters.proof import parity
from converters.sklearn.original import Expected

FIRST_MAXIMUM = "first maximum"
LAST_MAXIMUM = "last maximum"


def choose(model: Any, expected: Expected, resolution: float) -> tuple[Any, str | None]:
    """The model, or a copy with another label, whichever has fewer wrong labels; and what was done to it.

    Only where ``predict`` is, on every row, the first of the largest ``predict_proba``, or on every row the last (one
    class against the rest, up to scikit-learn 1.5 at least), another label is tried. A
    lead of at most ``resolution`` counts for neither. Of two that agree alike, the converter's own is taken where the
    original decides by scores, which are finer than probabilities, else the other, which no order of additions
    changes. Raises ``ConversionError`` where a model cannot be run.
    """
    original = expected.original
    meanings = original.meanings([output.name for output in model.graph.output])
    sources = {meaning.role: meaning.source for meaning in meanings}
    if original.classes is None or not {"label", "probabilities"} <= sources.keys():
        return model, None
    rule = _rule(expected)
    if rule is None:
        return model, None
    last = rule == LAST_MAXIMUM
    other = maximum(model, sources["label"], sources["probabilities"], original.classes, resolution, last=last)
    if other is None:
        return model, None
    variants: list[tuple[Any, str | None]] = [(other, rule), (model, None)]
    if original.has("decision_function"):
        variants.reverse()
    feeds = expected.inputs.feeds(expected.table)

    def wrong(variant: tuple[Any, str | None]) -> int:
        session = Session(edits.serialize(variant[0]))
        results = dict(zip([port.name for port in session.outputs], session.run(feeds), strict=True))
        answers = results[sources["label"]].reshape(-1)
        proof = parity.compare_labels(
            "label", "predict", expected.answer("predict"), answers, expected.margin(), resolution
        )
        return proof.differing - proof.ties

    found = []
    for variant in variants:
        count = wrong(variant)
        if not count:
            return variant
        found.append((count, variant))
    return min(found, key=lambda counted: counted[0])[1]


def maximum(
    model: Any, label: str, probabilities: str, classes: Sequence[Any], tolerance: float, *, last: bool = False
) -> Any | None:
    """A copy whose output ``label`` is the first class within ``tolerance`` of the row's largest probability.

    Or the ``last`` one. None where the classes cannot be written in the type of the present label.
    """
    from onnx import TensorProto, helper

    types = {output.name: output.type.tensor_type.elem_type for output in model.graph.output}
    if types[label] == TensorProto.STRING:
        values: list[Any] = [str(name).encode() for name in classes]
    elif types[label] == TensorProto.INT64 and all(not isinstance(name, str) and name == int(name) for name in classes):
        values = [int(name) for name in classes]
    else:
        return None
    changed = copy.deepcopy(model)
    body = changed.graph
    edits.rename(body, label, "label__converter")
    for output in body.output:
        if output.name == "label__converter":
            output.name = label
    body.initializer.extend(
        [
            helper.make_tensor("label__classes", types[label], [len(values)], values),
            helper.make_tensor("label__axis", TensorProto.INT64, [1], [1]),
            helper.make_tensor("label__tolerance", types[probabilities], [], [tolerance]),
        ]
    )
    body.node.extend(
        [
            helper.make_node(
                "ReduceMax", [probabilities, "label__axis"], ["label__top"], name="label__top", keepdims=1
            ),
            helper.make_node("Sub", ["label__top", "label__tolerance"], ["label__least"], name="label__least"),
            helper.make_node("GreaterOrEqual", [probabilities, "label__least"], ["label__tied"], name="label__tied"),
            helper.make_node("Cast", ["label__tied"], ["label__ones"], name="label__ones", to=TensorProto.FLOAT),
            helper.make_node(
                "ArgMax",
                ["label__ones"],
                ["label__index"],
                name="label__index",
                axis=1,
                keepdims=0,
                select_last_index=int(last),
            ),
            helper.make_node("Gather", ["label__classes", "label__index"], [label], name="label__class", axis=0),
        ]
    )
    edits.prune(changed)
    return changed


def _rule(expected: Expected) -> str | None:
    """Which of several largest probabilities ``predict`` takes on every row; None where neither first nor last."""
    import numpy as np

    labels, probabilities = expected.answer("predict"), expected.answer("predict_proba")
    if labels.ndim != 1 or probabilities.shape != (len(labels), len(expected.original.classes or ())):
        return None
    classes = np.asarray(expected.original.model.classes_)
    if (classes[probabilities.argmax(axis=1)] == labels).all():
        return FIRST_MAXIMUM
    last = probabilities.shape[1] - 1 - probabilities[:, ::-1].argmax(axis=1)
    return LAST_MAXIMUM if (classes[last] == labels).all() else None
