"""``python make_boosters_by_loss.py OUT_DIR``: boosters of every loss and form with what their users get.

After early stopping, with losses whose scores are not the answers, of several outputs, and without their estimators.
Runs in the boosters' own environment.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.converters.matrix import used


def main(arguments: list[str]) -> int:
    """Write the models."""
    used.write(Path(arguments[0]), itertools.chain.from_iterable(make() for make in (stopped, by_loss, by_form, bare)))
    return 0


def stopped() -> Iterator[used.Used]:
    """After early stopping, alone and in the libraries' own files."""
    import lightgbm
    import xgboost
    from catboost import CatBoostRegressor

    x, number, classes = used.matrix()
    noise = np.random.default_rng(used.SEED).permutation(number)
    other = np.random.default_rng(used.SEED).permutation(classes)
    usual = {"n_estimators": 60, "n_jobs": 1, "random_state": 0, "learning_rate": 0.5}
    end = lightgbm.early_stopping(4, verbose=False)
    quiet = {"verbose": False}
    models = {
        "XGBoost classifier": xgboost.XGBClassifier(**usual, early_stopping_rounds=4).fit(
            x, classes, eval_set=[(x, other)], **quiet
        ),
        "XGBoost regressor": xgboost.XGBRegressor(**usual, early_stopping_rounds=4).fit(
            x, number, eval_set=[(x, noise)], **quiet
        ),
        "XGBoost regressor of dart": xgboost.XGBRegressor(**usual, booster="dart", early_stopping_rounds=4).fit(
            x, number, eval_set=[(x, noise)], **quiet
        ),
        "LightGBM classifier": lightgbm.LGBMClassifier(**usual, verbose=-1).fit(
            x, classes, eval_set=[(x, other)], callbacks=[end]
        ),
        "LightGBM regressor": lightgbm.LGBMRegressor(**usual, verbose=-1).fit(
            x, number, eval_set=[(x, noise)], callbacks=[end]
        ),
        "CatBoost regressor": CatBoostRegressor(
            iterations=60, verbose=0, allow_writing_files=False, thread_count=1, early_stopping_rounds=4
        ).fit(x, number, eval_set=(x, noise)),
    }
    for name, model in models.items():
        yield used.of(f"{name} after early stopping", model, x, x)
        if name.startswith("XGBoost") and "dart" not in name:
            for ending in (".json", ".ubj"):
                yield replace(
                    used.of(f"{name} after early stopping, {ending} file", model, x, x),
                    save=model.save_model,
                    file=f"model{ending}",
                )
    booster = models["LightGBM regressor"].booster_
    answers = {"predict": booster.predict(x)}
    yield used.Used("lightgbm.Booster after early stopping", booster, x, lambda: answers)
    yield used.Used(
        "lightgbm.Booster after early stopping, .txt file", booster, x, lambda: answers, booster.save_model, "model.txt"
    )


