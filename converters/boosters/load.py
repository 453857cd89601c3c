"""Models in the boosters' own formats, opened as estimators. Runs inside the sandbox only.

The formats are recognised by what a file holds, not by its ending: XGBoost's JSON and UBJ, LightGBM's text, CatBoost's
binary form and its JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from converters.boosters import catboost, categories, hashed_categories, lightgbm, xgboost
from converters.boosters.boosted import Boosted
from converters.boosters.fitted import is_fitted_booster, restore
from converters.boosters.native import CatBoostScores, LightGBMClassifier, LightGBMRegressor
from converters.error_text import first_line
from converters.routes import walk
from converters.source.kinds import CATBOOST_MAGIC, LIGHTGBM_MAGICS, OLD_XGBOOST_ENDINGS, OLD_XGBOOST_MAGIC
from edgepack.errors import ConversionError

CLASSIFIERS = ("binary:", "multi:")
LARGEST = 3.4028234663852886e38
SAVE_AGAIN = "save it again with save_model, or with joblib.dump the estimator"


def load_native(path: Path, notes: list[str] | None = None, sample: Path | None = None) -> Any:
    """The estimator in a file of a booster's own; what its user should be told of it is added to ``notes``.

    Classes are numbered from 0 where the file does not name them. Raises ``ConversionError`` for a file that is
    broken or of a kind that cannot be read, or where the booster's package is missing.
    """
    notes = [] if notes is None else notes
    data = path.read_bytes()
    try:
        if data.startswith(CATBOOST_MAGIC):
            return _catboost(path, "cbm", notes, sample)
        if data.startswith(LIGHTGBM_MAGICS):
            return _lightgbm(data)
        if data.lstrip().startswith(b"{"):
            if _is_catboost_json(data):
                return _catboost(path, "json", notes, sample)
            return _xgboost(data, notes, pickled=False)
    except ModuleNotFoundError as error:
        raise ConversionError(
            f"the model needs the Python module {error.name!r}, which is not installed here",
            hint="install the package that has it beside edgepack",
        ) from error
    if data.startswith(OLD_XGBOOST_MAGIC) or path.suffix.lower() in OLD_XGBOOST_ENDINGS:
        raise ConversionError(
            "XGBoost's old binary form can be read by versions before 3.1 only",
            hint='open it with the XGBoost that wrote it and save it with save_model("model.json")',
        )
    raise ConversionError("the file is not in a supported format of a booster", hint=SAVE_AGAIN)


def open_native(path: Path) -> Any:
    """The model in a whole file of a booster's own, as its user opens it: by the estimator that wrote it, or bare."""
    data = path.read_bytes()
    if data.startswith(CATBOOST_MAGIC) or (data.lstrip().startswith(b"{") and _is_catboost_json(data)):
        import catboost as library

        return library.CatBoost().load_model(str(path), format="cbm" if data.startswith(CATBOOST_MAGIC) else "json")
    if data.startswith(LIGHTGBM_MAGICS):
        import lightgbm

        return lightgbm.Booster(model_str=data.decode("utf-8", "replace"))
    import xgboost as booster

    found = booster.Booster(model_file=bytearray(data))
    written = json.loads(found.attr("scikit_learn") or "{}").get("_estimator_type")
    if written not in ("classifier", "regressor"):
        return found
    estimator = (booster.XGBClassifier if written == "classifier" else booster.XGBRegressor)()
    estimator.load_model(bytearray(data))
    return estimator


def adapt(model: Any, notes: list[str] | None = None, sample: Path | None = None) -> Any:
    """The estimator for a bare ``Booster`` out of a pickle, and one that takes the categories of a data frame.

    Every other model as it is. ``sample`` has the categories of which CatBoost keeps hashes only. What its user should
    be told of it is added to ``notes``. Raises ``ConversionError`` where the columns of the training cannot be known.
    """
    notes = [] if notes is None else notes
    module, name = type(model).__module__.split(".")[0], type(model).__name__
    if (module, name) == ("xgboost", "Booster"):
        return _xgboost(bytes(model.save_raw("json")), notes, pickled=True)
    if (module, name) == ("lightgbm", "Booster"):
        return _lightgbm(model.model_to_string().encode())
    if (module, name) == ("catboost", "CatBoost"):
        return _bare_catboost(model, notes, sample)
    if _is_catboost(model) and is_fitted_booster(model) and model.get_cat_feature_indices():
        restore(model)
        return hashed_categories.in_front_of(model, sample, notes)
    for part in walk(model):
        restore(part)
        if _is_catboost(part) and is_fitted_booster(part) and part.get_cat_feature_indices():
            catboost.read(part)  # says which columns cannot be converted; CatBoost would only refuse the rows
    return categories.in_front_of(model)


