"""What a converter of ours is, and how it is registered with skl2onnx."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from converters.sklearn.recipes.writing.ops import Ops, has_text, is_any_classifier, is_double, label_type
from converters.source.traces import COMPANIONS

Kind = Literal["classifier", "multilabel", "regressor", "transformer", "clusterer", "mixture", "outlier"]

# The outputs that skl2onnx's own ensembles expect of a part, by what the part is.
OUTPUTS: dict[Kind, tuple[str, ...]] = {
    "classifier": ("label", "probabilities"),
    "multilabel": ("label",),
    "clusterer": ("label", "scores"),
    "mixture": ("label", "probabilities"),
    "outlier": ("label", "scores"),
    "regressor": ("variable",),
    "transformer": ("variable",),
}


@dataclass(frozen=True)
class Recipe:
    """A converter for ``estimators``, named in full; those that this scikit-learn lacks are skipped.

    ``emit`` writes the graph: outputs 0 and 1 of a classifier are its label and its probabilities, or where it has
    none its decision function (any two-dimensional tensor where it has neither); of a clusterer or an outlier
    detector its label and its scores; a regressor and a transformer have one, ``width(model)`` columns wide. A
    ``multilabel`` classifier has one output of shape (rows, targets); ``extra`` names its ``predict_proba`` where that
    is one matrix, or ``predict_proba_0`` and so on, one for each target, where it is a list.
    ``extra(model)`` names further methods of the estimator, which ``emit`` answers by ``ops.answer_method`` where
    ``ops.wants`` says so. ``options`` are those of skl2onnx that ``emit`` heeds. ``delegate(model)`` is the estimator
    that answers everything for a wrapper such as a search; such a recipe is made by ``delegating``. A transformer that
    ``keeps_text`` answers text where its input is text. A ``parser`` of skl2onnx's form takes apart what is made of
    steps, and leaves nothing to emit. ``shapes`` gives the types of outputs that are not of these forms.
    """

    estimators: tuple[str, ...]
    kind: Kind | Callable[[Any], Kind]
    emit: Callable[[Ops], None]
    width: Callable[[Any], int | None] = lambda model: 1
    extra: Callable[[Any], Sequence[str]] = lambda model: ()
    options: dict[str, Any] = field(default_factory=dict)
    delegate: Callable[[Any], Any] | None = None
    keeps_text: bool = False
    parser: Callable[..., Any] | None = None
    shapes: Callable[[Any], None] | None = None

    def kind_of(self, model: Any) -> Kind:
        """What this fitted estimator is."""
        return self.kind(model) if callable(self.kind) else self.kind


def delegating(estimators: tuple[str, ...], to: Callable[[Any], Any]) -> Recipe:
    """A recipe for wrappers that answer whatever the fitted estimator ``to(model)`` inside of them answers."""

    def kind(model: Any) -> Kind:
        from sklearn.base import is_classifier, is_clusterer, is_outlier_detector

        inner = to(model)
        if is_classifier(inner):
            return "multilabel" if isinstance(getattr(inner, "classes_", None), list) else "classifier"
        if is_clusterer(inner) or is_outlier_detector(inner):
            return "clusterer" if is_clusterer(inner) else "outlier"
        return "regressor" if hasattr(inner, "predict") else "transformer"

    def emit(ops: Ops) -> None:
        # Reached only where a converter of skl2onnx's own declares the wrapper as its part, past our parser.
        for number, name in enumerate(ops.parse(to(ops.model))[: len(OUTPUTS[kind(ops.model)])]):
            ops.answer(number, name.full_name)

    return Recipe(estimators, kind, emit, width=lambda model: None, delegate=to)


def needed_modules(recipe: Recipe) -> list[str]:
    """For each of its estimators the module without which no model here can be of it."""
    modules = [dotted.rpartition(".")[0] for dotted in recipe.estimators]
    libraries = [module.partition(".")[0] for module in modules]
    return [module if library in COMPANIONS else library for module, library in zip(modules, libraries, strict=True)]


def add(recipe: Recipe) -> None:
    """Register ``recipe`` with skl2onnx for every class of it whose package has been imported."""
    from skl2onnx import update_registered_converter, update_registered_parser

    for dotted, needed in zip(recipe.estimators, needed_modules(recipe), strict=True):
        module, _, name = dotted.rpartition(".")
        if needed not in sys.modules:
            continue  # no model here can be of it, and importing the boosters for nothing takes half a second
        try:
            estimator = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
        if recipe.parser is not None:
            update_registered_parser(estimator, recipe.parser)
            _, _, _, names = registries()
            if _first_of(recipe) in names:
                # A pipeline of another library has no name there, without which it can be given no options.
                names.setdefault(estimator, names[_first_of(recipe)])
            continue
        options = dict(recipe.options)
        if recipe.kind in ("classifier", "multilabel") or callable(recipe.kind):
            options = {"zipmap": [True, False, "columns"], "output_class_labels": [False, True], **options}
        update_registered_converter(
            estimator,
            _alias(module, name),
            recipe.shapes or _shapes(recipe),
            _emitter(recipe),
            parser=_parser(recipe),
            options=options or None,
        )


def _first_of(recipe: Recipe) -> Any:
    module, _, name = recipe.estimators[0].rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def _alias(module: str, name: str) -> str:
    """skl2onnx's name for a class; several libraries have an OrdinalEncoder."""
    library = module.partition(".")[0]
    return f"Edgepack{library if library in COMPANIONS else ''}{name}"


