"""Pipelines over data frames with columns of several kinds, and models of text."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np

from tests.converters.matrix.boundary import frame_jumps, only_answered
from tests.converters.matrix.case import TRAIN_ROWS, Case, Fitted, numbers, texts
from tests.converters.matrix.estimators import make

INCOME, AGE, MEMBER, CITY, SIZE = "annual income", "age (yrs)", "member", "city", "size"
NUMBERS = [INCOME, AGE]
WORDS = [CITY, SIZE]


@cache
def frame(missing: tuple[str, ...] = ()) -> Any:
    """A data frame of 700 rows: a fraction, a whole number, a flag and two texts; some cells of ``missing`` are."""
    import pandas as pd

    data = numbers()
    random = np.random.default_rng(11)
    every = np.vstack([data.train, data.test])
    cities = np.array(["Aachen", "Bonn", "Köln", "Ulm", "Weil am Rhein"], dtype=object)
    table = pd.DataFrame(
        {
            INCOME: np.round(30_000 * np.exp(every[:, 0] * 0.25), 2),
            AGE: np.clip(45 + every[:, 1] * 3, 18, 90).astype(np.int64),
            MEMBER: every[:, 2] > 0,
            CITY: cities[np.clip((every[:, 3] + 4).astype(int), 0, 4)],
            SIZE: random.choice(np.array(["S", "M", "L"], dtype=object), len(every)),
        }
    )
    for name in missing:
        table[name] = table[name].astype(float) if name in NUMBERS else table[name]
        table.loc[random.random(len(every)) < 0.1, name] = np.nan
    return table


def _fitted(build: Callable[[], Any], missing: tuple[str, ...] = (), target: str = "classes") -> Fitted:
    import pandas as pd

    table = frame(missing)
    model = build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(table[:TRAIN_ROWS], getattr(numbers(), target))
    unusual = table[TRAIN_ROWS : TRAIN_ROWS + 12].copy().reset_index(drop=True)
    unusual.loc[0:2, CITY] = "Paris"
    unusual.loc[3:4, SIZE] = "XL"
    unusual.loc[5, [CITY, SIZE]] = ["KÖLN", ""]
    unusual.loc[6, INCOME] = table[INCOME].min()
    unusual.loc[7, INCOME] = table[INCOME].max()
    unusual.loc[8, INCOME] = 0.0
    unusual.loc[9, AGE] = table[AGE].max()
    jumps = frame_jumps(model, table[TRAIN_ROWS:], INCOME)
    edges = unusual if jumps is None else pd.concat([unusual, jumps], ignore_index=True)
    return Fitted(model, table[TRAIN_ROWS:], only_answered(model, edges))


def _pre(preprocessing: str, **parameters: Any) -> Any:
    return make(f"preprocessing.{preprocessing}", **parameters)


def _columns(*parts: tuple[Any, list[str]], remainder: Any = "drop") -> Any:
    from sklearn.compose import ColumnTransformer

    return ColumnTransformer([(f"part{n}", part, names) for n, (part, names) in enumerate(parts)], remainder=remainder)


def _scaler() -> Any:
    return _pre("StandardScaler")


def _pipe(*steps: Any) -> Any:
    from sklearn.pipeline import make_pipeline

    return make_pipeline(*steps)


def _one_hot(**parameters: Any) -> Any:
    return _pre("OneHotEncoder", **{"handle_unknown": "ignore", **parameters})


def _logistic() -> Any:
    return make("linear_model.LogisticRegression", max_iter=500)


def _forest() -> Any:
    return make("ensemble.RandomForestClassifier", n_estimators=20, random_state=0)


def _histogram(**parameters: Any) -> Any:
    return make("ensemble.HistGradientBoostingClassifier", max_iter=20, **parameters)


def _imputed(**parameters: Any) -> Any:
    return _pipe(make("impute.SimpleImputer", **parameters), _pre("StandardScaler"))


def _usual(model: Any, **imputer: Any) -> Any:
    return _pipe(_columns((_imputed(**imputer), NUMBERS), (_one_hot(), WORDS)), model)


def _bare(model: Any) -> Any:
    return _pipe(_columns((_pre("StandardScaler"), NUMBERS), (_one_hot(), WORDS)), model)


def _calibrated(model: Any, method: str) -> Any:
    return make("calibration.CalibratedClassifierCV", estimator=model, method=method, cv=3)


def _stacking(**parameters: Any) -> Any:
    return make("ensemble.StackingClassifier", estimators=[("a", _logistic()), ("b", _forest())], cv=3, **parameters)


def _voting(**parameters: Any) -> Any:
    return make("ensemble.VotingClassifier", estimators=[("a", _logistic()), ("b", _forest())], **parameters)


def _search(kind: str, model: Any, **parameters: Any) -> Any:
    return make(f"model_selection.{kind}", estimator=model, cv=3, **parameters)


_FILLED = {"strategy": "most_frequent"}
_C = {"logisticregression__C": [0.1, 1.0]}
_SOME_NAN, _TEXT_NAN = (INCOME, AGE), (CITY,)


def _ordinal(unseen: float) -> Any:
    return _pre("OrdinalEncoder", handle_unknown="use_encoded_value", unknown_value=unseen)


def _with(encoder: Any, model: Any, numbers: Any = "passthrough") -> Any:
    return _pipe(_columns((encoder, WORDS), (numbers, NUMBERS)), model)


def _rare() -> Any:
    return _one_hot(min_frequency=40, handle_unknown="infrequent_if_exist")


def _filled() -> Any:
    return _pipe(make("impute.SimpleImputer", **_FILLED), _one_hot())


def _flags() -> Any:
    return _pipe(_columns((_pre("StandardScaler"), NUMBERS), ("passthrough", [MEMBER])), _logistic())


def _remainder() -> Any:
    return _pipe(_columns((_one_hot(), WORDS), remainder="passthrough"), _forest())


def _logarithm() -> Any:
    return _with(_one_hot(sparse_output=False), _logistic(), _pre("FunctionTransformer", func=np.log1p))


def _spline() -> Any:
    return _pipe(_columns((_pre("SplineTransformer"), [INCOME]), (_one_hot(), WORDS)), _logistic())


def _random_search() -> Any:
    return _search("RandomizedSearchCV", _bare(_logistic()), param_distributions=_C, n_iter=2, random_state=0)


def _tuned() -> Any:
    return make("model_selection.TunedThresholdClassifierCV", estimator=_bare(_logistic()))


def _forest_regressor() -> Any:
    return make("ensemble.RandomForestRegressor", n_estimators=20, random_state=0)


def _histogram_regressor() -> Any:
    return make("ensemble.HistGradientBoostingRegressor", max_iter=20)


def _transformed_target() -> Any:
    ridge = _bare(make("linear_model.Ridge"))
    return make("compose.TransformedTargetRegressor", regressor=ridge, transformer=_pre("StandardScaler"))


Table = tuple[Callable[[], Any], tuple[str, ...], str]
CLASSIFIERS: dict[str, Table] = {
    name: (build, missing, "classes")
    for name, build, missing in (
        ("one-hot, scaler, imputer, logistic", lambda: _usual(_logistic()), _SOME_NAN),
        ("one-hot, scaler, logistic", lambda: _bare(_logistic()), ()),
        ("one-hot with a dropped category", lambda: _with(_one_hot(drop="first"), _logistic(), _scaler()), ()),
        ("one-hot with rare categories", lambda: _with(_rare(), _logistic(), _scaler()), ()),
        ("one-hot with missing text", lambda: _with(_one_hot(), _logistic(), _scaler()), _TEXT_NAN),
        ("imputed missing text", lambda: _with(_filled(), _logistic(), _scaler()), _TEXT_NAN),
        ("imputer with indicator", lambda: _usual(_logistic(), add_indicator=True), _SOME_NAN),
        ("ordinal codes, unseen -1, forest", lambda: _with(_ordinal(-1), _forest()), ()),
        ("ordinal codes, unseen missing, histogram boosting", lambda: _with(_ordinal(np.nan), _histogram()), ()),
        (
            "histogram boosting with categories",
            lambda: _with(_ordinal(np.nan), _histogram(categorical_features=[0, 1])),
            (),
        ),
        ("remainder passed through", _remainder, ()),
        ("whole numbers and flags", _flags, ()),
        ("logarithm of a column", _logarithm, ()),
        ("splines of a column", _spline, ()),
        ("grid search over a pipeline", lambda: _search("GridSearchCV", _bare(_logistic()), param_grid=_C), ()),
        ("random search over a pipeline", _random_search, ()),
        ("calibrated, sigmoid", lambda: _bare(_calibrated(_forest(), "sigmoid")), ()),
        ("calibrated, isotonic", lambda: _bare(_calibrated(_forest(), "isotonic")), ()),
        ("calibrated over a pipeline", lambda: _calibrated(_bare(_logistic()), "sigmoid"), ()),
        ("stacking", lambda: _bare(_stacking()), ()),
        ("stacking with passthrough", lambda: _bare(_stacking(passthrough=True)), ()),
        ("hard vote", lambda: _bare(_voting()), ()),
        ("soft vote", lambda: _bare(_voting(voting="soft")), ()),
        ("support vectors", lambda: _bare(make("svm.SVC")), ()),
        ("nearest neighbours", lambda: _bare(make("neighbors.KNeighborsClassifier")), ()),
    )
}
TABLES: dict[str, Table] = {
    **CLASSIFIERS,
    "target encoder": (lambda: _with(_pre("TargetEncoder", random_state=0), _logistic()), (), "binary"),
    "tuned threshold": (_tuned, (), "binary"),
    "forest, regression": (lambda: _bare(_forest_regressor()), (), "number"),
    "histogram boosting, regression, missing numbers": (
        lambda: _with(_one_hot(sparse_output=False), _histogram_regressor()),
        _SOME_NAN,
        "number",
    ),
    "transformed target": (_transformed_target, (), "number"),
}


def cases() -> Iterator[Case]:
    """Pipelines that choose columns by name, bare models of a frame, and models of text."""
    for name, (build, missing, target) in TABLES.items():
        yield Case(f"Table: {name}", "Tables", partial(_fitted, build, missing, target))
    yield Case("Table: bare forest on a frame", "Tables", partial(_bare_frame, _forest, ()))
    yield Case(
        "Table: bare imputer on a frame", "Tables", partial(_bare_frame, lambda: make("impute.KNNImputer"), _SOME_NAN)
    )
    yield from _text_cases()


def _bare_frame(build: Callable[[], Any], missing: tuple[str, ...]) -> Fitted:
    table = frame(missing)[NUMBERS].astype(float)
    model = build().fit(table[:TRAIN_ROWS], numbers().classes)
    return Fitted(model, table[TRAIN_ROWS:], table[TRAIN_ROWS : TRAIN_ROWS + 4])


def _text_cases() -> Iterator[Case]:
    text = "feature_extraction.text."
    models: dict[str, Callable[[], Any]] = {
        "tf-idf, logistic": lambda: _pipe(make(text + "TfidfVectorizer"), _logistic()),
        "tf-idf of word pairs, stop words": lambda: _pipe(
            make(text + "TfidfVectorizer", ngram_range=(1, 2), stop_words="english"), _logistic()
        ),
        "tf-idf, case kept, sublinear": lambda: _pipe(
            make(text + "TfidfVectorizer", lowercase=False, sublinear_tf=True), make("svm.LinearSVC")
        ),
        "counts, naive Bayes": lambda: _pipe(make(text + "CountVectorizer"), make("naive_bayes.MultinomialNB")),
        "binary counts, accents stripped": lambda: _pipe(
            make(text + "CountVectorizer", binary=True, strip_accents="unicode"), _logistic()
        ),
        "tf-idf of letters": lambda: _pipe(
            make(text + "TfidfVectorizer", analyzer="char_wb", ngram_range=(2, 3)), _logistic()
        ),
        "hashed words": lambda: _pipe(make(text + "HashingVectorizer", n_features=128), _logistic()),
    }
    for name, build in models.items():
        yield Case(f"Text: {name}", "Text", partial(_texts, build, False))
    yield Case("Text: tf-idf of accented words", "Text", partial(_texts, models["tf-idf, logistic"], True))


def _texts(build: Callable[[], Any], accents: bool) -> Fitted:
    train, test, topics = texts()
    change = str.maketrans({"e": "é", "o": "ö", "a": "à"} if accents else {})
    train, test = ([line.translate(change) for line in lines] for lines in (train, test))
    unusual = [
        "",
        "unseen words only",
        "RED Green",
        "a b c",
        "42 - !",
        "Straße ÄÖÜ éé",
        "red\tgreen\nblue",
        "don't re-red",
    ]
    return Fitted(build().fit(train, topics), test, unusual)
