"""The proof for models of named tensors: the original beside the ONNX model, at several sizes and on unusual inputs.

Neutral to frameworks, like ``converters.proof.feeds``, whose values it takes. Runs inside the sandbox only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from converters.graph import checks, edits
from converters.graph.session import Port, Session
from converters.options import Options
from converters.package import manifest
from converters.proof import feeds, parity, second_opinion
from converters.proof.parity import MismatchError, OutputParity
from converters.proof.specs import Explored, Reference, Spec
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError

BATCHES = (1, 2, 4, 7)
MANY_ROWS, FEWEST_MANY, MANY_VALUES = 256, 8, 1 << 20
# How often a model of one size is run, on other values.
STATIC_RUNS = 8
GOLDEN_ROWS = 8
# Beyond this, golden vectors would weigh more than they prove.
GOLDEN_VALUES = 20_000
UNUSUAL_ROWS = 16
UNUSUAL_KINDS = ("nan", "infinity", "huge", "zeros", "halves", "masked", "empty", "negative", "unknown")
# Common inputs, which no manifest can reject: a model that answers them otherwise is not delivered.
PLAIN_KINDS = ("zeros", "halves", "masked")


class UndefinedError(ConversionError):
    """On common inputs the graph answers NaN where the original answers numbers."""


@dataclass(frozen=True)
class Proof:
    """What was compared, and golden vectors.

    ``unusual`` says by kind of unusual input ``rejected``, ``equal``, ``differs`` or ``none``.
    """

    outputs: tuple[manifest.Output, ...]
    parities: tuple[OutputParity, ...]
    unusual: Mapping[str, str]
    golden: Mapping[str, Any] | None
    batches: tuple[int, ...]
    sample_rows: int
    generated_rows: int
    warnings: tuple[str, ...]
    feeds: Mapping[str, Any]
    row_wise: bool = True

    @property
    def rejects(self) -> dict[str, bool]:
        """The manifest's field: kinds that the package must refuse, as the original does or since answers differ."""
        kinds = {kind: how in ("rejected", "differs") for kind, how in self.unusual.items()}
        for kind in PLAIN_KINDS:
            kinds.pop(kind)
        if self.unusual["huge"] == "none":
            kinds["huge"] = kinds["infinity"]  # a float32 input holds it as infinity
        return kinds


