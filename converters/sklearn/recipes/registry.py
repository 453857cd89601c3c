"""What a converter of ours is, and how skl2onnx learns of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from converters.sklearn.recipes.ops import Ops, label_type

Kind = Literal["classifier", "regressor", "transformer", "clusterer", "outlier"]

# The outputs that skl2onnx's own ensembles expect of a part, by what the part is.
OUTPUTS: dict[Kind, tuple[str, ...]] = {
    "classifier": ("label", "probabilities"),
    "clusterer": ("label", "scores"),
    "outlier": ("label", "scores"),
    "regressor": ("variable",),
    "transformer": ("variable",),
}


@dataclass(frozen=True)
class Recipe:
    """A converter for ``estimators``, named in full; those that this scikit-learn lacks are passed over.

    ``emit`` writes the graph: outputs 0 and 1 of a classifier are its label and its probabilities, or where it has
    none its decision function (any two-dimensional tensor where it has neither); of a clusterer or an outlier
    detector its label and its scores; a regressor and a transformer have one, ``width(model)`` columns wide.
    ``extra(model)`` names further methods of the estimator, which ``emit`` answers by ``ops.answer_method`` where
    ``ops.wants`` says so. ``options`` are those of skl2onnx that ``emit`` heeds.
    """

    estimators: tuple[str, ...]
    kind: Kind
    emit: Callable[[Ops], None]
    width: Callable[[Any], int | None] = lambda model: 1
    extra: Callable[[Any], Sequence[str]] = lambda model: ()
    options: dict[str, Any] = field(default_factory=dict)


def add(recipe: Recipe) -> None:
    """Register ``recipe`` with skl2onnx for every class of it that is installed."""
    from skl2onnx import update_registered_converter

    for dotted in recipe.estimators:
        module, _, name = dotted.rpartition(".")
        try:
            estimator = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
        options = dict(recipe.options)
        if recipe.kind == "classifier":
            options = {"zipmap": [True, False, "columns"], "output_class_labels": [False, True], **options}
        update_registered_converter(
            estimator,
            f"Edgepack{name}",
            _shapes(recipe),
            _emitter(recipe),
            parser=_parser(recipe),
            options=options or None,
        )


def _parser(recipe: Recipe) -> Callable[..., Any]:
    def parse(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
        from skl2onnx._supported_operators import sklearn_operator_name_map
        from skl2onnx.common.data_types import guess_tensor_type

        operator = scope.declare_local_operator(sklearn_operator_name_map[type(model)], model)
        operator.inputs = inputs
        for name in (*OUTPUTS[recipe.kind], *recipe.extra(model)):
            operator.outputs.append(scope.declare_local_variable(name, guess_tensor_type(inputs[0].type)))
        return operator.outputs

    return parse


def _shapes(recipe: Recipe) -> Callable[[Any], None]:
    def shapes(operator: Any) -> None:
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType

        model = operator.raw_operator
        inner = {DoubleTensorType: DoubleTensorType}.get(type(operator.inputs[0].type), FloatTensorType)
        rows = operator.get_first_dimension() if hasattr(operator, "get_first_dimension") else None
        if recipe.kind in ("regressor", "transformer"):
            operator.outputs[0].type = inner([rows, recipe.width(model)])
        else:
            label = label_type(model) if recipe.kind == "classifier" else Int64TensorType
            operator.outputs[0].type = label([rows])
            if len(operator.outputs) > 1:
                operator.outputs[1].type = inner([rows, None])
        for variable in operator.outputs[len(OUTPUTS[recipe.kind]) :]:
            variable.type = inner([rows, None])

    return shapes


def _emitter(recipe: Recipe) -> Callable[[Any, Any, Any], None]:
    def convert(scope: Any, operator: Any, container: Any) -> None:
        recipe.emit(Ops(scope, operator, container, extra_from=len(OUTPUTS[recipe.kind])))

    return convert
