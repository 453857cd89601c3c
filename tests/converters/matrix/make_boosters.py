"""``python make_boosters.py OUT_DIR``: XGBoost, LightGBM and CatBoost models with their answers, for the matrix.

Runs in the boosters' own environment. Writes ``index.json`` as ``tensorflow_models.py`` does; ``answers.npz`` beside
each model has ``rows``, and ``answer/METHOD``. The rows after ``clean`` lie on thresholds and one unit beside.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
TREES = 25


def models() -> Iterator[tuple[str, Any, Any, str]]:
    """Name, unfitted model, data and target."""
    import catboost
    import lightgbm
    import xgboost
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from tests.converters.matrix.case import fine, numbers, with_missing

    quiet = {"n_estimators": TREES, "random_state": 0, "n_jobs": 1}
    makers = {
        "XGBoost": (xgboost.XGBClassifier, xgboost.XGBRegressor, quiet),
        "LightGBM": (lightgbm.LGBMClassifier, lightgbm.LGBMRegressor, {**quiet, "verbose": -1}),
        "CatBoost": (
            catboost.CatBoostClassifier,
            catboost.CatBoostRegressor,
            {"iterations": TREES, "random_seed": 0, "thread_count": 1, "verbose": False, "allow_writing_files": False},
        ),
    }
    for name, (classifier, regressor, parameters) in makers.items():
        yield f"{name} classifier", classifier(**parameters), numbers(), "classes"
        yield f"{name} classifier, two classes", classifier(**parameters), numbers(), "binary"
        yield f"{name} regressor", regressor(**parameters), numbers(), "number"
        yield f"{name} regressor, float64 data", regressor(**parameters), fine(), "number"
        yield f"{name} classifier, missing values", classifier(**parameters), with_missing(), "classes"
        yield f"{name} regressor, missing values", regressor(**parameters), with_missing(), "number"
        yield (
            f"{name} classifier behind a scaler",
            make_pipeline(StandardScaler(), classifier(**parameters)),
            numbers(),
            "classes",
        )


def main(arguments: list[str]) -> int:
    """Write the models."""
    import joblib

    from tests.converters.matrix.boundary import boundary_rows
    from tests.converters.matrix.judge import answers

    out, index = Path(arguments[0]), []
    for name, model, data, target in models():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = model.fit(data.train, getattr(data, target))
            edges = boundary_rows(fitted, data.train, data.test, search=True)
        rows = np.vstack([data.test, edges])
        stored = {"rows": rows, "clean": np.array(len(data.test))}
        stored |= {f"answer/{method}": answer for method, answer in answers(fitted, rows).items()}
        ways = {"": None} | (_native(name, fitted) if "," not in name and "scaler" not in name else {})
        for suffix, save in ways.items():
            folder = out / f"{name}{suffix}".replace(" ", "-").replace(",", "")
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "model.joblib"
            if save is None:
                joblib.dump(fitted, path)
            else:
                path = folder / f"model{save[0]}"
                save[1](str(path))
            np.savez(folder / "answers.npz", **stored)
            entry = {"name": f"{name}{suffix}", "path": str(path.relative_to(out)), "framework": "ScikitLearn"}
            options = {}
            if name.startswith("XGBoost") and np.isnan(data.train).any():
                # Which of NaN and the zeros of sparse rows is missing it does not keep.
                np.save(folder / "sample.npy", data.train[:100])
                options = {"sample": f"{folder.name}/sample.npy"}
            index.append({**entry, "options": options, "expect": "converts", "reason": "", "folder": folder.name})
    (out / "index.json").write_text(json.dumps(index, indent=1))
    return 0


def _native(name: str, fitted: Any) -> dict[str, Any]:
    """The library's own file, by the ending that it has."""
    kind = name.split()[0]
    if kind == "XGBoost":
        return {", .ubj file": (".ubj", fitted.save_model), ", .json file": (".json", fitted.save_model)}
    if kind == "LightGBM":
        return {", .txt file": (".txt", fitted.booster_.save_model)}
    return {", .cbm file": (".cbm", fitted.save_model)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