def prove(
    reference: Reference,
    session: Session,
    explored: Explored,
    options: Options,
    roles: Mapping[str, str] | None = None,
) -> Proof:
    """Compare every output of the loaded graph with the original's of that name, at sizes 1, 2, 4, 7 and many.

    Inputs of the graph bear the names of the specs. ``roles`` maps outputs to what was declared of them; the others
    are ``values``. Raises ``ConversionError`` where an output differs or either refuses plausible rows, ``UsageError``
    where the user's sample does not fit.
    """
    _same_inputs(session, explored)
    trials = _generated(explored)
    own = None if options.sample is None else feeds.sample_feeds(explored.specs, options.sample)
    if own is not None:
        trials += [own] if explored.batched else list(_slices(own, explored))
    second_opinion.require_repeatable(reference, trials[0])
    batched, some_rows = {spec.name: spec.batched for spec in explored.specs}, trials[min(2, len(trials) - 1)]
    parts: dict[str, list[OutputParity]] = {port.name: [] for port in session.outputs}
    axes: dict[str, set[int]] = {}
    for values in trials:
        original = reference.answer(values)
        for name, array in original.items():
            axes.setdefault(name, set()).add(array.ndim)
        for proof in _compare(original, session, values, options):
            parts[proof.name].append(proof)
    proofs = tuple(_merged(found) for found in parts.values())
    for proof in proofs:
        if not proof.passed:
            second_opinion.require_row_wise(reference, some_rows, batched)
            raise proof.refusal()
    warnings: list[str] = []
    row_wise = second_opinion.first_not_row_wise(reference, some_rows, batched) is None
    if not row_wise:
        warnings.append(
            "the original's answer to a row depends on the other rows of the batch, and so does the ONNX model: "
            f"if that is not meant, {second_opinion.REPEATABLE_HINT}"
        )
    base = trials[-1] if own is not None else trials[0 if not explored.batched else len(BATCHES)]
    some = _head(base, explored, UNUSUAL_ROWS)
    unusual = {kind: _treatment(reference, session, some, kind, explored.specs, options) for kind in UNUSUAL_KINDS}
    for kind, how in unusual.items():
        if how == "differs" and kind != "empty":  # which says little, and of many models
            warnings.append(
                f"the original answers inputs with {_phrase(kind)}, the ONNX model answers otherwise: the package "
                "rejects them"
            )
    for kind in ("negative", "unknown"):
        if unusual[kind] == "rejected" and _answers(session, feeds.unusual(some, kind, explored.specs)):
            warnings.append(f"the original refuses {_phrase(kind)}, which the ONNX model reads as others")
    if not any(None in spec.shape for spec in explored.specs):
        size = next((spec.shape[0] for spec in explored.specs if spec.shape), 1)
        warnings.append(f"the model takes batches of {size} only")
    roles = roles or {}
    outputs = tuple(
        manifest.Output(port.name, roles.get(port.name, "values"), port.dtype, _shape(port, axes[port.name]))
        for port in session.outputs
    )
    golden = _golden(reference, session, _head(base, explored, GOLDEN_ROWS), explored, warnings)
    sizes = sorted({len(array) for values in trials for array in values.values() if array.ndim})
    sample_rows = 0 if own is None else max((len(array) for array in own.values() if array.ndim), default=1)
    total = max((proof.rows for proof in proofs), default=0)
    return Proof(
        outputs,
        proofs,
        unusual,
        golden,
        tuple(sizes),
        sample_rows,
        total - sample_rows,
        tuple(warnings),
        base,
        row_wise,
    )


def prove_model(
    reference: Reference,
    model: Any,
    explored: Explored,
    options: Options,
    roles: Mapping[str, str] | None = None,
) -> Proof:
    """``prove`` for a model that may be changed: it is made to fail where it alone answers NaN, if it does somewhere.

    Raises what ``prove`` raises.
    """
    try:
        return prove(reference, Session(edits.serialize(model)), explored, options, roles)
    except UndefinedError:
        checks.without_nan(model)
        return prove(reference, Session(edits.serialize(model)), explored, options, roles)


def declared_roles(model: Any) -> dict[str, str]:
    """The outputs that are declared ``probabilities``: made by a Softmax over the columns, or by Sigmoids of several.

    One column of a Sigmoid stays a value, as the original gives it. ``model`` is an ONNX model with declared shapes.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for output in model.graph.output:
        axes = output.type.tensor_type.shape.dim
        node = makers.get(output.name)
        while node is not None and node.op_type in ("Identity", "Cast"):
            node = makers.get(node.input[0])
        if node is None or len(axes) != 2 or axes[1].dim_value < 2:
            continue
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)
        if node.op_type == "Sigmoid" or (node.op_type == "Softmax" and axis in (-1, 1)):
            found[output.name] = "probabilities"
    return found


def _shape(port: Port, axes: set[int]) -> tuple[int | None, ...]:
    """The declared shape of an output, or one of the number of axes that its answers have, where it is wrong."""
    return port.shape if len(axes) != 1 or len(port.shape) in axes else (None,) * next(iter(axes))


def _same_inputs(session: Session, explored: Explored) -> None:
    have, want = {port.name for port in session.inputs}, {spec.name for spec in explored.specs}
    if have - want:
        extra = ", ".join(sorted(have - want))
        raise ConversionError(f"the ONNX model has inputs that the original does not have ({extra})", hint=SCRIPT)


def _generated(explored: Explored) -> list[dict[str, Any]]:
    specs, (length, *others) = explored.specs, explored.lengths
    if not explored.batched:
        runs = [feeds.random_feeds(specs, 1, feeds.SEED + run, length) for run in range(STATIC_RUNS)]
        return runs + [feeds.random_feeds(specs, 1, length=other) for other in others]
    values = sum(int(array.size) for array in feeds.random_feeds(specs, 1, length=length).values())
    many = max(FEWEST_MANY, min(MANY_ROWS, MANY_VALUES // max(1, values)))
    trials = [feeds.random_feeds(specs, rows, length=length) for rows in (*BATCHES, many)]
    return trials + [feeds.random_feeds(specs, BATCHES[-1], length=other) for other in others]


def _slices(own: Mapping[str, Any], explored: Explored) -> list[dict[str, Any]]:
    """The user's rows, in batches of the one size that the model takes."""
    size = next((spec.shape[0] for spec in explored.specs if spec.shape), None) or 1
    total = min((len(array) for array in own.values() if array.ndim), default=0)
    return [
        {name: array[start : start + size] if array.ndim else array for name, array in own.items()}
        for start in range(0, total - size + 1, size)
    ]


