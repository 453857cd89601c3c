"""Steps that take a data frame and give one: category_encoders and feature_engine, column by column.

Between two of them every column is a variable of its own, of its own type. An encoder is a table for each column, which
the fitted encoder itself was asked for. What a step refuses, the graph fails on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from converters.companions import asking, frame_steps
from converters.graph.checks import passed
from converters.sklearn.inputs import MISSING_TEXT
from converters.sklearn.recipes import frame_arithmetic, frame_columns
from converters.sklearn.recipes.writing.columns import Column, lookup, split
from converters.sklearn.recipes.writing.frame_plans import ColumnKind, Columns, Given, Plan, any_row, dotted
from converters.sklearn.recipes.writing.ops import Ops, is_double
from converters.sklearn.recipes.writing.registry import Recipe
from converters.sklearn.recipes.writing.variables import fitting, flat, side_by_side, sliced
from edgepack.errors import ConversionError


class FrameStep:
    """A step with the kinds of its columns, as an estimator."""

    def __init__(self, of: Any, kinds: Sequence[ColumnKind]) -> None:
        self.of = of
        self.kinds = tuple(kinds)
        self.plan = planned(of, kinds)
        # A step that refuses rows refuses them whichever of its columns are used.
        self.written = [given for given in self.plan.columns if given.place is None or self.plan.faults]


def planned(part: Any, kinds: Sequence[ColumnKind]) -> Plan:
    """How a step is written for columns of these kinds. Raises ``ConversionError`` for one that cannot be."""
    name = dotted(part)
    if name in REFUSED:
        what, hint = REFUSED[name]
        raise ConversionError(f"{name} {what}", hint=hint)
    if name in PLANS:
        return PLANS[name](part, kinds)
    if name in ENCODERS:
        return _looked_up(part, kinds)
    raise ConversionError(
        f"there is no ONNX converter for {name}", hint="do this step before the model, or use another transformer"
    )


def columns_of(scope: Any, part: Any, inputs: Sequence[Any]) -> list[Any]:
    """skl2onnx's variables of the columns that a step gives, one each."""
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    every = flat(inputs, len(frame_steps.labels(part)))
    if len(every) != len(frame_steps.labels(part)):
        raise ConversionError(
            f"{type(part).__name__} is given {len(every)} columns and was trained on {len(frame_steps.labels(part))}",
            hint="save the pipeline again after fit",
        )
    columns = [sliced(scope, [column])[0] for column in every]
    if dotted(part) == _WRAPPER:
        return _wrapped(scope, part, columns)
    step = FrameStep(part, [_kind(variable) for variable in columns])
    if not step.written:
        return [columns[given.place] for given in step.plan.columns if given.place is not None]
    operator = scope.declare_local_operator(sklearn_operator_name_map[FrameStep], step)
    operator.inputs = columns
    number = DoubleTensorType if is_double(operator) else FloatTensorType
    found = []
    for given in step.plan.columns:
        if given.place is not None and not step.plan.faults:
            found.append(columns[given.place])
            continue
        kind = (
            type(columns[given.place].type) if given.place is not None else StringTensorType if given.text else number
        )
        operator.outputs.append(scope.declare_local_variable("column", kind([None, 1])))
        found.append(operator.outputs[-1])
    return found


