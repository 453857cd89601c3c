"""LightGBM's models, read from the text that the library itself writes.

Its form is that of src/boosting/gbdt_model_text.cpp and src/io/tree.cpp; the rules of prediction are those of
include/LightGBM/tree.h (``NumericalDecision``, ``CategoricalDecision``) and of ``ConvertOutput`` in src/objective,
at 4.7.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from converters.boosters.boosted import Boosted, Link
from converters.graph.forest import Mode, Tree
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError

LINKS: dict[str, Link] = {
    "regression": "identity",
    "regression_l1": "identity",
    "huber": "identity",
    "fair": "identity",
    "quantile": "identity",
    "mape": "identity",
    "lambdarank": "identity",
    "rank_xendcg": "identity",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
    "binary": "sigmoid",
    "cross_entropy": "sigmoid",
    "cross_entropy_lambda": "log1p exp",
    "multiclass": "softmax",
    "multiclassova": "sigmoid",
}
CLASSIFIERS = ("binary", "multiclass", "multiclassova")
# kZeroThreshold in meta.h, a float32.
ZERO = 1.00000001800250948e-35
CATEGORICAL, DEFAULT_LEFT, MISSING_SHIFT = 1, 2, 2
MISSING_NONE, MISSING_ZERO, MISSING_NAN = 0, 1, 2
HINT = f"train it without, or {SCRIPT}"


def read(booster: Any) -> Boosted:
    """What a ``lightgbm.Booster`` predicts, up to its best iteration where early stopping found one.

    Raises ``ConversionError`` for linear trees and for objectives that are not LightGBM's own.
    """
    return parse(booster.model_to_string())


def parse(text: str) -> Boosted:
    """The model in LightGBM's text; errors as ``read``, also where the text is not a whole model."""
    import numpy as np

    sections = list(_sections(text))
    try:
        header = sections[0]
        trees = [section for section in sections[1:] if "Tree" in section]
        features = int(header["max_feature_idx"]) + 1
        width = int(header["num_tree_per_iteration"])
        link, slope = _objective(header.get("objective", "").split())
        if any(section.get("is_linear", "0") != "0" for section in trees):
            raise ConversionError("LightGBM's linear trees have no form in ONNX", hint=f"linear_tree: {HINT}")
        zero_missing = _zero_missing(trees)
        read_trees = tuple(_tree(section, index % width) for index, section in enumerate(trees))
    except (KeyError, IndexError, ValueError) as error:
        raise ConversionError("the text is not a whole LightGBM model", hint="save the model again") from error
    if "end of trees" not in text or len(trees) != len(header.get("tree_sizes", "").split()):
        raise ConversionError("the text is not a whole LightGBM model", hint="save the model again")
    averaged = "average_output" in header
    return Boosted(
        features=features,
        single_values=False,
        single_scores=False,
        base=np.zeros(width),
        trees=read_trees,
        scale=width / len(trees) if averaged and trees else 1.0,
        link=link,
        slope=slope,
        zero_missing=zero_missing,
        flush=ZERO,
        categorical=tuple(sorted({int(tree.feature[node]) for tree in read_trees for node in tree.members})),
        rounding="to zero",
        classes=header["objective"].split()[0] in CLASSIFIERS,
    )


def made_up(names: Sequence[str]) -> bool:
    """Whether LightGBM named the columns itself."""
    return list(names) == [f"Column_{number}" for number in range(len(names))]


def _sections(text: str) -> Iterator[dict[str, str]]:
    """The header and the trees: blocks of ``key=value`` up to an empty line."""
    section: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("end of trees"):
            break
        if line.strip():
            key, _, value = line.partition("=")
            section[key] = value
        elif section:
            yield section
            section = {}
    if section:
        yield section


def _objective(words: list[str]) -> tuple[Link, float]:
    if not words or words[0] not in LINKS:
        named = repr(words[0]) if words else "of the user's own"
        raise ConversionError(
            f"what a LightGBM objective {named} predicts is not in the model", hint=f"a custom objective: {HINT}"
        )
    options = dict(word.split(":", 1) for word in words[1:] if ":" in word)
    if words[0] == "regression" and "sqrt" in words:
        return "signed square", 1.0
    return LINKS[words[0]], float(options.get("sigmoid", "1"))


def _kinds(section: Mapping[str, str]) -> Any:
    import numpy as np

    return np.array(section.get("decision_type", "").split(), dtype=np.int64)


def _zero_missing(trees: list[dict[str, str]]) -> tuple[int, ...]:
    """The columns of which zero is a missing value: LightGBM decides that by column, not by node."""
    import numpy as np

    columns: dict[int, set[int]] = {}
    for section in trees:
        features = np.array(section.get("split_feature", "").split(), dtype=np.int64)
        for feature, kind in zip(features.tolist(), _kinds(section).tolist(), strict=True):
            if not kind & CATEGORICAL:
                columns.setdefault(feature, set()).add(kind >> MISSING_SHIFT & 3)
    for feature, found in columns.items():
        if MISSING_ZERO in found and len(found) > 1:
            raise ConversionError(
                f"column {feature} has zero for a missing value in some trees and not in others",
                hint=f"a model continued with another zero_as_missing: {HINT}",
            )
    return tuple(sorted(feature for feature, found in columns.items() if MISSING_ZERO in found))


def _tree(section: Mapping[str, str], target: int) -> Tree:
    """LightGBM numbers inner nodes from 0, and leaves by their complement; here leaves follow the inner nodes."""
    import numpy as np

    leaf_values = np.array(section["leaf_value"].split(), dtype=np.float64)
    leaves = int(section["num_leaves"])
    inner = leaves - 1
    if len(leaf_values) != leaves:
        raise ValueError("leaves are missing")
    nodes = inner + leaves
    feature, threshold = np.zeros(nodes, dtype=np.int64), np.zeros(nodes)
    left, right = np.full(nodes, -1, dtype=np.int64), np.full(nodes, -1, dtype=np.int64)
    missing_left, values = np.zeros(nodes, dtype=bool), np.zeros(nodes)
    values[inner:] = leaf_values
    mode = np.full(nodes, Mode.LE)
    members: dict[int, tuple[int, ...]] = {}
    if inner == 0:
        return Tree(feature, threshold, left, right, values, mode, missing_left, members, target)
    feature[:inner] = np.array(section["split_feature"].split(), dtype=np.int64)
    threshold[:inner] = np.array(section["threshold"].split(), dtype=np.float64)
    for name, column in (("left_child", left), ("right_child", right)):
        child = np.array(section[name].split(), dtype=np.int64)
        column[:inner] = np.where(child >= 0, child, inner + ~child)
    kinds = _kinds(section)
    kind_of_missing = kinds >> MISSING_SHIFT & 3
    # Where nothing was missing in training, a missing value counts as zero.
    missing_left[:inner] = np.where(kind_of_missing == MISSING_NONE, threshold[:inner] >= 0, kinds & DEFAULT_LEFT != 0)
    if (kinds & CATEGORICAL).any():
        bounds = np.array(section["cat_boundaries"].split(), dtype=np.int64)
        words = np.array(section["cat_threshold"].split(), dtype=np.uint32)
        for node in np.flatnonzero(kinds & CATEGORICAL).tolist():
            which = int(threshold[node])
            bits = words[bounds[which] : bounds[which + 1]]
            mode[node] = Mode.MEMBER
            members[node] = tuple(
                32 * place + bit for place, word in enumerate(bits.tolist()) for bit in range(32) if word >> bit & 1
            )
            missing_left[node] = False
    return Tree(feature, threshold, left, right, values, mode, missing_left, members, target)
