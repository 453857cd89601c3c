"""XGBoost's models, read from the JSON that the library itself writes.

Its form: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html. The rules of prediction are those of
src/predictor (``GetNextNode``), src/common/categorical.h (``Decision``) and src/objective (``PredTransform``,
``ProbToMargin``) at 3.2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from converters.boosters.boosted import Boosted, Linear, Link
from converters.graph.forest import Mode, Tree
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError

# What an objective does to a score; an objective without an entry is refused.
LINKS: dict[str, Link] = {
    "reg:squarederror": "identity",
    "reg:linear": "identity",
    "reg:squaredlogerror": "identity",
    "reg:absoluteerror": "identity",
    "reg:quantileerror": "identity",
    "reg:pseudohubererror": "identity",
    "reg:logistic": "sigmoid",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
    "count:poisson": "exp",
    "survival:cox": "exp",
    "survival:aft": "exp",
    "binary:logistic": "sigmoid",
    "binary:logitraw": "identity",
    "binary:hinge": "positive",
    "multi:softprob": "softmax",
    "multi:softmax": "argmax",
    "rank:pairwise": "identity",
    "rank:ndcg": "identity",
    "rank:map": "identity",
}
RAW = "binary:logitraw"
CATEGORICAL_SPLIT = 1
# In a model's UBJSON: three numbers of a byte each.
_UBJ_VERSION = re.compile(rb"version\[#L.{8}[iU](.)[iU](.)", re.DOTALL)
CATEGORIES_KEPT = (3, 1)
HINT = f"train it with an objective of XGBoost's own, or {SCRIPT}"


def take_zero_for_missing(estimator: Any) -> None:
    """Note that an estimator is given sparse rows, of which XGBoost takes what is not stored for missing."""
    estimator.zero_is_missing = True


def may_be_of_sparse_rows(estimator: Any) -> bool:
    """Whether values may have been missing in its training, as those are that sparse rows do not hold.

    By histograms, the usual way, XGBoost sends none to the left where none were missing. Of data frames it has names.
    """
    import math

    booster = estimator.get_booster()
    if booster.feature_names is not None or not math.isnan(estimator.missing):
        return False
    machine = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]
    model = machine.get("gbtree", machine).get("model", {})
    return any(any(tree["default_left"]) for tree in model.get("trees", ()))


def read_estimator(estimator: Any) -> Boosted:
    """What a trained estimator predicts; errors as ``read``."""
    boosted = read(estimator.get_booster(), estimator.missing)
    if getattr(estimator, "zero_is_missing", False):
        return replace(boosted, zero_missing=tuple(range(boosted.features)))
    return boosted


def read(booster: Any, missing: float = float("nan")) -> Boosted:
    """What an ``xgboost.Booster`` predicts; ``missing`` is the value that its user gives for a missing one.

    Stops where early stopping found the best iteration, as XGBoost's estimators do. Raises ``ConversionError`` for
    an unsupported objective.
    """
    import math

    import numpy as np

    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    parameters = learner["learner_model_param"]
    objective = learner["objective"]["name"]
    link = LINKS.get(objective)
    if link is None:
        raise ConversionError(f"what XGBoost's objective {objective!r} predicts is not supported", hint=HINT)
    features = int(parameters["num_feature"])
    width = max(int(parameters["num_class"]), int(parameters.get("num_target", "1")), 1)
    score = _numbers(parameters["base_score"])
    as_it_is = objective == RAW and _is_added_as_it_is(score)
    base = score if as_it_is else _margin(score, link, objective)
    base = np.broadcast_to(base, (width,)).astype(np.float64)
    common: dict[str, Any] = {
        "features": features,
        "single_values": True,
        "single_scores": True,
        "link": link,
        "missing": None if math.isnan(missing) else float(np.float32(missing)),
    }
    machine = learner["gradient_booster"]
    if machine["name"] == "gblinear":
        weights = np.array(machine["model"]["weights"], dtype=np.float32).reshape(features + 1, width)
        # Of several starts, 3.2 takes the first for every score.
        return Boosted(
            base=base[0] + weights[-1].astype(np.float64), linear=Linear(weights[:-1].astype(np.float64)), **common
        )
    dropped = machine["weight_drop"] if machine["name"] == "dart" else None
    model = (machine["gbtree"] if machine["name"] == "dart" else machine)["model"]
    count = _trees_used(model, learner.get("attributes", {}))
    trees = tuple(
        _tree(document, target, 1.0 if dropped is None else float(np.float32(dropped[index])))
        for index, (document, target) in enumerate(zip(model["trees"][:count], model["tree_info"], strict=False))
    )
    categorical = sorted({int(tree.feature[node]) for tree in trees for node in tree.members})
    return Boosted(base=base, trees=trees, categorical=tuple(categorical), **common)


def forgets_categories(data: bytes) -> bool:
    """Whether the file ``data`` was written by an XGBoost that did not keep the categories of data frames.

    Newer files without categories are of models that were trained on codes.
    """
    if (found := _UBJ_VERSION.search(data)) is not None:
        return (found[1][0], found[2][0]) < CATEGORIES_KEPT
    if data[:2] in (b'{"', b"{ ", b"{\n"):
        return tuple(json.loads(data).get("version", ()))[:2] < CATEGORIES_KEPT
    return False


def _numbers(text: str) -> Any:
    """``"5E-1"`` before 3.1, ``"[5E-1,…]"`` since."""
    import numpy as np

    return np.array([float(part) for part in text.strip("[]").split(",")], dtype=np.float32)


def _margin(score: Any, link: Link, objective: str) -> Any:
    """The objective's own start, which is kept as a prediction, as a score."""
    import numpy as np

    if link == "sigmoid" or objective == RAW:
        with np.errstate(divide="ignore"):
            return -np.log(np.float32(1) / score - np.float32(1))
    return np.log(score) if link == "exp" else score


