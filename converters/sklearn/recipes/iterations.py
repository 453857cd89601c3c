"""Decompositions whose transform iterates: NMF, topics, sparse codes. The graph takes the original's own steps.

skl2onnx has none of them. Where the original stops by a figure of the whole batch (NMF), so does the graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing.body import Body
from converters.sklearn.recipes.writing.loops import iterate, solve_positive
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe
from edgepack.errors import ConversionError

_TINY = float(np.finfo(np.float32).eps)  # sklearn.decomposition._nmf.EPSILON


def nmf(ops: Ops) -> None:
    """Non-negative weights of the components, by coordinate descent or multiplicative updates."""
    model = ops.model
    if model.solver == "cd":
        _coordinate_descent(ops)
    else:
        _multiplicative(ops, model.max_iter, _error_stops)


def mini_batch_nmf(ops: Ops) -> None:
    """Non-negative weights by multiplicative updates."""
    _multiplicative(ops, ops.model._transform_max_iter, _change_stops)


def _coordinate_descent(ops: Ops) -> None:
    model, x = ops.model, ops.matrix()
    if model.shuffle:
        raise ConversionError("NMF(shuffle=True) draws at random at every call", hint="train it with shuffle=False")
    components = np.asarray(model.components_, dtype=float)
    count = len(components)
    l1, l2 = _penalties(model, components.shape[1])
    gram = components @ components.T + l2 * np.eye(count)
    cross = ops.add("Sub", ops.add("MatMul", x, components.T.copy()), l1)

    def step(body: Body, number: str, states: list[str]) -> tuple[str, list[str]]:
        weights, given, first = states
        columns = [body.add("Gather", weights, np.array([at]), axis=1) for at in range(count)]
        violation = body.add("Mul", first, 0.0)
        for at in range(count):
            product = body.add("MatMul", body.add("Concat", *columns, axis=1), gram[:, [at]])
            gradient = body.add("Sub", product, body.add("Gather", given, np.array([at]), axis=1))
            held = body.add("Min", gradient, 0.0)
            projected = body.add("Where", body.add("Equal", columns[at], 0.0), held, gradient)
            total = body.add("ReduceSum", body.add("Abs", projected), np.array([0, 1]), keepdims=1)
            violation = body.add("Add", violation, total)
            if gram[at, at] != 0:
                moved = body.add("Sub", columns[at], body.add("Div", gradient, gram[at, at]))
                columns[at] = body.add("Max", moved, 0.0)
        start = body.add("Where", body.add("Equal", number, np.array(0)), violation, first)
        enough = body.add("LessOrEqual", violation, body.add("Mul", start, float(model.tol)))
        go_on = body.add("Squeeze", body.add("Not", enough), np.array([0, 1]))
        return go_on, [body.add("Concat", *columns, axis=1), given, start]

    zero = ops.add("Mul", cross, 0.0)
    found = iterate(ops, int(model.max_iter), [zero, cross, ops.constant(np.zeros((1, 1)))], step)
    ops.answer(0, found[0])


def _multiplicative(ops: Ops, limit: int, stops: Any) -> None:
    model, x = ops.model, ops.matrix()
    loss = {"frobenius": 2.0, "kullback-leibler": 1.0}.get(model.beta_loss, model.beta_loss)
    if loss not in (1, 2):
        raise ConversionError(
            f"{type(model).__name__}(beta_loss={model.beta_loss!r}) is not converted",
            hint="use 'frobenius' or 'kullback-leibler'",
        )
    components = np.asarray(model.components_, dtype=float)
    l1, l2 = _penalties(model, components.shape[1])

    def updated(body: Body, weights: str, given: str) -> str:
        if loss == 2:
            above = body.add("MatMul", given, components.T.copy())
            below = body.add("MatMul", weights, components @ components.T)
        else:
            whole = body.add("Max", body.add("MatMul", weights, components), _TINY)
            above = body.add("MatMul", body.add("Div", given, whole), components.T.copy())
            below = body.add("Add", body.add("Mul", weights, 0.0), components.sum(axis=1)[None, :])
        below = body.add("Add", body.add("Add", below, l1), body.add("Mul", weights, l2))
        below = body.add("Where", body.add("Equal", below, 0.0), _TINY, below)
        return body.add("Mul", weights, body.add("Div", above, below))

    def step(body: Body, number: str, states: list[str]) -> tuple[str, list[str]]:
        weights, given, first, last = states
        new = updated(body, weights, given)
        error = _divergence(body, given, new, components, loss) if stops is _error_stops else last
        go_on, last = stops(body, number, weights, new, first, last, error, float(model.tol))
        return go_on, [new, given, first, last]

    mean = ops.add("ReduceMean", x, [0, 1], keepdims=1)
    level = ops.add("Sqrt", ops.add("Div", mean, float(len(components))))
    start = ops.add("Add", ops.add("Mul", ops.add("MatMul", x, np.zeros(components.T.shape)), 0.0), level)
    first = ops.constant(np.ones((1, 1)))
    if stops is _error_stops:
        first = _divergence(ops, x, start, components, loss)
    ops.answer(0, iterate(ops, int(limit), [start, x, first, first], step)[0])


def _error_stops(
    body: Body, number: str, old: str, new: str, first: str, last: str, error: str, tolerance: float
) -> tuple[str, str]:
    """NMF: every tenth round, whether the error still falls by the tolerance."""
    del old, new
    tenth = body.add("Equal", body.add("Mod", body.add("Add", number, np.array(1)), np.array(10)), np.array(0))
    gain = body.add("Div", body.add("Sub", last, error), first)
    small = body.add("Squeeze", body.add("Less", gain, tolerance), np.array([0, 1]))
    stop = body.add("And", tenth, small) if tolerance > 0 else body.add("And", small, body.add("Not", small))
    return body.add("Not", stop), body.add("Where", tenth, error, last)


def _change_stops(
    body: Body, number: str, old: str, new: str, first: str, last: str, error: str, tolerance: float
) -> tuple[str, str]:
    """MiniBatchNMF: whether the weights still change by the tolerance (the first change is from the start)."""
    del number, first, error

    def norm(name: str) -> str:
        return body.add("Sqrt", body.add("ReduceSum", body.add("Mul", name, name), np.array([0, 1]), keepdims=0))

    change = body.add("Div", norm(body.add("Sub", new, old)), norm(new))
    small = body.add("LessOrEqual", change, tolerance if tolerance > 0 else -1.0)
    return body.add("Not", small), last


def _divergence(place: Ops | Body, x: str, weights: str, components: Any, loss: float) -> str:
    """The beta divergence's square root as NMF takes it for its error, shape (1, 1)."""
    whole = place.add("MatMul", weights, components)
    axes = np.array([0, 1])
    if loss == 2:
        off = place.add("Sub", x, whole)
        return place.add("Sqrt", place.add("ReduceSum", place.add("Mul", off, off), axes, keepdims=1))
    # Cells where x is 0 count in the sum of the whole alone.
    held = place.add("Max", whole, _TINY)
    some = place.add("Greater", x, _TINY)
    ratio = place.add("Where", some, place.add("Div", x, held), 1.0)
    inner = place.add("Where", some, place.add("Mul", x, place.add("Log", ratio)), 0.0)
    summed = place.add("Sub", place.add("Where", some, place.add("Sub", inner, x), 0.0), place.add("Neg", whole))
    total = place.add("ReduceSum", summed, axes, keepdims=1)
    return place.add("Sqrt", place.add("Mul", place.add("Max", total, 0.0), 2.0))