def _head(values: Mapping[str, Any], explored: Explored, rows: int) -> dict[str, Any]:
    """The first rows, where the number of them may be chosen."""
    batched = {spec.name for spec in explored.specs if spec.batched}
    return {name: array[:rows] if name in batched else array for name, array in values.items()}


def _compare(
    original: Mapping[str, Any], session: Session, values: Mapping[str, Any], options: Options
) -> list[OutputParity]:
    import numpy as np

    proofs = []
    for port, result in zip(session.outputs, _run(session, values), strict=True):
        if port.name not in original:
            raise ConversionError(f'the original has no output "{port.name}" as the ONNX model has', hint=SCRIPT)
        left, right = np.atleast_1d(original[port.name]), np.atleast_1d(result)
        compare = parity.compare_values if right.dtype.kind == "f" else parity.compare_labels
        proofs.append(compare(port.name, "predict", left, right, accepted=options.tolerance(port.name)))
    return proofs


def _run(session: Session, values: Mapping[str, Any]) -> list[Any]:
    """The ONNX model's outputs. Raises ``ConversionError`` that tells the sizes, which are the usual reason."""
    try:
        return session.run({port.name: values[port.name] for port in session.inputs})
    except ConversionError as error:
        sizes = ", ".join(f"{name} {array.shape}" for name, array in values.items())
        raise ConversionError(f"the ONNX model fails where the original answers ({sizes})", hint=SCRIPT) from error


def _treatment(
    reference: Reference,
    session: Session,
    values: dict[str, Any],
    kind: str,
    specs: Sequence[Spec],
    options: Options,
) -> str:
    import numpy as np

    unusual = feeds.unusual(values, kind, specs)
    if unusual is None:
        return "none"
    try:
        original = reference.answer(unusual)
    except ConversionError:
        return "rejected"
    if kind in PLAIN_KINDS:
        own = second_opinion.ask(reference, unusual)
        return _common(original, own, session, unusual, kind, options)
    try:
        if kind == "empty":  # there is nothing to compare but shapes
            pairs = zip(session.outputs, _run(session, unusual), strict=True)
            return "equal" if all(np.shape(original[port.name]) == found.shape for port, found in pairs) else "differs"
        proofs = _compare(original, session, unusual, options)
    except ConversionError:
        return "differs"
    return "equal" if all(proof.passed for proof in proofs) else "differs"


def _common(
    original: Mapping[str, Any],
    own: Mapping[str, Any],
    session: Session,
    values: Mapping[str, Any],
    kind: str,
    options: Options,
) -> str:
    """``equal``, or ``differs`` where the graph fails. Raises ``ConversionError`` where it answers something else.

    Labels may differ where all numbers beside them are equal: then the best ones of all rows are tied.
    """
    try:
        proofs = _compare(original, session, values, options)
    except ConversionError:
        return "differs"
    for proof in proofs:
        if second_opinion.undefined(_named(session, values, proof.name), original[proof.name], own.get(proof.name)):
            raise UndefinedError(
                f'output "{proof.name}" of the ONNX model is NaN on inputs with {_phrase(kind)}, which the original '
                "answers with numbers",
                hint="let the model replace NaN before it answers (torch.nan_to_num), and export it again",
            )
    differing = [proof for proof in proofs if not proof.passed]
    numbers = [proof for proof in proofs if proof.label_agreement is None]
    if not differing or (numbers and all(proof.passed for proof in numbers)):
        return "equal"
    refusal = differing[0].refusal()
    raise MismatchError(f"on inputs with {_phrase(kind)} {refusal.what}", hint=SCRIPT, parity=differing[0])