def _is_added_as_it_is(score: Any) -> bool:
    """Whether this XGBoost starts a raw model from its ``score`` itself: 3.2 does, others make a logit of it.

    Found by asking a model of the same start and one tree that adds next to nothing.
    """
    import numpy as np
    import xgboost

    rows = np.zeros((2, 1), dtype=np.float32)
    options = {"objective": RAW, "base_score": float(score.flat[0]), "eta": 1e-9, "max_depth": 1, "verbosity": 0}
    tried = xgboost.train(options, xgboost.DMatrix(rows, label=np.array([0.0, 1.0])), 1)
    return bool(abs(float(tried.predict(xgboost.DMatrix(rows))[0]) - float(score.flat[0])) < 1e-5)


def _trees_used(model: Mapping[str, Any], attributes: Mapping[str, str]) -> int:
    trees = len(model["trees"])
    best = attributes.get("best_iteration")
    if best is None:
        return trees
    iterations = int(best) + 1
    bounds: Sequence[int] | None = model.get("iteration_indptr")
    if bounds is not None:
        return bounds[min(iterations, len(bounds) - 1)]
    groups = len(set(model["tree_info"])) or 1  # before 2.0
    return min(trees, iterations * groups * int(model["gbtree_model_param"].get("num_parallel_tree", "1")))


def _tree(document: Mapping[str, Any], target: int, weight: float) -> Tree:
    import numpy as np

    left = np.array(document["left_children"], dtype=np.int64)
    right = np.array(document["right_children"], dtype=np.int64)
    missing_left = np.array(document["default_left"], dtype=bool)
    conditions = np.array(document["split_conditions"], dtype=np.float32)
    size = int(document["tree_param"].get("size_leaf_vector", "1"))
    values = _vectors(document, left, right, size) if size > 1 else conditions
    # A product of float32 by float32, as it is in the booster.
    values = (values * np.float32(weight)).astype(np.float64)
    mode = np.full(len(left), Mode.LT)
    members: dict[int, tuple[int, ...]] = {}
    kinds = document.get("split_type", ())
    chosen = {
        node: tuple(document["categories"][start : start + length])
        for node, start, length in zip(
            document.get("categories_nodes", ()),
            document.get("categories_segments", ()),
            document.get("categories_sizes", ()),
            strict=True,
        )
    }
    for node in np.flatnonzero(left >= 0).tolist():
        if kinds and kinds[node] == CATEGORICAL_SPLIT:
            # XGBoost sends what it has chosen to the right.
            mode[node], members[node] = Mode.MEMBER, chosen.get(node, ())
            left[node], right[node] = right[node], left[node]
            missing_left[node] = not missing_left[node]
    feature = np.array(document["split_indices"], dtype=np.int64)
    threshold = conditions.astype(np.float64)
    return Tree(feature, threshold, left, right, values, mode, missing_left, members, int(target))


def _vectors(document: Mapping[str, Any], left: Any, right: Any, size: int) -> Any:
    """A leaf's vector, shape (nodes, size): by the leaf's number where they are kept apart, else at the node itself."""
    import numpy as np

    if "leaf_weights" not in document:
        return np.array(document["base_weights"], dtype=np.float32).reshape(-1, size)
    vectors = np.array(document["leaf_weights"], dtype=np.float32).reshape(-1, size)
    values = np.zeros((len(left), size), dtype=np.float32)
    leaves = left < 0
    values[leaves] = vectors[right[leaves]]
    return values


def with_probabilities(boosted: Boosted) -> Boosted:
    """The booster of a classifier, whose ``predict_proba`` takes the softmax of what would predict the class itself."""
    return replace(boosted, link="softmax") if boosted.link == "argmax" else boosted
