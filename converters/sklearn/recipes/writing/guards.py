"""Checks inside a graph: where scikit-learn's parts refuse numbers, the graph fails instead of answering.

A part checks what it is given (``sklearn.utils.check_array``), and numbers that were plain in the request may have
become NaN, infinite or too large before: the logarithm of a negative one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from converters.companions.frame_steps import is_frame_step
from converters.graph.checks import passed

# The value that a part is tried with among ones, by the name of what it says.
TRIED = {"nan": float("nan"), "infinity": float("inf"), "huge": 1e39, "negative": -1.0, "zero": 0.0}


@dataclass(frozen=True)
class Refusals:
    """What a fitted part refuses among the numbers that it is given."""

    nan: bool = False
    infinity: bool = False
    huge: bool = False
    negative: bool = False
    zero: bool = False

    @property
    def any(self) -> bool:
        """Whether it refuses anything."""
        return any(vars(self).values())

    def of_inputs(self) -> Refusals:
        """Those that have to be checked in the graph where the part reads the model's inputs.

        The other kinds are rejected before, as the manifest says.
        """
        return Refusals(negative=self.negative, zero=self.zero)


def refusals(part: Any) -> Refusals:
    """What ``part`` refuses, found by asking it: each value once among ones, which it has to take."""
    import numpy as np

    if is_frame_step(part):  # whose columns differ, and which has checks of its own
        return Refusals()
    width = getattr(part, "n_features_in_", None)
    method = next((name for name in ("predict", "transform", "score_samples") if hasattr(part, name)), None)
    if not isinstance(width, int | np.integer) or width < 1 or method is None:
        return Refusals()
    ones = np.ones((1, int(width)))
    if not _takes(part, method, ones):
        return Refusals()
    found = {}
    for name, value in TRIED.items():
        row = ones.copy()
        row[0, 0] = value
        found[name] = not _takes(part, method, row)
    return Refusals(**found)


def _takes(part: Any, method: str, row: Any) -> bool:
    import warnings

    import numpy as np

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            getattr(part, method)(row)
    except Exception:  # noqa: BLE001 - a part refuses in any way, and each means the same here
        return False
    return True


def guarded(convert: Any) -> Any:
    """A converter as skl2onnx registers it, that first checks the numbers that its part is given."""

    def converter(scope: Any, operator: Any, container: Any) -> None:
        fed = list(operator.inputs)
        refused = refusals(operator.raw_operator)
        if refused.any:
            for position, variable in enumerate(fed):
                wanted = refused.of_inputs() if _is_model_input(scope, variable) else refused
                if wanted.any and _is_float(variable):
                    operator.inputs.set_element(position, _checked(scope, container, variable, wanted))
        try:
            convert(scope, operator, container)
        finally:
            for position, variable in enumerate(fed):
                operator.inputs.set_element(position, variable)

    from skl2onnx.common._registration import RegisteredConverter

    return RegisteredConverter(converter, convert.get_allowed_options())


def _is_float(variable: Any) -> bool:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    return isinstance(variable.type, DoubleTensorType | FloatTensorType)


def _is_model_input(scope: Any, variable: Any) -> bool:
    return variable.onnx_name in {known.onnx_name for known in scope.input_variables}


def _checked(scope: Any, container: Any, variable: Any, refused: Refusals) -> Any:
    """A variable of skl2onnx's that is ``variable`` where its numbers pass."""
    made = scope.declare_local_variable("checked", variable.type)
    nodes = _Nodes(scope, container)
    name = variable.full_name
    faults = list(_faults(nodes, name, refused, _is_double(variable)))
    fault = faults[0]
    for other in faults[1:]:
        fault = nodes.add("Or", fault, other)
    container.add_node(
        "Identity", [passed(nodes, name, fault)], [made.full_name], name=scope.get_unique_operator_name("checked")
    )
    return made


def _is_double(variable: Any) -> bool:
    from skl2onnx.common.data_types import DoubleTensorType

    return isinstance(variable.type, DoubleTensorType)


def _faults(nodes: Any, name: str, refused: Refusals, double: bool) -> Any:
    """Flags without axes, one for each kind that is refused."""
    import numpy as np
    from onnx import TensorProto

    dtype = np.float64 if double else np.float32
    if refused.negative or refused.zero:
        least = nodes.add("ReduceMin", name, keepdims=0)
        comparison = "LessOrEqual" if refused.zero and refused.negative else "Less"
        yield nodes.add(comparison, least, nodes.constant(np.zeros((), dtype)))
    if refused.nan and not refused.infinity:
        places = nodes.add("Cast", nodes.add("IsNaN", name), to=int(TensorProto.INT64))
        yield nodes.add("Greater", nodes.add("ReduceSum", places, keepdims=0), nodes.constant(np.zeros((), np.int64)))
        return
    if not refused.infinity:
        return
    numbers = nodes.add("Cast", name, to=int(TensorProto.FLOAT)) if refused.huge and double else name
    kind = np.float32 if refused.huge or not double else np.float64
    if not refused.nan:
        numbers = nodes.add("Where", nodes.add("IsNaN", numbers), nodes.constant(np.zeros((), kind)), numbers)
    # 0 times a finite number is 0, and times any other is NaN.
    zeros = nodes.add("Mul", numbers, nodes.constant(np.zeros((), kind)))
    yield nodes.add("IsNaN", nodes.add("ReduceSum", zeros, keepdims=0))


class _Nodes:
    """Adds nodes to skl2onnx's container."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = str(self._scope.get_unique_variable_name(f"{op_type.lower()}{len(self._scope.onnx_variable_names)}"))
        self._container.add_node(
            op_type,
            list(inputs),
            [name],
            op_version=self._container.target_opset_onnx,
            name=self._scope.get_unique_operator_name(f"{op_type}{len(self._scope.onnx_operator_names)}"),
            **attributes,
        )
        return name

    def constant(self, value: Any) -> str:
        from onnx import helper

        name = str(self._scope.get_unique_variable_name(f"constant{len(self._scope.onnx_variable_names)}"))
        kind = int(helper.np_dtype_to_tensor_dtype(value.dtype))
        self._container.add_initializer(name, kind, list(value.shape), value.ravel().tolist())
        return name
