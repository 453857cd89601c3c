"""Models in the boosters' own formats, opened as estimators. Runs inside the sandbox only.

The formats are recognised by what a file holds, not by its ending: XGBoost's JSON and UBJ, LightGBM's text, CatBoost's
binary form and its JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from converters.boosters import catboost, categories, lightgbm, xgboost
from converters.boosters.boosted import Boosted
from converters.error_text import first_line
from converters.source.kinds import CATBOOST_MAGIC, LIGHTGBM_MAGICS, OLD_XGBOOST_ENDINGS, OLD_XGBOOST_MAGIC
from edgepack.errors import ConversionError

CLASSIFIERS = ("binary:", "multi:")
LARGEST = 3.4028234663852886e38
SAVE_AGAIN = "save it again with save_model, or with joblib.dump the estimator"


def load_native(path: Path) -> Any:
    """The estimator in a file of a booster's own.

    Classes are numbered from 0 where the file does not name them. Raises ``ConversionError`` for a file that is
    broken or of a kind that cannot be read, or where the booster's package is missing.
    """
    data = path.read_bytes()
    try:
        if data.startswith(CATBOOST_MAGIC):
            return _catboost(path, "cbm")
        if data.startswith(LIGHTGBM_MAGICS):
            return _lightgbm(data)
        if data.lstrip().startswith(b"{"):
            if _is_catboost_json(data):
                return _catboost(path, "json")
            return _xgboost(data)
    except ModuleNotFoundError as error:
        raise ConversionError(
            f"the model needs the Python module {error.name!r}, which is not installed here",
            hint="install the package that has it beside edgepack, or export ONNX and register that",
        ) from error
    if data.startswith(OLD_XGBOOST_MAGIC) or path.suffix.lower() in OLD_XGBOOST_ENDINGS:
        raise ConversionError(
            "XGBoost's old binary form can be read by versions before 3.1 only",
            hint='open it with the XGBoost that wrote it and save it with save_model("model.json")',
        )
    raise ConversionError("the file is not in a supported format of a booster", hint=SAVE_AGAIN)


def adapt(model: Any) -> Any:
    """The estimator for a bare ``Booster`` out of a pickle, and one that takes the categories of a data frame.

    Every other model as it is.
    """
    module, name = type(model).__module__.split(".")[0], type(model).__name__
    if (module, name) == ("xgboost", "Booster"):
        return _xgboost(bytes(model.save_raw("json")))
    if (module, name) == ("lightgbm", "Booster"):
        return _lightgbm(model.model_to_string().encode())
    if (module, name) == ("catboost", "CatBoost"):
        return _catboost_estimator(model)
    if _is_catboost(model) and hasattr(model, "get_cat_feature_indices") and model.get_cat_feature_indices():
        catboost.read(model)  # says which columns cannot be converted; CatBoost would only refuse the rows
    return _with_categories(model)


def _with_categories(model: Any) -> Any:
    """``model`` behind the codes of the categories that it keeps, if it does."""
    if type(model).__module__.split(".")[0] == "xgboost" and hasattr(model, "get_booster"):
        found, names = categories.of_xgboost(model.get_booster()), model.get_booster().feature_names
    elif type(model).__module__.startswith(("lightgbm.", "converters.boosters.")) and hasattr(model, "booster_"):
        found, names = categories.of_lightgbm(model.booster_), model.booster_.feature_name()
    else:
        return model
    return categories.in_front(model, names, found) if found and names else model


def columns(model: Any) -> tuple[tuple[str, ...], bool] | None:
    """The columns that a booster's estimator takes, and whether their names are the user's; None for all else.

    CatBoost does not say so as scikit-learn does, and LightGBM makes up names.
    """
    if hasattr(model, "booster_"):
        names = list(model.booster_.feature_name())
        named = not lightgbm.made_up(names)
    elif _is_catboost(model):
        names = list(model.feature_names_)
        named = names != [str(number) for number in range(len(names))]
    else:
        return None
    return tuple(names) if named else tuple(f"x{number}" for number in range(len(names))), named


def read(model: Any) -> Boosted | None:
    """What a booster's fitted estimator predicts; None for every other model.

    Raises ``ConversionError`` for a booster that cannot be converted.
    """
    if hasattr(model, "booster_"):
        return lightgbm.read(model.booster_)
    if hasattr(model, "get_booster"):
        return xgboost.read(model.get_booster(), model.missing)
    return catboost.read(model) if _is_catboost(model) else None


def thresholds(model: Any) -> list[tuple[int, float]]:
    """Feature and threshold of every comparison of a booster's estimator; none where there is nothing to read."""
    try:
        boosted = read(model)
    except ConversionError:  # its converter will say so
        return []
    # The largest float32 is CatBoost's border between what is missing and what is not.
    return [] if boosted is None else [split for split in boosted.splits() if abs(split[1]) < LARGEST]


