"""The ways to write an estimator as a graph, best first; the first that passes the comparison is taken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters import routes
from converters.error_text import first_line
from converters.graph import edits, forest
from converters.sklearn import recipes
from converters.sklearn.inputs import Floats, Inputs
from converters.sklearn.original import Original
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError

TARGET_OPSET = {"": 18, "ai.onnx.ml": 3}
IR_VERSION = 8  # the one of opset 18
# A file of this size may hold weights for which half the bytes matter.
LARGE_FILE = 1 << 20
# Models of these packages of scikit-learn bend but do not jump, so that float32 is as good as float64 but for digits.
SMOOTH = ("neural_network", "svm", "gaussian_process", "kernel_ridge", "linear_model", "decomposition", "pipeline")
SMOOTH_ALSO = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "LabelBinarizer", "LabelEncoder")
EXACT_TREES_IR = 10
# Operators that compare and add in float64, and answer in float32.
FLOAT_ANSWERS = ("TreeEnsembleRegressor", "TreeEnsembleClassifier")


class RefusedError(ConversionError):
    """One of our converters found that a part of the model has no right form: no other attempt may be made."""


@dataclass(frozen=True)
class Attempt:
    """One way: the type of the arithmetic, and whether our converters replace skl2onnx's."""

    name: str
    floats: Floats
    ours: bool

    def resolution(self, original: Original, model: Any) -> float:
        """By how much two scores must differ at least for the graph's numbers to tell them apart.

        Each addition of an ensemble's parts in float32 may round off 2**-25, in the worst case all in one direction;
        of forests up to 2000 trees, classes that were tied came out at most 2**-27 for each tree apart. This is twice
        that.
        """
        if self.floats == "float32":
            return max(2.0**-21, original.additions * 2.0**-26)
        if any(node.op_type in FLOAT_ANSWERS for node in model.graph.node):
            return 2.0**-23
        return max(2.0**-44, original.additions * 2.0**-52)


DOUBLE = Attempt("float64", "float64", ours=True)
SINGLE = Attempt("float32", "float32", ours=True)
STOCK = Attempt("float32-skl2onnx", "float32", ours=False)


def attempts(original: Original, size: int) -> Sequence[Attempt]:
    """The ways to try for a file of ``size`` bytes, in order.

    float64 is scikit-learn's own arithmetic; large weights are tried at half the bytes first where nothing jumps.
    """
    if size >= LARGE_FILE and all(_smooth(part) for part in routes.walk(original.model)):
        return (SINGLE, DOUBLE, STOCK)
    return (DOUBLE, SINGLE, STOCK)


def _smooth(part: Any) -> bool:
    module = type(part).__module__.split(".")
    return type(part).__name__ in SMOOTH_ALSO or (len(module) > 1 and module[0] == "sklearn" and module[1] in SMOOTH)


def build(
    original: Original, inputs: Inputs, attempt: Attempt, *, ties_accepted: bool = False, guarded: bool = False
) -> tuple[Any, Inputs]:
    """The graph, and the inputs with the names that it gave them. Raises ``ConversionError``.

    A ``guarded`` graph fails where a part of the model refuses the numbers that it is given.
    """
    with recipes.registered(ours=attempt.ours, ties_accepted=ties_accepted, guarded=guarded):
        model = _convert(original, inputs)
    edits.strip(model)
    model.ir_version = IR_VERSION
    _complete_opsets(model)
    names = tuple(value.name for value in model.graph.input)
    if len(names) != len(inputs.dtypes):
        raise ConversionError("the converter drops inputs of this model", hint=SCRIPT)
    edits.prune(model)
    return model, inputs.of(names, edits.take_out_unread(model))


def _convert(original: Original, inputs: Inputs) -> Any:
    from skl2onnx import convert_sklearn

    failure: Exception | None = None
    for options in _options(original):
        try:
            return convert_sklearn(
                original.model,
                name="model",  # its own choice is random
                initial_types=inputs.initial_types(),
                target_opset=TARGET_OPSET,
                options={id(original.model): options} if options else None,
            )
        except NameError as error:  # skl2onnx's word for an option that this estimator does not have
            failure = error
        except ConversionError as error:
            raise RefusedError(error.what, where=error.where, hint=error.hint) from error
        except Exception as error:  # converters fail in every way, and each one means the same here
            raise _no_converter(original, error) from error
    raise _no_converter(original, failure or ConversionError("no options")) from failure


def _options(original: Original) -> Iterator[Mapping[str, bool]]:
    if original.is_classifier:
        if not original.has("predict_proba"):
            yield {"zipmap": False, "raw_scores": True}
            yield {"raw_scores": True}
        yield {"zipmap": False}
    yield {}


def _complete_opsets(model: Any) -> None:
    """Name the main operator set, which a model of only ai.onnx.ml operators omits and our edits need.

    Exact trees need a newer ai.onnx.ml than skl2onnx writes, and the IR of its time.
    """
    from onnx import helper

    present = edits.opsets(model)
    model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in TARGET_OPSET if domain not in present)
    for entry in model.opset_import:
        entry.version = max(entry.version, TARGET_OPSET.get(entry.domain, 0))
    forest.settle_opset(model)
    if edits.opsets(model)["ai.onnx.ml"] > TARGET_OPSET["ai.onnx.ml"]:
        model.ir_version = EXACT_TREES_IR


def _no_converter(original: Original, error: Exception) -> ConversionError:
    kind = type(original.model).__name__
    if type(error).__name__ == "MissingShapeCalculator":
        missing = re.search(r"<class '[\w.]*?(\w+)'>", str(error))
        kind = missing[1] if missing else kind
        return ConversionError(f"there is no ONNX converter for {kind}", hint=f"use another estimator, or {SCRIPT}")
    return ConversionError(f"{kind} cannot be converted ({first_line(error)})", hint=SCRIPT)
