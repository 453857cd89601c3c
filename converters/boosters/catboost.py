"""CatBoost's models, read from the JSON that the library itself writes.

Its form is that of catboost/libs/model/model_export/json_model_helpers.cpp at 1.2.10. A value goes right if it is
above the border, both as float32.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from converters.boosters import counters
from converters.boosters.boosted import Boosted, Link, Lookup
from converters.boosters.counters import Counter
from converters.graph.forest import Mode, Tree
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError

# What a loss does to a score; every other loss of one or several numbers leaves it as it is.
LINKS: dict[str, Link] = {
    "Logloss": "sigmoid",
    "CrossEntropy": "sigmoid",
    "MultiClass": "softmax",
    "MultiClassOneVsAll": "sigmoid",
    "Poisson": "exp",
    "Tweedie": "exp",
}
REFUSED_LOSSES = ("MultiLogloss", "MultiCrossEntropy", "RMSEWithUncertainty", "Cox", "SurvivalAft")
HINT = f"or {SCRIPT}"


def document(model: Any) -> Mapping[str, Any]:
    """What CatBoost writes of a fitted model as JSON. Raises ``ConversionError`` where it cannot."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.json"
        try:
            model.save_model(str(file), format="json")
        except Exception as error:  # CatBoost raises one class for everything, without a cause
            raise ConversionError(
                "CatBoost cannot write this model out as JSON", hint=f"train it on numbers only, {HINT}"
            ) from error
        found: dict[str, Any] = json.loads(file.read_text())
    return found


def read(model: Any) -> Boosted:
    """What a fitted ``catboost.CatBoost`` predicts of numbers, and of the codes that its categories were given.

    Raises ``ConversionError`` for other categorical columns, for text and for embeddings.
    """
    return parse(document(model), getattr(model, "edgepack_categories", {}))


def parse(found: Mapping[str, Any], hashes: Mapping[int, Sequence[int]] = MappingProxyType({})) -> Boosted:
    """The model in CatBoost's JSON; ``hashes`` has those of a categorical column's codes, in their order, by column.

    Errors as ``read``.
    """
    import numpy as np

    information = found["features_info"]
    for kind in ("categorical", "text", "embedding"):
        columns = [
            entry for entry in information.get(f"{kind}_features", ()) if entry["flat_feature_index"] not in hashes
        ]
        if columns:
            raise ConversionError(
                f"CatBoost's {kind} columns ({named(columns)}) have no form in ONNX: the model keeps only hashes of "
                "what they hold",
                hint="encode them before the model, as with OneHotEncoder or TargetEncoder in a Pipeline",
            )
    loss = loss_of(found)
    if loss in REFUSED_LOSSES or loss.startswith("Python"):
        raise ConversionError(
            f"what CatBoost's loss {loss} predicts is not supported", hint=f"use another loss, {HINT}"
        )
    splits = _Splits(found, hashes)
    scale, bias = found["scale_and_bias"]
    base = np.atleast_1d(np.array(bias, dtype=np.float64))
    if "oblivious_trees" in found:
        trees = [_oblivious(tree, splits, len(base)) for tree in found["oblivious_trees"]]
    else:
        trees = [_tree(tree, splits) for tree in found.get("trees", ())]
    return Boosted(
        features=splits.features,
        single_values=True,
        single_scores=False,
        base=base,
        trees=tuple(trees),
        scale=float(scale),
        link=LINKS.get(loss, "identity"),
        lookups=splits.lookups,
    )


def without_link(boosted: Boosted) -> Boosted:
    """The model of which the scores themselves are wanted."""
    return replace(boosted, link="identity")


def link_of(model: Any) -> Link:
    """What the estimator for a fitted ``catboost.CatBoost`` does to its scores."""
    return LINKS.get(loss_of(document(model)), "identity")


def loss_of(found: Mapping[str, Any]) -> str:
    """The name of the loss that the model was trained with; ``RMSE``, CatBoost's default, where it does not say."""
    loss = found.get("model_info", {}).get("params", {}).get("loss_function", {})
    return str(loss.get("type", "RMSE"))


def named(columns: Sequence[Mapping[str, Any]]) -> str:
    named = [repr(entry.get("feature_id") or str(entry["flat_feature_index"])) for entry in columns]
    return ", ".join(named[:5]) + (", …" if len(named) > 5 else "")


@dataclass(frozen=True)
class _Split:
    """A comparison: right is a number above the ``border``, or a code among ``right``; what is missing or unknown goes
    right if ``else_right``.
    """

    column: int
    border: float
    right: tuple[int, ...] | None
    else_right: bool


