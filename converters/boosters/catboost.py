"""CatBoost's models, read from the JSON that the library itself writes.

Its form is that of catboost/libs/model/model_export/json_model_helpers.cpp at 1.2.10. A value goes right if it is
above the border, both as float32.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.boosters.boosted import Boosted, Link
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
    """What a fitted ``catboost.CatBoost`` predicts, as far as it takes numbers.

    Raises ``ConversionError`` for categorical, text and embedding columns, which it answers from tables of hashes.
    """
    return parse(document(model))


def parse(found: Mapping[str, Any]) -> Boosted:
    """The model in CatBoost's JSON; errors as ``read``."""
    import numpy as np

    information = found["features_info"]
    for kind in ("categorical", "text", "embedding"):
        columns = information.get(f"{kind}_features")
        if columns:
            raise ConversionError(
                f"CatBoost's {kind} columns ({_names(columns)}) have no form in ONNX: the model keeps only hashes of "
                "what they hold",
                hint="encode them before the model, as with OneHotEncoder or TargetEncoder in a Pipeline",
            )
    loss = loss_of(found)
    if loss in REFUSED_LOSSES or loss.startswith("Python"):
        raise ConversionError(
            f"what CatBoost's loss {loss} predicts is not supported", hint=f"use another loss, {HINT}"
        )
    floats = information.get("float_features", ())
    column = np.array([entry["flat_feature_index"] for entry in floats], dtype=np.int64)
    missing_right = np.array([entry["nan_value_treatment"] == "AsTrue" for entry in floats], dtype=bool)
    scale, bias = found["scale_and_bias"]
    base = np.atleast_1d(np.array(bias, dtype=np.float64))
    if "oblivious_trees" in found:
        trees = [_oblivious(tree, column, missing_right, len(base)) for tree in found["oblivious_trees"]]
    else:
        trees = [_tree(tree, column, missing_right) for tree in found.get("trees", ())]
    return Boosted(
        features=1 + max((entry["flat_feature_index"] for entry in floats), default=0),
        single_values=True,
        single_scores=False,
        base=base,
        trees=tuple(trees),
        scale=float(scale),
        link=LINKS.get(loss, "identity"),
    )


def without_link(boosted: Boosted) -> Boosted:
    """The model of which the scores themselves are wanted."""
    return replace(boosted, link="identity")


def loss_of(found: Mapping[str, Any]) -> str:
    """The name of the loss that the model was trained with; ``RMSE``, CatBoost's default, where it does not say."""
    loss = found.get("model_info", {}).get("params", {}).get("loss_function", {})
    return str(loss.get("type", "RMSE"))


def _names(columns: Sequence[Mapping[str, Any]]) -> str:
    named = [repr(entry.get("feature_id") or str(entry["flat_feature_index"])) for entry in columns]
    return ", ".join(named[:5]) + (", …" if len(named) > 5 else "")


def _oblivious(document: Mapping[str, Any], column: Any, missing_right: Any, width: int) -> Tree:
    """A tree with one comparison for each level; its leaves are numbered by the results, the first lowest."""
    import numpy as np

    splits = document.get("splits") or []
    depth = len(splits)
    inner = 2**depth - 1
    nodes = np.arange(2 * inner + 1)
    # The last split is at the root, so that the leaves are in their order.
    which = np.zeros(len(nodes), dtype=np.int64)
    for level in range(depth):
        which[2**level - 1 : 2 ** (level + 1) - 1] = depth - 1 - level
    number = np.array([_float_feature(split) for split in splits] or [0], dtype=np.int64)[which]
    border = np.array([split["border"] for split in splits] or [0.0], dtype=np.float32)[which]
    values = np.zeros((len(nodes), width))
    values[inner:] = np.array(document["leaf_values"], dtype=np.float64).reshape(-1, width)
    is_leaf = nodes >= inner
    return Tree(
        feature=column[number] if len(column) else number,
        threshold=border.astype(np.float64),
        true=np.where(is_leaf, -1, 2 * nodes + 1),
        false=np.where(is_leaf, -1, 2 * nodes + 2),
        value=values if width > 1 else values[:, 0],
        mode=Mode.LE,
        nan_true=~missing_right[number] if len(column) else False,
    )


def _tree(document: Mapping[str, Any], column: Any, missing_right: Any) -> Tree:
    import numpy as np

    nodes: list[Mapping[str, Any]] = [document]
    children: list[tuple[int, int]] = []
    for node in nodes:  # grows while it is read
        if "split" not in node:
            children.append((-1, -1))
            continue
        children.append((len(nodes), len(nodes) + 1))
        nodes += [node["left"], node["right"]]
    splits = [node.get("split") for node in nodes]
    number = np.array([0 if split is None else _float_feature(split) for split in splits], dtype=np.int64)
    border = np.array([0.0 if split is None else split["border"] for split in splits], dtype=np.float32)
    width = next(np.size(node["value"]) for node in nodes if "value" in node)
    values = np.array([np.ravel(node.get("value", np.zeros(width))) for node in nodes], dtype=np.float64)
    true, false = np.array(children, dtype=np.int64).T
    return Tree(
        feature=column[number] if len(column) else number,
        threshold=border.astype(np.float64),
        true=true,
        false=false,
        value=values if width > 1 else values[:, 0],
        mode=Mode.LE,
        nan_true=~missing_right[number] if len(column) else False,
    )


def _float_feature(split: Mapping[str, Any]) -> int:
    if split["split_type"] != "FloatFeature":
        raise ConversionError(
            f"CatBoost's {split['split_type']} splits have no form in ONNX", hint=f"train it on numbers only, {HINT}"
        )
    return int(split["float_feature_index"])
