"""``python make_boosters_as_used.py OUT_DIR``: boosters with the answers that their users get, for the matrix.

Trained and asked as their users do it: on a table with columns of categories, on sparse rows, inside of other
estimators. Runs in the boosters' own environment.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.converters.matrix import used


def main(arguments: list[str]) -> int:
    """Write the models."""
    used.write(
        Path(arguments[0]),
        itertools.chain.from_iterable(make() for make in (on_categories, by_type, inside, on_sparse_rows)),
    )
    return 0


def on_categories() -> Iterator[used.Used]:
    """Whole numbers that are not their own codes, and text, as pandas' categories."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import VotingClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler

    table, classes = used.table()
    sent = table.astype({"zone": int, "town": object})
    for name, classifier, _ in used.makers():
        scaled = ColumnTransformer(
            [("size", StandardScaler(), ["size"])], remainder="passthrough", verbose_feature_names_out=False
        ).set_output(transform="pandas")
        ways = {
            "alone": classifier(),
            "in a pipeline": Pipeline([("model", classifier())]),
            "in a search": GridSearchCV(classifier(), {"max_depth": [3]}, cv=2),
            "calibrated": CalibratedClassifierCV(classifier(), cv=2),
            "in a vote": VotingClassifier([("a", classifier()), ("b", classifier())], voting="soft"),
            "behind scaled columns": make_pipeline(scaled, classifier()),
        }
        for way, model in ways.items():
            yield used.of(f"{name} on categories, {way}", model.fit(table, classes), table, sent)


def by_type() -> Iterator[used.Used]:
    """Every type of categories, with and without missing ones, alone and in what scikit-learn wraps around."""
    import pandas as pd
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import StackingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.pipeline import make_pipeline

    table, classes = used.table()
    random = np.random.default_rng(used.SEED)
    plain = {"size": table["size"].to_numpy()}
    towns = np.asarray(table["town"])
    types = {
        "whole numbers": np.asarray(table["zone"]),
        "text": towns,
        "text that is not ASCII": np.char.replace(towns.astype(str), "Gouda", "Gérône"),
        "ordered text": pd.Categorical(towns, categories=["Leiden", "Delft", "Gouda"], ordered=True),
        "text, some missing": np.where(random.random(used.ROWS) < 0.1, None, towns.astype(object)),
        "true and false": towns == "Gouda",
    }
    for name, classifier, regressor in used.makers():
        for kind, values in types.items():
            if name == "XGBoost" and kind == "true and false":
                continue  # which it refuses itself
            typed = pd.DataFrame({**plain, "place": pd.Categorical(values)})
            sent = pd.DataFrame({**plain, "place": np.asarray(values)})
            yield used.of(f"{name} on categories of {kind}", classifier().fit(typed, classes), typed, sent)
        typed = pd.DataFrame({**plain, "place": pd.Categorical(towns), "zone": table["zone"]})
        sent = typed.astype({"place": object, "zone": int})
        number = np.exp(plain["size"]) + (typed["place"] == "Gouda")
        ways = {
            "a stack": (StackingClassifier([("a", classifier())], LogisticRegression(), cv=2), classes),
            "one against the rest": (OneVsRestClassifier(classifier()), classes),
            "a transformed target": (
                TransformedTargetRegressor(regressor(), func=np.log1p, inverse_func=np.expm1),
                number,
            ),
            "several outputs": (MultiOutputRegressor(regressor()), np.stack([number, -number], axis=1)),
            "a pipeline that does nothing before it": (make_pipeline("passthrough", regressor()), number),
        }
        for way, (model, target) in ways.items():
            yield used.of(f"{name} on categories, in {way}", model.fit(typed, target), typed, sent)
        holes = typed.assign(size=np.where(random.random(used.ROWS) < 0.2, np.nan, plain["size"]))
        yield used.of(
            f"{name} on categories and missing numbers",
            regressor().fit(holes, number),
            holes,
            holes.astype({"place": object, "zone": int}),
        )


def inside() -> Iterator[used.Used]:
    """XGBoost and CatBoost as parts of scikit-learn's estimators."""
    from catboost import CatBoostClassifier, CatBoostRegressor
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.multioutput import MultiOutputRegressor

    quiet = {"iterations": used.TREES, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    makers = [entry for entry in used.makers() if entry[0] == "XGBoost"]
    makers.append(("CatBoost", lambda: CatBoostClassifier(**quiet), lambda: CatBoostRegressor(**quiet)))
    x, number, classes = used.matrix()
    for name, classifier, regressor in makers:
        pair = [("a", classifier()), ("b", LogisticRegression())]
        ways = {
            "vote": (VotingClassifier(pair, voting="soft"), classes),
            "stack": (StackingClassifier(pair, cv=2), classes),
            "bag": (BaggingClassifier(classifier(), 3, random_state=0), classes),
            "one against the rest": (OneVsRestClassifier(classifier()), classes),
            "transformed target": (TransformedTargetRegressor(regressor(), func=np.log, inverse_func=np.exp), number),
            "several outputs": (MultiOutputRegressor(regressor()), np.stack([number, -number], axis=1)),
        }
        for way, (model, target) in ways.items():
            yield used.of(f"{name} in a {way}", model.fit(x, target), x, x)


def on_sparse_rows() -> Iterator[used.Used]:
    """Sparse rows, of which XGBoost takes the zeros for missing values, and no other booster does."""
    from scipy.sparse import csr_matrix
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    table, classes = used.table()
    sent = table.astype({"zone": int, "town": object})
    classifier = next(maker for name, maker, _ in used.makers() if name == "XGBoost")
    mixed = ColumnTransformer([("c", OneHotEncoder(), ["town"])], remainder="passthrough", sparse_threshold=1)
    words = sent[["zone", "town"]]
    yield used.of(
        "XGBoost on one-hot columns", make_pipeline(OneHotEncoder(), classifier()).fit(words, classes), words, words
    )
    yield used.of(
        "XGBoost on sparse and other columns", make_pipeline(mixed, classifier()).fit(sent, classes), sent, sent
    )
    for name, maker, regressor in used.makers():
        plain = make_pipeline(OneHotEncoder(sparse_output=False), maker()).fit(words, classes)
        yield used.of(f"{name} on dense one-hot columns", plain, words, words)
        text = [" ".join(row) for row in zip(words["town"], np.array(["calm", "loud", "dry"])[classes], strict=True)]
        for kind, vectorizer in (("counts", partial(CountVectorizer, dtype=np.float64)), ("weights", TfidfVectorizer)):
            model = make_pipeline(vectorizer(), maker()).fit(text, (classes == 1).astype(int))
            yield used.of(f"{name} on {kind} of words", model, text, text)
        x = np.where(
            np.random.default_rng(used.SEED).random((used.ROWS, 6)) < 0.6,
            0,
            np.random.default_rng(1).random((used.ROWS, 6)),
        )
        rows, number = csr_matrix(x), x[:, 0] + (x[:, 1] == 0)
        model = regressor().fit(rows, number)
        if name == "XGBoost":
            yield used.Used("XGBoost alone on sparse rows", model, x, None)
            answers = {"predict": model.predict(rows)}
            model = regressor().fit(rows, number).set_params(missing=0)
            yield used.Used(
                "XGBoost alone on sparse rows, zero named as missing", model, x, lambda answers=answers: answers
            )
        else:
            yield used.of(f"{name} alone on sparse rows", model, rows, x)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