def _parser(recipe: Recipe) -> Callable[..., Any]:
    def parse(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
        from skl2onnx._parse import _parse_sklearn
        from skl2onnx._supported_operators import sklearn_operator_name_map
        from skl2onnx.common.data_types import guess_tensor_type

        if recipe.delegate is not None:
            inner = recipe.delegate(model)
            if is_any_classifier(inner):
                scope.add_options(id(inner), {"zipmap": False})
            return _parse_sklearn(scope, inner, inputs, custom_parsers=custom_parsers)
        operator = scope.declare_local_operator(sklearn_operator_name_map[type(model)], model)
        operator.inputs = inputs
        for name in (*OUTPUTS[recipe.kind_of(model)], *recipe.extra(model)):  # noqa: S610  no database here
            operator.outputs.append(scope.declare_local_variable(name, guess_tensor_type(inputs[0].type)))
        return operator.outputs

    return parse


def _shapes(recipe: Recipe) -> Callable[[Any], None]:
    def shapes(operator: Any) -> None:
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType

        model = operator.raw_operator
        inner = DoubleTensorType if is_double(operator) else FloatTensorType
        rows = operator.get_first_dimension() if hasattr(operator, "get_first_dimension") else None
        kind = recipe.kind_of(model)
        if kind in ("regressor", "transformer"):
            kept = StringTensorType if recipe.keeps_text and has_text(operator) else inner
            operator.outputs[0].type = kept([rows, recipe.width(model)])
        elif kind == "multilabel":
            operator.outputs[0].type = label_type(model)([rows, None])
        else:
            label = label_type(model) if kind == "classifier" else Int64TensorType
            operator.outputs[0].type = label([rows])
            if len(operator.outputs) > 1:
                operator.outputs[1].type = inner([rows, None])
        for variable in operator.outputs[len(OUTPUTS[kind]) :]:
            variable.type = inner([rows, None])

    return shapes


def _emitter(recipe: Recipe) -> Callable[[Any, Any, Any], None]:
    def convert(scope: Any, operator: Any, container: Any) -> None:
        kind = recipe.kind_of(operator.raw_operator)
        recipe.emit(Ops(scope, operator, container, extra_from=len(OUTPUTS[kind])))

    return convert


def registries() -> list[dict[Any, Any]]:
    """skl2onnx's own registries: converters, shapes, parsers, and names."""
    from skl2onnx import _parse, _supported_operators
    from skl2onnx.common import _registration

    return [
        _registration._converter_pool,
        _registration._shape_calculator_pool,
        _parse.sklearn_parsers_map,
        _supported_operators.sklearn_operator_name_map,
    ]
