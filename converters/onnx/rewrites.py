"""Changes to an ONNX graph that a user exported, so that it can be served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from converters.graph import edits

NEWER_OPSET = 18
WEIGHTS_ALONE = 4  # from this version of the format on, an initializer need not be an input


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


def fit_format(model: Any, notes: list[str]) -> bool:
    """Let the model declare a version of the format (``ir_version``) that its contents have; whether it was too new.

    Exporters write the newest one, whatever the operators need; and one before 4 for weights that are not inputs.
    """
    import onnx
    from onnx import helper

    inputs = {port.name for port in model.graph.input}
    if model.ir_version < WEIGHTS_ALONE and any(weight.name not in inputs for weight in model.graph.initializer):
        model.ir_version = WEIGHTS_ALONE
    if model.ir_version <= onnx.IR_VERSION:
        return False
    given = model.ir_version
    model.ir_version = helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    notes.append(
        f"it declares version {given} of the format, which this runtime does not have; it needs no more than "
        f"{model.ir_version}"
    )
    return True


def versioned_up(model: Any) -> Any | None:
    """The model on a newer operator set; None where it is new already or the converter fails."""
    from onnx import version_converter

    if edits.opsets(model).get("", NEWER_OPSET) >= NEWER_OPSET:
        return None
    try:
        return version_converter.convert_version(model, NEWER_OPSET)
    except Exception:  # noqa: BLE001 - it fails in every way, and each one means that there is no newer form
        return None
