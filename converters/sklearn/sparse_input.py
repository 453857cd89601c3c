"""Which XGBoost models in a pipeline are given sparse rows, where a zero that is not stored is a missing value.

What encoders and vectorizers answer is known from how they were fitted.
"""

from __future__ import annotations

from typing import Any

from converters.boosters import xgboost
from converters.boosters.fitted import is_fitted_booster
from converters.companions.frame_steps import is_frame_step
from converters.proof.samples import Table
from converters.routes import children, passes_on, walk
from edgepack.errors import ConversionError

UNKNOWN = (
    "the XGBoost model does not say whether it was trained on whole rows, of which NaN is missing, or on a sparse "
    "matrix, of which the zeros are that it does not hold"
)
SPARSE = "for a sparse matrix, call set_params(missing=0) of the XGBClassifier or XGBRegressor, and save it again"
ASSUMED = f"zeros are taken for numbers and NaN for missing ones, as after training on whole rows; {SPARSE}"
ALWAYS = ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer", "TfidfTransformer", "RandomTreesEmbedding")
ASKED = {"OneHotEncoder": "sparse_output", "LabelBinarizer": "sparse_output", "MultiLabelBinarizer": "sparse_output"}
ASKED |= {"DictVectorizer": "sparse", "SplineTransformer": "sparse_output"}
# Sparse rows stay sparse in these.
KEEP = ("StandardScaler", "MaxAbsScaler", "RobustScaler", "Normalizer", "Binarizer", "FunctionTransformer")
KEEP_ALSO = ("SimpleImputer", "PolynomialFeatures")


def note(model: Any, sparse: bool = False) -> None:
    """Mark every XGBoost model inside of ``model`` that is given sparse rows, as ``model`` is where ``sparse``."""
    if hasattr(model, "steps"):
        for _, step in model.steps:
            if not passes_on(step):
                note(step, sparse)
                sparse = is_sparse(step, sparse)
        return
    if hasattr(model, "transformers_"):
        for _, part, _ in model.transformers_:
            if not isinstance(part, str):
                note(part)
        return
    if is_fitted_booster(model) and hasattr(model, "get_booster"):
        if sparse:
            xgboost.take_zero_for_missing(model)
        return
    final = getattr(model, "final_estimator_", None)
    for child in children(model):
        note(child, sparse and (child is not final or getattr(model, "passthrough", False)))


def is_unknown(model: Any) -> bool:
    """Whether nothing in ``model`` says if an XGBoost model was trained on sparse rows, where that matters.

    That is one that no step is in front of, whatever it is inside of.
    """
    if hasattr(model, "steps") or hasattr(model, "transformers_"):
        return False
    return any(
        hasattr(part, "get_booster") and is_fitted_booster(part) and xgboost.may_be_of_sparse_rows(part)
        for part in walk(model)
    )


def doubts(model: Any, sample: Table | None) -> list[str]:
    """What the user should be told of such a model: rows with a missing number tell that NaN is missing.

    Raises ``ConversionError`` where there is no sample.
    """
    import numpy as np

    if not is_unknown(model):
        return []
    if sample is None:
        raise ConversionError(UNKNOWN, hint=f"for whole rows, give --sample with some of them; {SPARSE}")
    told = any(column.dtype.kind == "f" and np.isnan(column).any() for column in sample.columns)
    return [] if told else [ASSUMED]


def is_sparse(step: Any, given: bool) -> bool:
    """Whether a fitted transformer answers sparse rows, if it is ``given`` such or not."""
    name = type(step).__name__
    if is_frame_step(step):
        return False
    if hasattr(step, "steps"):
        for _, inner in step.steps:
            given = given if passes_on(inner) else is_sparse(inner, given)
        return given
    if hasattr(step, "transformers_"):
        return bool(step.sparse_output_)
    if hasattr(step, "transformer_list"):
        return any(not isinstance(part, str) and is_sparse(part, given) for _, part in step.transformer_list)
    if name in ALWAYS:
        return True
    if name in ASKED:
        return bool(getattr(step, ASKED[name]))
    if name == "KBinsDiscretizer":
        return bool(step.encode == "onehot")
    return given and (name in (*KEEP, *KEEP_ALSO) or hasattr(step, "get_support"))