def columns(model: Any) -> tuple[tuple[str, ...], bool] | None:
    """The columns that a booster's estimator takes, and whether their names are the user's; None for all else.

    CatBoost does not say so as scikit-learn does, and LightGBM makes up names.
    """
    if hasattr(model, "booster_"):
        names = list(model.booster_.feature_name())
        named = not lightgbm.made_up(names)
    elif _is_catboost(model) or isinstance(model, CatBoostScores):
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
    if isinstance(model, CatBoostScores):
        return catboost.without_link(catboost.read(model.model))
    if not is_fitted_booster(model):  # ensembles keep the estimator that they copied, which is not trained
        return None
    return xgboost.read_estimator(model) if hasattr(model, "get_booster") else catboost.read(model)


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
    return type(model).__module__.split(".")[0] == "catboost" and hasattr(model, "get_cat_feature_indices")


def _is_catboost_json(data: bytes) -> bool:
    """Recognised by its first key, without reading all of a large file."""
    start = data.lstrip()[1:].lstrip()
    return start.startswith((b'"features_info"', b'"model_info"', b'"oblivious_trees"', b'"trees"', b'"ctr_data"'))


def _xgboost(data: bytes, notes: list[str], *, pickled: bool) -> Any:
    """``data`` is of this XGBoost's own making where the model was ``pickled``, whatever version trained it."""
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
    best = booster.attr("best_iteration")
    if written is None and best is not None:
        # Only XGBoost's estimators stop there by themselves.
        estimator.get_booster().set_attr(best_iteration=None)
        notes.append(
            f"it was saved as a Booster, whose predict uses all {booster.num_boosted_rounds()} rounds, and so does the "
            f"package; for only those up to the best one, {best}, save booster[:{int(best) + 1}]"
        )
    elif best is not None:
        notes.append(
            f"it was saved by XGBoost's {kind}, which stops at the best round, {best}, and so does the package; a "
            f"Booster that is read from the file uses all {booster.num_boosted_rounds()}"
        )
    if pickled or xgboost.forgets_categories(data):
        estimator.feature_types = None  # as after training on a data frame, which it may have been
    return categories.in_front_of(estimator)


def _lightgbm(data: bytes) -> Any:
    text = data.decode("utf-8", "replace")
    # LightGBM itself ends the process over a file that breaks off.
    boosted = lightgbm.parse(text)
    import lightgbm as library

    try:
        booster = library.Booster(model_str=text)
    except library.basic.LightGBMError as error:
        raise ConversionError(
            f"the file is not a whole LightGBM model ({first_line(error)})", hint=f"copy it again, or {SAVE_AGAIN}"
        ) from error
    return categories.in_front_of((LightGBMClassifier if boosted.classes else LightGBMRegressor)(booster))


def _catboost(path: Path, form: str, notes: list[str], sample: Path | None) -> Any:
    import catboost as library

    try:
        model = library.CatBoost().load_model(str(path), format=form)
    except library.CatBoostError as error:
        raise ConversionError(
            f"the file is not a whole CatBoost model ({first_line(error)})", hint=f"copy it again, or {SAVE_AGAIN}"
        ) from error
    if not len(model.classes_) and (link := catboost.link_of(model)) != "identity":
        raise ConversionError(
            f"the file does not say whether CatBoostRegressor is to answer, which applies {link} to the score, or "
            "CatBoost, which does not",
            hint="register the object that you call, as with joblib.dump(CatBoostRegressor().load_model("
            f"{path.name!r}), 'model.joblib')",
        )
    return _catboost_estimator(model, notes, sample)


def _bare_catboost(model: Any, notes: list[str], sample: Path | None) -> Any:
    """For ``catboost.CatBoost``, whose own ``predict`` answers scores whatever the loss."""
    if len(model.classes_):
        notes.append(
            "CatBoost.predict answers scores, and the package classes and probabilities, as CatBoostClassifier does"
        )
        return _catboost_estimator(model, notes, sample)
    if catboost.link_of(model) == "identity":
        return _catboost_estimator(model, notes, sample)
    return CatBoostScores(model)


def _catboost_estimator(model: Any, notes: list[str], sample: Path | None) -> Any:
    """The estimator of CatBoost's that suits the model's loss; it takes what is left of the bare one."""
    import tempfile

    import catboost as library

    is_classifier = bool(len(model.classes_))
    estimator = (library.CatBoostClassifier if is_classifier else library.CatBoostRegressor)()
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "model.cbm")
        model.save_model(file)
        return adapt(estimator.load_model(file), notes, sample)
