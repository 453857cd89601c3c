"""An operator that PyTorch's exporters or ours lack is named, wherever its error says so."""

from __future__ import annotations

import pytest

from converters.pytorch.exports import unexportable
from converters.pytorch.operators import UnsupportedOperatorError

OURS = UnsupportedOperatorError("prim::Uninitialized")
TWO_MASKS = UnsupportedOperatorError("aten::_native_multi_head_attention", "has two masks, which is not supported")


def wrapped(error: Exception) -> Exception:
    """As torch raises an error of a model's own."""
    outer = RuntimeError("failed to run a function of the model")
    outer.__cause__ = error
    return outer


EXPORTER = RuntimeError("Exporting the operator 'aten::bessel_j0' to ONNX opset version 18 is not supported")
DISPATCHER = RuntimeError("No ONNX function found for <OpOverload(op='aten.bessel_j0', overload='default')>")


@pytest.mark.parametrize(("error", "operator"), [
    (OURS, "prim::Uninitialized"),
    (wrapped(wrapped(OURS)), "prim::Uninitialized"),
    (TWO_MASKS, "aten::_native_multi_head_attention"),
    (EXPORTER, "aten::bessel_j0"),
    (DISPATCHER, "aten.bessel_j0"),
    (NotImplementedError("something else"), None),
])  # fmt: skip
def test_an_operator_without_onnx_form_is_named(error: Exception, operator: str | None) -> None:
    refused = unexportable(error)

    wanted = "torch cannot export it" if operator is None else f"its operator {operator} has no ONNX form"
    assert refused.what.startswith(wanted)