def _named(session: Session, values: Mapping[str, Any], name: str) -> Any:
    """The output of that name."""
    pairs = zip(session.outputs, _run(session, values), strict=True)
    return next(found for port, found in pairs if port.name == name)


def _answers(session: Session, values: Mapping[str, Any] | None) -> bool:
    """Whether the ONNX model takes the values at all."""
    if values is None:
        return False
    try:
        _run(session, values)
    except ConversionError:
        return False
    return True


def _phrase(kind: str) -> str:
    phrases = {
        "nan": "missing numbers",
        "infinity": "infinite numbers",
        "huge": "numbers too large for float32",
        "zeros": "nothing but zeros",
        "halves": "multiples of a half",
        "masked": "masks that are all True or all False",
        "empty": "no rows",
        "negative": "negative whole numbers",
        "unknown": "unknown values",
    }
    return phrases[kind]


def _merged(proofs: Sequence[OutputParity]) -> OutputParity:
    """One proof over the rows of all."""
    rows, differing = sum(proof.rows for proof in proofs), sum(proof.differing for proof in proofs)
    labelled = proofs[0].label_agreement is not None
    decades: dict[str, int] = {}
    for proof in proofs:
        for decade, count in proof.sketch.get("decades", {}).items():
            decades[decade] = decades.get(decade, 0) + count
    shown = next(({"differing": found} for proof in proofs if (found := proof.sketch.get("differing"))), {})
    longest = max(proofs, key=lambda proof: len(proof.sketch.get("points", ())))
    return replace(
        proofs[0],
        rows=rows,
        max_abs=max(proof.max_abs for proof in proofs),
        max_rel=max(proof.max_rel for proof in proofs),
        label_agreement=1.0 - differing / max(1, rows) if labelled else None,
        differing=differing,
        ties=sum(proof.ties for proof in proofs),
        first_row=None,
        needed=_most_needed(proofs),
        sketch=longest.sketch | shown | ({"decades": decades} if decades else {}),
    )


def _most_needed(proofs: Sequence[OutputParity]) -> float | None:
    """The tolerance that all would be within; None where none would do for one of them."""
    off = [proof for proof in proofs if not proof.passed]
    if any(proof.needed is None for proof in off):
        return None
    if off and off[0].label_agreement is not None:
        return sum(proof.differing - proof.ties for proof in proofs) / max(1, sum(proof.rows for proof in proofs))
    return max((proof.needed for proof in off if proof.needed is not None), default=None)


def _golden(
    reference: Reference, session: Session, values: dict[str, Any], explored: Explored, warnings: list[str]
) -> dict[str, Any] | None:
    """Some rows with the original's answers; None, with a warning, where they are too many values or not finite."""
    import numpy as np

    rows = GOLDEN_ROWS if explored.batched else 1
    while rows:
        chosen = _head(values, explored, rows)
        original = reference.answer(chosen)
        answers = {port.name: np.asarray(original[port.name]) for port in session.outputs}
        arrays = [*chosen.values(), *answers.values()]
        if sum(array.size for array in arrays) <= GOLDEN_VALUES:
            break
        rows //= 2
    else:
        warnings.append(f"no golden vectors: one row has more than {GOLDEN_VALUES} values")
        return None
    if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in arrays):
        warnings.append("no golden vectors: the answers are not finite")  # JSON has no other numbers
        return None
    return {
        "inputs": {name: manifest.plain(array) for name, array in chosen.items()},
        "outputs": {name: manifest.plain(array) for name, array in answers.items()},
    }
