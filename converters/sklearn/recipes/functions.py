"""FunctionTransformer: well-known functions of numpy's, and a user's own where it treats each row for itself."""

from __future__ import annotations

from typing import Any

from converters.sklearn.recipes.traced import trace
from converters.sklearn.recipes.traced_numbers import UntraceableError
from converters.sklearn.recipes.writing.functions import known
from converters.sklearn.recipes.writing.ops import Ops, has_text
from converters.sklearn.recipes.writing.registry import Recipe
from converters.sklearn.recipes.writing.traced_graph import write
from edgepack.errors import ConversionError


def function_transformer(ops: Ops) -> None:
    """The function's value of each number; without a function, the input itself."""
    model = ops.model
    if model.func is None:
        _identity(ops)
        return
    if has_text(ops.operator):
        raise ConversionError(
            f"FunctionTransformer of {_called(model.func)} takes text here",
            hint="give it columns of numbers, or do this step before the model",
        )
    emit = None if model.kw_args else known(model.func)
    if emit is not None:
        ops.answer(0, emit(ops, ops.matrix()))
        return
    try:
        ops.answer(0, write(ops, ops.matrix(), _traced(model)))
    except UntraceableError as error:
        raise ConversionError(
            f"FunctionTransformer calls {_called(model.func)}, which {error}",
            hint="write it with numpy's functions, each row for itself (np.sin, np.where, np.column_stack and so on), "
            "or do this step before the model",
        ) from error


def _traced(model: Any) -> tuple[Any, ...]:
    """What the function makes of a row, given as it was at fit: a data frame has names."""
    names = None if model.validate else getattr(model, "feature_names_in_", None)
    return trace(
        model.func, int(model.n_features_in_), names=None if names is None else list(names), options=model.kw_args
    )


def _identity(ops: Ops) -> None:
    if has_text(ops.operator):
        names = [variable.full_name for variable in ops.operator.inputs]
        ops.answer(0, names[0] if len(names) == 1 else ops.add("Concat", *names, axis=1))
    else:
        ops.answer(0, ops.matrix())


def _called(func: Any) -> str:
    name = getattr(func, "__qualname__", None) or getattr(func, "__name__", None) or type(func).__name__
    return "a lambda" if "<lambda>" in name else f"the function {name!r}"


def _width(model: Any) -> int | None:
    count = getattr(model, "n_features_in_", None)
    if count is None or model.func is None or (known(model.func) is not None and not model.kw_args):
        return None if count is None else int(count)
    try:
        return len(_traced(model))
    except UntraceableError:  # which the conversion of it says
        return int(count)


RECIPES = (
    Recipe(
        ("sklearn.preprocessing.FunctionTransformer",),
        "transformer",
        function_transformer,
        width=_width,
        keeps_text=True,
    ),
)