class _Splits:
    """The comparisons of a model's trees."""

    def __init__(self, found: Mapping[str, Any], hashes: Mapping[int, Sequence[int]]) -> None:
        information = found["features_info"]
        self._floats = information.get("float_features", ())
        self._categories = information.get("categorical_features", ())
        self._hashes = hashes
        self._found = found
        self._counters = counters.of(found)
        self._lookups: dict[Counter, tuple[int, Lookup]] = {}
        places = [entry["flat_feature_index"] for entry in (*self._floats, *self._categories)]
        self.features = 1 + max(places, default=0)

    def read(self, split: Mapping[str, Any]) -> _Split:
        """A split of the JSON. Raises ``ConversionError`` for one of a kind without a form."""
        kind = split["split_type"]
        if kind == "FloatFeature":
            feature = self._floats[int(split["float_feature_index"])]
            missing_right = feature["nan_value_treatment"] == "AsTrue"
            return _Split(int(feature["flat_feature_index"]), float(split["border"]), None, missing_right)
        if kind == "OneHotFeature":
            place = int(self._categories[int(split["cat_feature_index"])]["flat_feature_index"])
            equal = tuple(code for code, number in enumerate(self._hashes[place]) if number == int(split["value"]))
            return _Split(place, 0.0, equal, False)
        if kind != "OnlineCtr":
            raise ConversionError(
                f"CatBoost's {kind} splits have no form in ONNX", hint=f"train it on numbers only, {HINT}"
            )
        counter = self._counters[int(split["split_index"])]
        if counter not in self._lookups:
            column = self.features + len(self._lookups)
            self._lookups[counter] = (column, counters.lookup(counter, self._found, self._hashes))
        return _Split(self._lookups[counter][0], float(split["border"]), None, False)

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """What the splits that were read compare besides the row's own columns."""
        return tuple(lookup for _, lookup in self._lookups.values())


def _nodes(splits: Sequence[_Split | None], values: Any, left: Any, right: Any) -> Tree:
    """The tree of these nodes; None for a leaf. A number goes left up to its border."""
    import numpy as np

    none = _Split(0, 0.0, None, False)
    each = [split or none for split in splits]
    codes = np.array([split.right is not None for split in each])
    else_right = np.array([split.else_right for split in each])
    return Tree(
        feature=np.array([split.column for split in each], dtype=np.int64),
        threshold=np.array([split.border for split in each], dtype=np.float32).astype(np.float64),
        true=np.where(codes, right, left),
        false=np.where(codes, left, right),
        value=values,
        mode=np.where(codes, int(Mode.MEMBER), int(Mode.LE)),
        nan_true=np.where(codes, else_right, ~else_right),
        members={node: split.right for node, split in enumerate(each) if split.right is not None},
    )


def _oblivious(document: Mapping[str, Any], splits: _Splits, width: int) -> Tree:
    """A tree with one comparison for each level; its leaves are numbered by the results, the first lowest."""
    import numpy as np

    levels = [splits.read(split) for split in document.get("splits") or []]
    depth = len(levels)
    inner = 2**depth - 1
    nodes = np.arange(2 * inner + 1)
    # The last split is at the root, so that the leaves are in their order.
    each: list[_Split | None] = [None] * len(nodes)
    for level in range(depth):
        each[2**level - 1 : 2 ** (level + 1) - 1] = [levels[depth - 1 - level]] * 2**level
    values = np.zeros((len(nodes), width))
    values[inner:] = np.array(document["leaf_values"], dtype=np.float64).reshape(-1, width)
    leaf = nodes >= inner
    left, right = np.where(leaf, -1, 2 * nodes + 1), np.where(leaf, -1, 2 * nodes + 2)
    return _nodes(each, values if width > 1 else values[:, 0], left, right)


def _tree(document: Mapping[str, Any], splits: _Splits) -> Tree:
    import numpy as np

    nodes: list[Mapping[str, Any]] = [document]
    children: list[tuple[int, int]] = []
    for node in nodes:  # grows while it is read
        if "split" not in node:
            children.append((-1, -1))
            continue
        children.append((len(nodes), len(nodes) + 1))
        nodes += [node["left"], node["right"]]
    each = [splits.read(node["split"]) if "split" in node else None for node in nodes]
    width = next(np.size(node["value"]) for node in nodes if "value" in node)
    values = np.array([np.ravel(node.get("value", np.zeros(width))) for node in nodes], dtype=np.float64)
    left, right = np.array(children, dtype=np.int64).T
    return _nodes(each, values if width > 1 else values[:, 0], left, right)


def unknown_to(found: Mapping[str, Any], hashes: counters.Hashes) -> frozenset[int]:
    """The categorical columns in which the model tells more categories from unknown ones than those of ``hashes``."""
    lacking = set()
    for entry in found["features_info"].get("categorical_features", ()):
        place = int(entry["flat_feature_index"])
        if not {int(value) for value in entry.get("values", ())} <= set(hashes[place]):
            lacking.add(place)
    for counter in set(counters.of(found).values()):
        if not set(counter.table) <= set(counters.combinations(counter, found, hashes)):
            lacking.update(counters.places(counter, found))
    return frozenset(lacking)
