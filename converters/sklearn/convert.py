"""scikit-learn -> ONNX: skl2onnx's own converters on float32, with the label that suits, proven against the original.

Runs inside the sandbox only: ``convert`` unpickles. A later recipe is another way to fill ``_to_onnx``, or another
variant in ``labels.choose``; the comparison that decides over it stays the same.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from converters import graph, manifest, parity, samples
from converters.samples import Table
from converters.sklearn import labels, proof, rows
from converters.sklearn.inputs import Inputs, complete
from converters.sklearn.original import ONNX_WAY_OUT, Original, load
from edgepack.errors import ConversionError

TARGET_OPSET = {"": 18, "ai.onnx.ml": 3}
IR_VERSION = 8  # the one of opset 18


def convert(path: Path, digest: str, sample: Path | None) -> manifest.Converted:
    """Convert the pickled estimator in ``path`` and prove it equal, or raise ``ConversionError`` or ``UsageError``."""
    original = load(path)
    given = None if sample is None else original.select(samples.read(sample))
    template = given if given is not None else rows.generate(original.model, original.names)
    if given is None and original.takes_text:
        raise ConversionError(
            "the model takes text, and nothing says what its columns hold",
            hint="give --sample-input with a CSV file of some rows of its inputs",
        )
    notes = [*original.warnings, *_known_limits(original)]
    table = complete(template, notes)
    by_column = original.by_name or not table.numeric
    model, names = _to_onnx(original, table, by_column)
    inputs = Inputs(table, by_column, names)
    every = table.stack(rows.resample(table)) if given is not None else table
    model, recipe = labels.choose(original, model, inputs, every)
    outputs, proofs = proof.settle(original, model, inputs, every, notes)
    graph.check(model)
    data = graph.serialize(model)
    session = graph.Session(data)
    proof.single_rows(original, session, inputs, every, outputs)
    odd = {
        kind: proof.treats(original, session, inputs, rows.with_odd_values(every, value), outputs)
        for kind, value in (("nan", float("nan")), ("infinity", float("inf")))
    }
    notes += [
        f"the original answers inputs with {kind}, the ONNX model answers otherwise: the package rejects them"
        for kind, how in odd.items()
        if how == "differs"
    ]
    golden = proof.golden(original, inputs, every, outputs, notes)
    result = parity.summary(proofs)
    source = {
        "framework": "ScikitLearn",
        "version": original.trained_version,
        "digest": digest,
        "recipe": recipe,
    }
    document = manifest.build(
        source=source,
        opset=graph.opsets(model),
        minimum_runtime=graph.minimum_runtime(model),
        inputs=inputs.describe(original.named),
        outputs=[entry.output for entry in outputs],
        methods=_methods(outputs),
        rejects={kind: how != "equal" for kind, how in odd.items()},
        parity=result,
    )
    report = {
        "source": source,
        "estimator": type(original.model).__name__,
        "rows": {"sample": 0 if given is None else len(table), "generated": rows.GENERATED_ROWS},
        "batches": [1, len(every)],
        "outputs": [entry.to_json() for entry in proofs],
        "odd_inputs": odd,
        "summary": result,
        "warnings": notes,
        "versions": original.versions,
    }
    return manifest.Converted(data, document, golden, report, original.trained_version)


def _to_onnx(original: Original, table: Table, by_column: bool) -> tuple[Any, tuple[str, ...]]:
    """A converted model, and the graph's names of the columns, or of the one matrix."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import BooleanTensorType, FloatTensorType, Int64TensorType, StringTensorType

    kinds = {"f": FloatTensorType, "i": Int64TensorType, "b": BooleanTensorType, "O": StringTensorType}
    types = [("X", FloatTensorType([None, len(table.names)]))]
    if by_column:
        pairs = zip(table.names, table.columns, strict=True)
        types = [(name, kinds[column.dtype.kind]([None, 1])) for name, column in pairs]
    failure: Exception | None = None
    for options in _option_ladder(original):
        try:
            model = convert_sklearn(
                original.model,
                name="model",  # its own choice is random
                initial_types=types,
                target_opset=TARGET_OPSET,
                options={id(original.model): options} if options else None,
            )
        except NameError as error:  # skl2onnx's word for an option that this estimator does not have
            failure = error
            continue
        except Exception as error:  # converters fail in every way, and each one means the same here
            raise _no_converter(original, error) from error
        graph.strip(model)
        model.ir_version = IR_VERSION
        _complete_opsets(model)
        names = tuple(value.name for value in model.graph.input)
        if len(names) != len(types):
            raise ConversionError("the converter drops inputs of this model", hint=ONNX_WAY_OUT)
        return model, names
    raise _no_converter(original, failure or ConversionError("no options")) from failure


def _known_limits(original: Original) -> list[str]:
    """What the comparison would only show on rows that are made for it."""
    if not any(type(part).__name__ == "TreePredictor" for part in rows.walk(original.model)):
        return []
    return [
        "histogram boosting compares in float64, the ONNX model in float32: a value that lies on a threshold to "
        "seven digits may take the other branch; give a sample to have your own rows compared"
    ]


def _option_ladder(original: Original) -> Sequence[Mapping[str, bool]]:
    if not original.is_classifier:
        return ({},)
    if original.has("predict_proba"):
        return ({"zipmap": False}, {})
    return ({"zipmap": False, "raw_scores": True}, {"raw_scores": True}, {"zipmap": False}, {})


def _complete_opsets(model: Any) -> None:
    """Name the main operator set, which a model of only ai.onnx.ml operators omits and our edits need."""
    from onnx import helper

    if "" not in graph.opsets(model):
        model.opset_import.append(helper.make_opsetid("", TARGET_OPSET[""]))
    for entry in model.opset_import:
        entry.version = max(entry.version, TARGET_OPSET.get(entry.domain, 0))


def _no_converter(original: Original, error: Exception) -> ConversionError:
    kind = type(original.model).__name__
    if type(error).__name__ == "MissingShapeCalculator":
        missing = re.search(r"<class '[\w.]*?(\w+)'>", str(error))
        kind = missing[1] if missing else kind
        return ConversionError(
            f"there is no ONNX converter for {kind}", hint=f"use another estimator, or {ONNX_WAY_OUT}"
        )
    return ConversionError(f"{kind} cannot be converted ({graph.first_line(error)})", hint=ONNX_WAY_OUT)


def _methods(outputs: Sequence[proof.Answer]) -> dict[str, Any]:
    """The default is ``predict_proba`` where there is one, else the first of ``predict`` and ``transform``."""
    methods: dict[str, Any] = {answer.method: [answer.output.name] for answer in outputs}
    preferred = [name for name in ("predict_proba", "predict", "transform") if name in methods]
    return {"default": preferred[0], **methods}


def quiet() -> None:
    """Silence the frameworks' warnings, which speak to a training script; ``load`` collects those that matter."""
    warnings.simplefilter("ignore")