def by_loss() -> Iterator[used.Used]:
    """Losses whose scores are not the answers, of boosters and of their estimators; functions of the user's own."""
    import lightgbm
    import xgboost
    from catboost import CatBoost, CatBoostRegressor

    x, number, classes = used.matrix()
    two = (classes == 1).astype(int)
    rows = xgboost.DMatrix(x)
    for loss in ("binary:logistic", "binary:logitraw", "reg:logistic", "count:poisson", "reg:gamma", "reg:tweedie"):
        target = two if "logi" in loss else number
        booster = xgboost.train({"objective": loss, "nthread": 1}, xgboost.DMatrix(x, target), used.TREES)
        found = booster.predict(rows)
        answers = used.labelled(found) if loss == "binary:logistic" else {"predict": found}
        yield used.Used(f"xgboost.Booster of {loss}", booster, x, lambda answers=answers: answers)
        if loss in ("count:poisson", "reg:tweedie"):
            yield used.of(f"XGBoost of {loss}", xgboost.XGBRegressor(objective=loss, n_jobs=1).fit(x, number), x, x)
    for loss in ("multi:softmax", "multi:softprob"):
        options = {"objective": loss, "num_class": 3, "nthread": 1}
        booster = xgboost.train(options, xgboost.DMatrix(x, classes), used.TREES)
        scores = np.exp(booster.predict(rows, output_margin=True))
        answers = used.labelled(scores / scores.sum(axis=1, keepdims=True))
        if loss == "multi:softmax":
            answers["predict"] = booster.predict(rows)
        yield used.Used(f"xgboost.Booster of {loss}", booster, x, lambda answers=answers: answers)
    quiet = {"n_estimators": used.TREES, "n_jobs": 1, "verbose": -1}
    for loss in ("poisson", "tweedie", "gamma", "cross_entropy"):
        target = number if loss != "cross_entropy" else number / number.max()
        model = lightgbm.LGBMRegressor(objective=loss, **quiet).fit(x, target)
        yield used.of(f"LightGBM of {loss}", model, x, x)
    for objective, target in (("binary", two), ("multiclass", classes)):
        options = {"objective": objective, "verbose": -1, "num_threads": 1}
        options |= {"num_class": 3} if objective == "multiclass" else {}
        booster = lightgbm.train(options, lightgbm.Dataset(x, target), used.TREES)
        answers = used.labelled(booster.predict(x))
        yield used.Used(f"lightgbm.Booster of {objective}", booster, x, lambda answers=answers: answers)
    usual = {"iterations": used.TREES, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    counts = CatBoostRegressor(loss_function="Poisson", **usual).fit(x, number.round())
    yield used.of("CatBoost regressor of counts", counts, x, x)
    yield used.Used("CatBoost of counts, .cbm file", counts, x, None, counts.save_model, "model.cbm")
    scores = CatBoost({"loss_function": "Logloss", **usual}).fit(x, two)
    yield used.Used(
        "catboost.CatBoost of two classes",
        scores,
        x,
        lambda: used.labelled(scores.predict(x, prediction_type="Probability")),
    )

    def squared(truth: Any, found: Any) -> tuple[Any, Any]:
        return found - truth, np.ones_like(truth)

    own = xgboost.XGBRegressor(n_estimators=used.TREES, n_jobs=1, objective=squared).fit(x, number)
    saved = {"predict": own.predict(x)}
    own.set_params(objective=None)  # a function of this script has no place in a pickle
    yield used.Used("XGBoost of a user's own loss", own, x, lambda: saved)
    booster = lightgbm.LGBMRegressor(objective=squared, **quiet).fit(x, number).booster_
    yield used.Used("lightgbm.Booster of a user's own loss", booster, x, lambda: {"predict": booster.predict(x)})


def by_form() -> Iterator[used.Used]:
    """Rankers, forests, linear boosters, several outputs, and names of columns with spaces."""
    import lightgbm
    import pandas as pd
    import xgboost
    from catboost import CatBoostClassifier, CatBoostRegressor

    x, number, classes = used.matrix()
    usual = {"n_estimators": used.TREES, "n_jobs": 1, "random_state": 0}
    quiet = {**usual, "verbose": -1}
    cat = {"iterations": used.TREES, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    both, flags = np.stack([number, -number], axis=1), np.stack([classes == 1, number > 1], axis=1).astype(int)
    group = np.full(used.ROWS // 10, 10)
    models = {
        "XGBoost ranker": xgboost.XGBRanker(**usual).fit(x, classes, group=group),
        "LightGBM ranker": lightgbm.LGBMRanker(**quiet).fit(x, classes, group=group),
        "XGBoost forest": xgboost.XGBRFClassifier(**usual).fit(x, classes),
        "LightGBM forest": lightgbm.LGBMClassifier(
            boosting_type="rf", bagging_freq=1, bagging_fraction=0.7, **quiet
        ).fit(x, classes),
        "LightGBM of dart": lightgbm.LGBMRegressor(boosting_type="dart", **quiet).fit(x, number),
        "XGBoost, linear": xgboost.XGBRegressor(booster="gblinear", **usual).fit(x, number),
        "XGBoost of several outputs": xgboost.XGBRegressor(**usual).fit(x, both),
        "XGBoost of trees of several outputs": xgboost.XGBRegressor(multi_strategy="multi_output_tree", **usual).fit(
            x, both
        ),
        "XGBoost of several labels": xgboost.XGBClassifier(**usual).fit(x, flags),
        "CatBoost of several outputs": CatBoostRegressor(loss_function="MultiRMSE", **cat).fit(x, both),
        "CatBoost of text classes": CatBoostClassifier(**cat).fit(x, np.array(used.TOWNS)[classes]),
        "CatBoost, trees without symmetry": CatBoostRegressor(grow_policy="Lossguide", **cat).fit(x, number),
        "XGBoost of words for classes, by numbers": xgboost.XGBClassifier(**usual).fit(x, classes),
    }
    for name, model in models.items():
        yield used.of(name, model, x, x)
    holes = np.where(np.random.default_rng(used.SEED).random(x.shape) < 0.2, np.nan, x)
    for name, classifier, regressor in used.makers():
        sample = holes if name == "XGBoost" else None
        yield replace(
            used.of(f"{name} on missing numbers", regressor().fit(holes, number), holes, holes), sample=sample
        )
        spaced = pd.DataFrame(x, columns=["a b", "a-c", "ünï", "d", "e"])
        yield used.of(f"{name} on columns with spaces", classifier().fit(spaced, classes), spaced, spaced)
        typed = pd.DataFrame({"i": (x[:, 0] * 10).astype("int32"), "b": x[:, 1] > 0, "f": x[:, 2].astype("float32")})
        sent = typed.astype({"i": float, "b": float, "f": float})
        yield used.of(f"{name} on columns of several types", classifier().fit(typed, classes), typed, sent)


def bare() -> Iterator[used.Used]:
    """Boosters without their estimators: all rounds of XGBoost's, the scores of CatBoost's."""
    import xgboost
    from catboost import CatBoost

    x, number, _ = used.matrix()
    noise = np.random.default_rng(used.SEED).permutation(number)
    rows, other = xgboost.DMatrix(x, number), xgboost.DMatrix(x, noise)
    stopped = xgboost.train({"eta": 0.5}, rows, 40, evals=[(other, "v")], early_stopping_rounds=4, verbose_eval=False)
    yield used.Used("xgboost.Booster after early stopping", stopped, x, lambda: {"predict": stopped.predict(rows)})
    yield used.Used(
        "xgboost.Booster after early stopping, .ubj file",
        stopped,
        x,
        lambda: {"predict": stopped.predict(rows)},
        stopped.save_model,
        "model.ubj",
    )
    options = {"loss_function": "Poisson", "iterations": used.TREES, "verbose": 0, "allow_writing_files": False}
    counts = CatBoost(options).fit(x, number.round())
    yield used.Used("catboost.CatBoost of counts", counts, x, lambda: {"predict": counts.predict(x)})
    table, classes = used.table()
    sent = table.astype({"zone": int, "town": object})
    typed = xgboost.DMatrix(table, classes == 1, enable_categorical=True)
    booster = xgboost.train({"objective": "binary:logistic"}, typed, used.TREES)
    answers = used.labelled(booster.predict(typed))
    yield used.Used("xgboost.Booster on categories", booster, sent, lambda: answers)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