def parse_frame(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """The step's columns side by side, where it is the whole model."""
    return [side_by_side(scope, columns_of(scope, model, list(inputs)), f"the {type(model).__name__} answers")]


def frame_step(ops: Ops) -> None:
    """The columns that are written, each checked where the step refuses rows."""
    step: FrameStep = ops.model
    columns = split(ops)
    fault = _any(ops, [flag(ops, columns) for flag in step.plan.faults])
    for number, given in enumerate(step.written):
        name = ops.operator.inputs[given.place or 0].full_name if given.write is None else given.write(ops, columns)
        ops.answer(number, name if fault is None else passed(ops, name, fault))


def _shapes(operator: Any) -> None:
    """Nothing: the types are known when the columns are declared."""


def _any(ops: Ops, flags: Sequence[str]) -> str | None:
    found: str | None = None
    for flag in flags:
        found = flag if found is None else ops.add("Or", found, flag)
    return found


def _kind(variable: Any) -> ColumnKind:
    from skl2onnx.common.data_types import BooleanTensorType, Int64TensorType, StringTensorType

    if isinstance(variable.type, StringTensorType):
        return "text"
    return "whole" if isinstance(variable.type, Int64TensorType | BooleanTensorType) else "number"


@dataclass
class _Index:
    """Where a column's value is in its table, written once for all outputs that are looked up by it."""

    lookup: asking.Lookup
    kind: ColumnKind
    names: dict[int, str] = field(default_factory=dict)

    def write(self, ops: Ops, columns: Columns) -> str:
        """Per row the place among the known, the missing and the unknown; int64, shape (rows,)."""
        found = self.names.get(id(ops))
        if found is None:
            column, known = columns[self.lookup.place], self.lookup.known
            if self.kind == "text" and not all(isinstance(value, str) for value in known[:-1]):
                raise ConversionError(
                    "an encoder has learnt values that are not text in a column that holds text here",
                    hint="give a sample whose columns hold what the model was trained on, one kind in each",
                )
            if self.kind == "whole":  # where nothing can be missing, and all digits of a whole number count
                if self.lookup.rounds:
                    column = Column(ops.cast(column.name, _DOUBLE), "number")
                place = lookup(ops, column, known[:-1])
                unknown = ops.add("Equal", place, len(known) - 1)
                found = ops.add("Where", unknown, len(known), place)
            else:
                found = lookup(ops, column, known)
            self.names[id(ops)] = found
        return found

    def refuses(self, place: int) -> Callable[[Ops, Columns], str]:
        """A flag: whether any row has that place."""
        return lambda ops, columns: any_row(ops, ops.add("Equal", self.write(ops, columns), place))


def _looked_up(part: Any, kinds: Sequence[ColumnKind]) -> Plan:
    asked = asking.ask(part)
    columns: list[Given | None] = [None] * asked.count
    faults = []
    for output, place in asked.passed.items():
        columns[output] = Given(place)
    for found in asked.lookups:
        index = _Index(found, kinds[found.place])
        for output, values in found.outputs.items():
            columns[output] = _from_table(part, index, values)
        if found.refuses_unknown:
            faults.append(index.refuses(len(found.known)))
        if found.refuses_missing and kinds[found.place] != "whole":
            faults.append(index.refuses(len(found.known) - 1))
    for output, value in asked.constants.items():
        columns[output] = _constant(part, value)
    return Plan([column for column in columns if column is not None], faults)


def _from_table(part: Any, index: _Index, values: Sequence[Any]) -> Given:
    table, text = _table(part, values)
    return Given(
        text=text,
        write=lambda ops, columns: ops.add("Gather", ops.constant(table), index.write(ops, columns), axis=0),
    )


def _constant(part: Any, value: Any) -> Given:
    table, text = _table(part, [value])
    return Given(text=text, write=lambda ops, columns: ops.for_each_row(ops.constant(table) if text else table))


def _table(part: Any, values: Sequence[Any]) -> tuple[Any, bool]:
    """The values one below the other, as text or as numbers."""
    import numpy as np

    present = [value for value in values if not frame_steps.is_missing(value)]
    if any(isinstance(value, str) for value in present):
        if not all(isinstance(value, str) for value in present):
            raise ConversionError(
                f"{type(part).__name__} gives a column of text and of numbers at once, which ONNX cannot",
                hint="let it replace text by text, and numbers by numbers",
            )
        return np.array([[MISSING_TEXT if frame_steps.is_missing(v) else v] for v in values], dtype=object), True
    return np.array([[np.nan if frame_steps.is_missing(v) else float(v)] for v in values], dtype=np.float64), False


def _wrapped(scope: Any, part: Any, columns: Sequence[Any]) -> list[Any]:
    """feature_engine's wrapper: the inner transformer on some of the columns, in their place or behind the others."""
    from skl2onnx._parse import _parse_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    names, inner = frame_steps.labels(part), part.transformer_
    places = [names.index(name) for name in part.variables_]
    if hasattr(part, "features_to_drop_"):
        return [columns[place] for place, name in enumerate(names) if name not in part.features_to_drop_]
    fed = fitting(scope, inner, [columns[place] for place in places])
    answer = _parse_sklearn(scope, inner, fed)[0]
    # Until all is parsed skl2onnx only guesses at it.
    text = all(isinstance(variable.type, StringTensorType) for variable in fed)
    single = all(isinstance(variable.type, FloatTensorType) for variable in fed)
    keeps = text and type(inner).__name__ == "SimpleImputer"
    answer.type = (StringTensorType if keeps else FloatTensorType if single else DoubleTensorType)([None, None])
    if type(inner).__name__ in ("OneHotEncoder", "PolynomialFeatures"):
        width = len(inner.get_feature_names_out(part.variables_))
        return [
            *(column for place, column in enumerate(columns) if place not in places),
            *(sliced(scope, [(answer, index)])[0] for index in range(width)),
        ]
    replaced = {place: sliced(scope, [(answer, index)])[0] for index, place in enumerate(places)}
    return [replaced.get(place, column) for place, column in enumerate(columns)]


PLANS = {**frame_arithmetic.PLANS, **frame_columns.PLANS}
_DOUBLE = 11  # TensorProto.DOUBLE
_ONE_EACH = "use an encoder that looks each category up, such as OrdinalEncoder or TargetEncoder"
_ROWS = "drop such rows before the model: a service answers every row that it is sent"
_WRAPPER = "feature_engine.wrappers.SklearnTransformerWrapper"

ENCODERS = (
    *(
        f"category_encoders.{name}"
        for name in (
            "BackwardDifferenceEncoder", "BaseNEncoder", "BinaryEncoder", "CatBoostEncoder", "CountEncoder",
            "CountTargetEncoder", "GLMMEncoder", "GrayEncoder", "HelmertEncoder", "JamesSteinEncoder",
            "LeaveOneOutEncoder", "MEstimateEncoder", "OneHotEncoder", "OrdinalEncoder", "PolynomialEncoder",
            "QuantileEncoder", "RankHotEncoder", "SumEncoder", "SummaryEncoder", "TargetEncoder", "WOEEncoder",
        )
    ),
    *(
        f"feature_engine.encoding.{name}"
        for name in (
            "CountFrequencyEncoder", "DecisionTreeEncoder", "MeanEncoder", "OneHotEncoder", "OrdinalEncoder",
            "RareLabelEncoder", "WoEEncoder",
        )
    ),
)  # fmt: skip
REFUSED = {
    "category_encoders.HashingEncoder": ("hashes the text of a category, which ONNX cannot", _ONE_EACH),
    "category_encoders.MultiHotEncoder": ("takes a category's text apart, which is not converted", _ONE_EACH),
    "category_encoders.NestedCVWrapper": ("is not converted", "use the encoder itself"),
    "category_encoders.PolynomialWrapper": ("is not converted", "use the encoder itself, one for each class"),
    "feature_engine.encoding.StringSimilarityEncoder": ("compares texts, which ONNX cannot", _ONE_EACH),
    "feature_engine.imputation.DropMissingData": ("leaves out rows at prediction", _ROWS),
    "feature_engine.outliers.OutlierTrimmer": ("leaves out rows at prediction", _ROWS),
    "feature_engine.imputation.RandomSampleImputer": (
        "draws at random at prediction",
        "use MeanMedianImputer, CategoricalImputer or ArbitraryNumberImputer",
    ),
    "feature_engine.transformation.ArcsinTransformer": (
        "takes the arc sine, which onnxruntime has in float32 only",
        "use another transformer, such as YeoJohnsonTransformer",
    ),
    "feature_engine.datetime.DatetimeFeatures": (
        "takes dates apart, for which ONNX has no type",
        "make numbers of the dates before the model",
    ),
}

RECIPES = (
    Recipe((f"{__name__}.FrameStep",), "transformer", frame_step, shapes=_shapes),
    Recipe((*ENCODERS, *REFUSED, *PLANS, _WRAPPER), "transformer", frame_step, parser=parse_frame),
)
