"""Changes to an ONNX graph that a user exported, so that it can be served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from converters.graph import edits

NEWER_OPSET = 18


@dataclass(frozen=True)
class Map:
    """A ``ZipMap`` that was taken out: the graph's output is the matrix behind it, with a column a class."""

    classes: tuple[Any, ...]

    def matrix(self, rows: Sequence[Any]) -> Any:
        """The matrix that a list of dictionaries was made of, shape (rows, classes)."""
        import numpy as np

        return np.array([[row[name] for name in self.classes] for row in rows], dtype=np.float32).reshape(
            len(rows), len(self.classes)
        )


def take_out_maps(model: Any) -> dict[str, Map]:
    """Make the matrix behind each ``ZipMap`` the graph's output, under the same name; by output what was taken out.

    A server answers with plain tensors; dictionaries of every row cost more than the model.
    """
    from onnx import helper

    found: dict[str, Map] = {}
    maps = [node for node in model.graph.node if node.op_type == "ZipMap" and node.domain == "ai.onnx.ml"]
    for node in maps:
        output = next((entry for entry in model.graph.output if entry.name == node.output[0]), None)
        if output is None:
            continue
        (labels,) = (attribute for attribute in node.attribute if attribute.name.startswith("classlabels_"))
        classes = tuple(label.decode() for label in labels.strings) or tuple(labels.ints)
        node.CopyFrom(helper.make_node("Identity", list(node.input), list(node.output), name=node.name))
        output.ClearField("type")
        output.type.tensor_type.elem_type = 1
        edits.declare_shape(model, output.name, (None, len(classes)))
        found[output.name] = Map(classes)
    return found


def versioned_up(model: Any) -> Any | None:
    """The model on a newer operator set; None where it is new already or the converter fails."""
    from onnx import version_converter

    if edits.opsets(model).get("", NEWER_OPSET) >= NEWER_OPSET:
        return None
    try:
        return version_converter.convert_version(model, NEWER_OPSET)
    except Exception:  # noqa: BLE001 - it fails in every way, and each one means that there is no newer form
        return None