def codes(model: Any) -> dict[int, tuple[int, ...]]:
    """The codes that a booster's estimator compares with, by feature; empty as ``thresholds``."""
    try:
        boosted = read(model)
    except ConversionError:
        return {}
    return {} if boosted is None else boosted.categories()


def _is_catboost(model: Any) -> bool:
    return type(model).__module__.split(".")[0] == "catboost"


def _is_catboost_json(data: bytes) -> bool:
    """Recognised by its first key, without reading all of a large file."""
    start = data.lstrip()[1:].lstrip()
    return start.startswith((b'"features_info"', b'"model_info"', b'"oblivious_trees"', b'"trees"', b'"ctr_data"'))


def _xgboost(data: bytes) -> Any:
    import xgboost as library

    try:
        booster = library.Booster(model_file=bytearray(data))
        objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
        written = json.loads(booster.attr("scikit_learn") or "{}").get("_estimator_type")
        kind = written or ("classifier" if objective.startswith(CLASSIFIERS) else "regressor")
        if kind == "classifier" and objective == "binary:logitraw":
            kind = written or "regressor"
        estimator = {
            "classifier": library.XGBClassifier,
            "ranker": library.XGBRanker,
        }.get(kind, library.XGBRegressor)()
        estimator.load_model(bytearray(data))
    except (library.core.XGBoostError, ValueError, KeyError) as error:
        raise ConversionError(
            f"the file is not a whole XGBoost model ({first_line(error)})", hint=f"copy it again, or {SAVE_AGAIN}"
        ) from error
    return _with_categories(estimator)


def _lightgbm(data: bytes) -> Any:
    text = data.decode("utf-8", "replace")
    # LightGBM itself ends the process over a file that breaks off.
    boosted = lightgbm.parse(text)
    import lightgbm as library

    from converters.boosters.native import LightGBMClassifier, LightGBMRegressor

    try:
        booster = library.Booster(model_str=text)
    except library.basic.LightGBMError as error:
        raise ConversionError(
            f"the file is not a whole LightGBM model ({first_line(error)})", hint=f"copy it again, or {SAVE_AGAIN}"
        ) from error
    return _with_categories((LightGBMClassifier if boosted.classes else LightGBMRegressor)(booster))


def _catboost(path: Path, form: str) -> Any:
    import catboost as library

    try:
        return adapt(library.CatBoost().load_model(str(path), format=form))
    except library.CatBoostError as error:
        raise ConversionError(
            f"the file is not a whole CatBoost model ({first_line(error)})", hint=f"copy it again, or {SAVE_AGAIN}"
        ) from error


def _catboost_estimator(model: Any) -> Any:
    """The estimator of CatBoost's that suits the model's loss; it takes what is left of the bare one."""
    import tempfile

    import catboost as library

    is_classifier = bool(len(model.classes_))
    estimator = (library.CatBoostClassifier if is_classifier else library.CatBoostRegressor)()
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "model.cbm")
        model.save_model(file)
        return adapt(estimator.load_model(file))
