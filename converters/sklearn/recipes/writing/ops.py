"""Writing a graph as arithmetic: tensors are names, constants are arrays, each call adds a node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

ML = "ai.onnx.ml"


def label_type(model: Any) -> Any:
    """skl2onnx's type of a classifier's label; of several targets, those of the first hold for all."""
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    return StringTensorType if classes(model).dtype.kind in "OUS" else Int64TensorType


def is_any_classifier(model: Any) -> bool:
    """Whether skl2onnx takes ``model`` for a classifier, which then needs an option to leave out its ZipMap."""
    from sklearn.base import is_classifier

    return bool(is_classifier(model))


def is_double(operator: Any) -> bool:
    """Whether an estimator calculates in float64, as scikit-learn does but where all that it is given is float32."""
    from skl2onnx.common.data_types import FloatTensorType

    return not all(isinstance(variable.type, FloatTensorType) for variable in operator.inputs)


def has_text(operator: Any) -> bool:
    """Whether some input of an estimator is text."""
    from skl2onnx.common.data_types import StringTensorType

    return any(isinstance(variable.type, StringTensorType) for variable in operator.inputs)


class Ops:
    """One estimator's place in a graph that skl2onnx builds.

    ``model`` is the estimator, ``dtype`` the type of all its arithmetic: float32 where its input is, else float64.
    Wherever a tensor's name is taken, an array is too, and becomes a constant; floating constants get ``dtype``.
    """

    def __init__(self, scope: Any, operator: Any, container: Any, extra_from: int) -> None:
        import numpy as np

        self.scope, self.operator, self.container = scope, operator, container
        self.model = operator.raw_operator
        self.dtype = np.dtype(np.float64 if is_double(operator) else np.float32)
        self._extra = {variable.raw_name: variable for variable in operator.outputs[extra_from:]}

    @property
    def elem_type(self) -> int:
        """The ONNX element type of ``dtype``."""
        from onnx import TensorProto

        return int(TensorProto.DOUBLE if self.dtype.itemsize == 8 else TensorProto.FLOAT)

    def matrix(self) -> str:
        """All the estimator's inputs side by side, shape (rows, features), of ``dtype``."""
        names = [self.cast(variable.full_name) for variable in self.operator.inputs]
        return names[0] if len(names) == 1 else self.add("Concat", *names, axis=1)

    def constant(self, value: Any, dtype: Any = None) -> str:
        """An initializer; text becomes strings, floats get ``dtype`` of the arithmetic unless told otherwise."""
        import numpy as np
        from onnx import TensorProto, helper

        array = np.asarray(value)
        if array.dtype.kind in "OUS":
            content = [str(item).encode() for item in array.ravel().tolist()]
            kind = int(TensorProto.STRING)
        else:
            if dtype is not None or array.dtype.kind == "f":
                array = array.astype(dtype or self.dtype)
            elif array.dtype.kind in "iu":
                array = array.astype(np.int64)
            kind, content = int(helper.np_dtype_to_tensor_dtype(array.dtype)), array.ravel().tolist()
        name = self._unique("constant")
        self.container.add_initializer(name, kind, list(array.shape), content)
        return name

    def add(self, op_type: str, *inputs: Any, domain: str = "", version: int | None = None, **attributes: Any) -> str:
        """Add a node with one output, and return that output's name."""
        (name,) = self.add_many(op_type, *inputs, outputs=1, domain=domain, version=version, **attributes)
        return name

    def add_many(
        self, op_type: str, *inputs: Any, outputs: int, domain: str = "", version: int | None = None, **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with several outputs, and return their names. An input that is None is left out."""
        names = ["" if item is None else item if isinstance(item, str) else self.constant(item) for item in inputs]
        results = [self._unique(op_type.lower()) for _ in range(outputs)]
        if "body" in attributes:
            # skl2onnx declares the version that the nodes need, and does not look into a body.
            self.container.node_domain_version_pair_sets.add((domain, self.container.target_opset_onnx))
        self.container.add_node(
            op_type,
            names,
            results,
            op_domain=domain,
            op_version=version,
            name=self.scope.get_unique_operator_name(f"{op_type}{len(self.scope.onnx_operator_names)}"),
            **attributes,
        )
        return tuple(results)

    def _unique(self, seed: str) -> str:
        """A tensor's name; counted, because skl2onnx tries 1, 2, 3 and so on, which takes long in a large graph."""
        name: str = self.scope.get_unique_variable_name(f"{seed}{len(self.scope.onnx_variable_names)}")
        return name

    def cast(self, name: str, to: int | None = None) -> str:
        """``name`` as another element type of ONNX, by default that of ``dtype``."""
        return self.add("Cast", name, to=self.elem_type if to is None else to)

    def columns(self, name: str, indices: Sequence[int]) -> str:
        """Some columns of a matrix."""
        import numpy as np

        return self.add("Gather", name, np.asarray(indices, dtype=np.int64), axis=1)

    def sum(self, name: str, axis: int, *, keepdims: bool = False) -> str:
        """The sum along an axis."""
        return self.add("ReduceSum", name, [axis], keepdims=int(keepdims))

    def reshape(self, name: str, shape: Sequence[int]) -> str:
        """Another shape; -1 for what follows from the rest."""
        return self.add("Reshape", name, list(shape))

    def for_each_row(self, row: Any) -> str:
        """An array whose first axis is 1, repeated for every row of the input."""
        import numpy as np

        array = np.asarray(row)
        rows = self.add("Shape", self.operator.inputs[0].full_name, start=0, end=1)
        rest = np.asarray(array.shape[1:], dtype=np.int64)
        shape = self.add("Concat", rows, rest, axis=0) if rest.size else rows
        return self.add("Expand", array, shape)

    def sigmoid(self, name: str, dtype: Any = None) -> str:
        """1 / (1 + exp(-x)). onnxruntime's own answers 0 for what is below about -40."""
        one = self.constant(1.0, dtype)
        return self.add("Reciprocal", self.add("Add", one, self.add("Exp", self.add("Neg", name))))

    def first_maximum(self, name: str) -> str:
        """Per row, the index of the first of the largest values, shape (rows,)."""
        return self.add("ArgMax", name, axis=1, keepdims=0, select_last_index=0)

    def class_of(self, index: str) -> str:
        """The model's class for each index, as text or int64."""
        return self.add("Gather", self.constant(classes(self.model)), index, axis=0)

    def call(
        self,
        estimator: Any,
        name: str,
        width: int | None,
        outputs: Literal["classifier", "regressor", "transformer"],
        **options: Any,
    ) -> tuple[str, ...]:
        """Put another fitted estimator into the graph, fed by the matrix ``name`` of ``width`` columns.

        Returns its label and probabilities, or its one output. ``options`` are skl2onnx's for that estimator.
        """
        from skl2onnx._parse import _parse_sklearn
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

        kind = DoubleTensorType if self.dtype.itemsize == 8 else FloatTensorType
        fed = self.scope.declare_local_variable("part", kind([None, width]))
        self.container.add_node("Identity", [name], [fed.full_name], name=self.scope.get_unique_operator_name("part"))
        if outputs == "classifier":
            options.setdefault("zipmap", False)
        if options:
            self.scope.add_options(id(estimator), options)
        found = _parse_sklearn(self.scope, estimator, [fed])
        return tuple(variable.full_name for variable in found)

    def parse(self, estimator: Any, name: str | None = None) -> list[Any]:
        """Put another fitted estimator into the graph, and return skl2onnx's variables of all its outputs.

        It is fed by the matrix ``name``, or by this estimator's own inputs, each of its own type, where that is None.
        """
        from skl2onnx._parse import _parse_sklearn
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

        fed = list(self.operator.inputs)
        if name is not None:
            kind = DoubleTensorType if self.dtype.itemsize == 8 else FloatTensorType
            fed = [self.scope.declare_local_variable("part", kind([None, getattr(estimator, "n_features_in_", None)]))]
            self.container.add_node(
                "Identity", [name], [fed[0].full_name], name=self.scope.get_unique_operator_name("part")
            )
        if is_any_classifier(estimator):
            self.scope.add_options(id(estimator), {"zipmap": False})
        return list(_parse_sklearn(self.scope, estimator, fed))

    def methods(self, estimator: Any, name: str | None = None) -> dict[str, str]:
        """Put another fitted predictor into the graph, fed as ``parse`` says; each method that it answers, and where.

        A binary ``decision_function`` has shape (rows, 1) or (rows,), numbers are of ``dtype`` (see ``cast``).
        """
        found = self.parse(estimator, name)
        answers = {"predict": found[0].full_name}
        scored = is_any_classifier(estimator) or hasattr(estimator, "decision_function")
        if scored and len(found) > 1 and found[1].raw_name in ("probabilities", "scores"):
            scores = "predict_proba" if hasattr(estimator, "predict_proba") else "decision_function"
            answers[scores] = self.cast(found[1].full_name)
        if not scored:
            answers["predict"] = self.cast(found[0].full_name)
        for variable in found[1:]:
            if hasattr(estimator, variable.raw_name):
                answers[variable.raw_name] = self.cast(variable.full_name)
        return answers

    def answer(self, number: int, name: str) -> None:
        """Make the tensor ``name`` the estimator's output of that number."""
        self.container.add_node(
            "Identity",
            [name],
            [self.operator.outputs[number].full_name],
            name=self.scope.get_unique_operator_name("answer"),
        )

    def wants(self, method: str) -> bool:
        """Whether the graph is to answer this further method."""
        return method in self._extra

    def answer_method(self, method: str, name: str) -> None:
        """Make the tensor ``name`` the answer to a further method, if that is wanted."""
        if self.wants(method):
            self.container.add_node(
                "Identity", [name], [self._extra[method].full_name], name=self.scope.get_unique_operator_name("answer")
            )


def classes(model: Any) -> Any:
    """A classifier's classes as text or int64; those of its first target where it has several."""
    import numpy as np

    known = getattr(model, "classes_", None)
    if known is None:
        known = model.estimators_[0].classes_
    known = np.asarray(known[0] if isinstance(known, list) else known)
    return known if known.dtype.kind in "OUS" else np.asarray(known).astype(np.int64)