def _penalties(model: Any, features: int) -> tuple[float, float]:
    ratio, alpha = float(model.l1_ratio), float(model.alpha_W)
    return features * alpha * ratio, features * alpha * (1.0 - ratio)


def topics(ops: Ops) -> None:
    """Latent Dirichlet allocation: each document's share of the topics, iterated until it settles."""
    model, x = ops.model, ops.matrix()
    words = np.asarray(model.exp_dirichlet_component_, dtype=float)
    count = len(words)
    prior = float(model.doc_topic_prior_)
    least = float(np.finfo(np.float64 if ops.dtype.itemsize == 8 else np.float32).eps)

    def step(body: Body, number: str, states: list[str]) -> tuple[str, list[str]]:
        del number
        given, topic, weight, active = states
        norm = body.add("Add", body.add("MatMul", weight, words), least)
        new = body.add("Mul", weight, body.add("MatMul", body.add("Div", given, norm), words.T.copy()))
        new = body.add("Add", new, prior)
        total = body.add("ReduceSum", new, np.array([1]), keepdims=1)
        expected = body.add("Exp", body.add("Sub", _digamma(body, new), _digamma(body, total)))
        change = body.add("ReduceMean", body.add("Abs", body.add("Sub", topic, new)), np.array([1]), keepdims=1)
        on = body.add("Greater", active, 0.5)
        topic, weight = body.add("Where", on, new, topic), body.add("Where", on, expected, weight)
        moving = body.add("Where", body.add("Less", change, float(model.mean_change_tol)), 0.0, active)
        some = body.add("Greater", body.add("ReduceMax", moving, keepdims=0), 0.5)
        return some, [given, topic, weight, moving]

    none = ops.add("Mul", ops.sum(x, 1, keepdims=True), 0.0)
    ones = ops.add("Add", none, np.ones((1, count)))
    share = ops.add("Add", none, np.full((1, count), np.exp(-sum(1.0 / at for at in range(1, count)))))
    active = ops.add("Add", none, 1.0)
    found = iterate(ops, int(model.max_doc_update_iter), [x, ones, share, active], step)[1]
    ops.answer(0, ops.add("Div", found, ops.sum(found, 1, keepdims=True)))


def _digamma(body: Body, name: str) -> str:
    """As scikit-learn's own: shifted to at least 6, then the asymptotic series."""
    tiny = body.add("LessOrEqual", name, 1e-6)
    x = body.add("Max", name, 1e-6)
    result = body.add("Mul", x, 0.0)
    for _ in range(6):
        low = body.add("Less", x, 6.0)
        result = body.add("Where", low, body.add("Sub", result, body.add("Reciprocal", x)), result)
        x = body.add("Where", low, body.add("Add", x, 1.0), x)
    inverse = body.add("Reciprocal", x)
    square = body.add("Mul", inverse, inverse)
    series = body.add("Sub", 1.0 / 120.0, body.add("Mul", square, 1.0 / 252.0))
    series = body.add("Mul", square, body.add("Sub", 1.0 / 12.0, body.add("Mul", square, series)))
    result = body.add("Add", result, body.add("Sub", body.add("Log", x), body.add("Mul", inverse, 0.5)))
    near = body.add("Sub", -0.577215664901532860606512090082402431, body.add("Reciprocal", name))
    return body.add("Where", tiny, near, body.add("Sub", result, series))


def sparse_code(ops: Ops) -> None:
    """Orthogonal matching pursuit or thresholded products, of a dictionary's atoms."""
    model, x = ops.model, ops.matrix()
    atoms = np.asarray(_atoms(model), dtype=float)
    products = ops.add("MatMul", x, atoms.T.copy())
    if model.transform_algorithm == "omp":
        code = _matching_pursuit(ops, products, atoms, model)
    elif model.transform_algorithm == "threshold":
        alpha = 1.0 if model.transform_alpha is None else float(model.transform_alpha)
        size = ops.add("Max", ops.add("Sub", ops.add("Abs", products), alpha), 0.0)
        code = ops.add("Mul", ops.add("Sign", products), size)
        if model.positive_code:
            code = ops.add("Max", code, 0.0)
    else:
        raise ConversionError(
            f"{type(model).__name__}(transform_algorithm={model.transform_algorithm!r}) is not converted",
            hint="set transform_algorithm to 'omp' or 'threshold'",
        )
    if model.split_sign:
        code = ops.add("Concat", ops.add("Max", code, 0.0), ops.add("Max", ops.add("Neg", code), 0.0), axis=1)
    ops.answer(0, code)


def _matching_pursuit(ops: Ops, products: str, atoms: Any, model: Any) -> str:
    count, features = atoms.shape
    wanted = model.transform_n_nonzero_coefs
    steps = int(wanted) if wanted is not None else min(max(int(features / 10), 1), count)
    if steps > 32:
        raise ConversionError(
            f"orthogonal matching pursuit of {steps} atoms would make too large a graph",
            hint="set transform_n_nonzero_coefs to 32 or less",
        )
    gram = atoms @ atoms.T
    chosen: list[str] = []
    residual = code = products
    for step in range(steps):
        size = ops.add("Abs", residual)
        for before in chosen:
            size = ops.add("Sub", size, ops.add("Mul", before, 1e300 if ops.dtype.itemsize == 8 else 1e30))
        index = ops.first_maximum(size)
        chosen.append(ops.add("Gather", np.eye(count), index, axis=0))
        picked = ops.add("Concat", *(ops.add("Unsqueeze", one, [1]) for one in chosen), axis=1)
        inner = ops.add("MatMul", ops.add("MatMul", picked, gram), ops.add("Transpose", picked, perm=[0, 2, 1]))
        right = ops.add("Squeeze", ops.add("MatMul", picked, ops.add("Unsqueeze", products, [2])), [2])
        solved = solve_positive(ops, inner, right, step + 1)
        code = ops.add("Squeeze", ops.add("MatMul", ops.add("Unsqueeze", solved, [1]), picked), [1])
        residual = ops.add("Sub", products, ops.add("MatMul", code, gram))
    return code


def _atoms(model: Any) -> Any:
    return model.components_ if hasattr(model, "components_") else model.dictionary


def _codes(model: Any) -> int:
    return len(_atoms(model)) * (2 if model.split_sign else 1)


def _components(model: Any) -> int:
    return int(model.components_.shape[0])


_MODULE = "sklearn.decomposition."

RECIPES = (
    Recipe((_MODULE + "NMF",), "transformer", nmf, width=_components),
    Recipe((_MODULE + "MiniBatchNMF",), "transformer", mini_batch_nmf, width=_components),
    Recipe((_MODULE + "LatentDirichletAllocation",), "transformer", topics, width=_components),
    Recipe(
        tuple(_MODULE + name for name in ("DictionaryLearning", "MiniBatchDictionaryLearning", "SparseCoder")),
        "transformer",
        sparse_code,
        width=_codes,
    ),
)
