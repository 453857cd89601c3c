"""Predictors built of others: votes, stacks, chains, thresholds, calibration, searches, transformed targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import (
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  makes the class known
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RANSACRegressor, Ridge
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor, RegressorChain
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from converters import Options
from converters.sklearn import convert
from edgepack.errors import ConversionError
from tests.converters.support.predictor_answers import (
    answers,
    classes,
    matrix_to_onnx,
    require_equal,
    require_same_answers,
    to_onnx,
    values,
)

pytestmark = pytest.mark.filterwarnings("ignore")
TREE = DecisionTreeClassifier(max_depth=3, random_state=0)
SCALED = make_pipeline(StandardScaler(), LogisticRegression())
INNER = [LogisticRegression(), LinearSVC(), SVC(), GaussianNB(), TREE, make_pipeline(StandardScaler(), LinearSVC())]
THREE = [("line", LogisticRegression()), ("tree", TREE), ("scaled", make_pipeline(StandardScaler(), GaussianNB()))]


def _name(value: Any) -> str | None:
    return "".join(str(value).split())[:60] if hasattr(value, "get_params") else None


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("inner", INNER, ids=_name)
def test_many_classes_by_binary_parts(inner: Any, count: int) -> None:
    x, y = classes(count)
    for model in (OneVsRestClassifier(inner), OneVsOneClassifier(inner)):
        require_same_answers(model.fit(x, y), x)
    # Its parts' answers are of no interest alone.
    assert require_same_answers(OutputCodeClassifier(inner, random_state=3).fit(x, y), x) == {"label"}


def test_a_class_against_the_rest_by_regressors() -> None:
    x, y = classes(3)
    require_same_answers(OneVsRestClassifier(Ridge()).fit(x, y), x)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("method", ["isotonic", "sigmoid", "temperature"])
@pytest.mark.parametrize("ensemble", [True, False])
def test_calibration_over_scores_probabilities_and_pipelines(method: str, count: int, ensemble: bool) -> None:
    x, y = classes(count)
    for inner in (make_pipeline(StandardScaler(), LinearSVC()), GaussianNB(), TREE):
        model = CalibratedClassifierCV(inner, method=method, ensemble=ensemble, cv=3)
        require_same_answers(model.fit(x, y), x)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_votes_are_counted_and_weighed(voting: str, count: int) -> None:
    x, y = classes(count)
    for weights in (None, [1, 2, 1.5]):
        require_same_answers(VotingClassifier(THREE, voting=voting, weights=weights).fit(x, y), x)


@pytest.mark.parametrize("count", [2, 3])
def test_stacks_feed_their_last_estimator(count: int) -> None:
    x, y = classes(count)
    forest = RandomForestClassifier(5, max_depth=3, random_state=0)
    parts = [("machine", LinearSVC()), *THREE]
    for model in (
        StackingClassifier(parts, passthrough=True, cv=2),
        StackingClassifier(THREE, final_estimator=forest, cv=2),
        StackingClassifier(THREE, stack_method="predict", cv=2),
    ):
        require_same_answers(model.fit(x, y), x)


@pytest.mark.parametrize(
    "model",
    [
        FixedThresholdClassifier(LogisticRegression(), threshold=0.8),
        FixedThresholdClassifier(LogisticRegression(), threshold=0.7, pos_label="a"),
        FixedThresholdClassifier(
            LogisticRegression(), threshold=0.7, pos_label="a", response_method="decision_function"
        ),
        FixedThresholdClassifier(make_pipeline(StandardScaler(), LinearSVC())),
        TunedThresholdClassifierCV(RandomForestClassifier(5, max_depth=3, random_state=0), cv=3),
        TunedThresholdClassifierCV(SCALED, scoring="balanced_accuracy"),
    ],
    ids=_name,
)
def test_a_threshold_of_its_own_decides(model: Any) -> None:
    x, y = classes(2)
    require_same_answers(model.fit(x, y), x)


def test_skl2onnx_alone_ignores_a_tuned_threshold() -> None:
    """When this fails, our recipe may have become superfluous (sklearn-onnx #1100, #1225)."""
    x, y = classes(2)
    y = np.where(np.random.default_rng(0).random(len(y)) < 0.3, "a", y)
    model = TunedThresholdClassifierCV(LogisticRegression(), scoring="balanced_accuracy").fit(x, y)
    label = matrix_to_onnx(model, 6, ours=False).run({"X": x})[0]
    assert (label != model.predict(x)).any()
    require_same_answers(model, x)


@pytest.mark.parametrize(
    "model",
    [
        GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [1, 2]}, cv=2),
        RandomizedSearchCV(LogisticRegression(), {"C": [1, 2]}, n_iter=2, cv=2),
        HalvingGridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=2),
        make_pipeline(StandardScaler(), GridSearchCV(TREE, {"max_depth": [2, 3]}, cv=2)),
        VotingClassifier([("search", GridSearchCV(LinearSVC(), {"C": [1, 2]}, cv=2)), ("tree", TREE)]),
    ],
    ids=_name,
)
def test_a_search_answers_by_its_best_estimator(model: Any) -> None:
    x, y = classes(3)
    require_same_answers(model.fit(x, y), x)


def test_a_frozen_part_is_calibrated() -> None:
    x, y = classes(3)
    require_same_answers(CalibratedClassifierCV(FrozenEstimator(SCALED.fit(x, y))).fit(x, y), x)


def test_self_training_answers_by_its_estimator() -> None:
    x, y = classes(2, text=False)
    model = SelfTrainingClassifier(LogisticRegression()).fit(x, np.where(np.arange(len(y)) % 3 == 0, -1, y))
    assert require_same_answers(model, x) == {"label", "probabilities", "decision_function"}


@pytest.mark.parametrize(
    "model",
    [
        MultiOutputClassifier(GaussianNB()),
        MultiOutputClassifier(SVC()),
        OneVsRestClassifier(LogisticRegression()),
        OneVsRestClassifier(LinearSVC()),
        ClassifierChain(LogisticRegression(), order=[2, 0, 1]),
        ClassifierChain(LogisticRegression(), chain_method="predict_proba", order=[1, 2, 0]),
        ClassifierChain(LinearSVC(), chain_method="decision_function"),
        ClassifierChain(TREE),
    ],
    ids=_name,
)
def test_several_labels_at_once(model: Any) -> None:
    x, _ = classes(2)
    y = (np.random.default_rng(0).random((len(x), 3)) > 0.5).astype(int)
    require_same_answers(model.fit(x, y), x)


def test_a_class_of_text_for_each_target() -> None:
    x, y = classes(3)
    model = MultiOutputClassifier(LogisticRegression()).fit(x, np.column_stack([y, y[::-1]]))
    assert require_same_answers(model, x) == {"label", "predict_proba_0", "predict_proba_1"}


@pytest.mark.parametrize(
    "model",
    [MultiOutputRegressor(SVR()), RegressorChain(Ridge(), order=[1, 0]), RegressorChain(DecisionTreeRegressor())],
    ids=_name,
)
def test_several_values_at_once(model: Any) -> None:
    x, y = values(2)
    require_same_answers(model.fit(x, y), x)


@pytest.mark.parametrize(
    "model",
    [
        VotingRegressor([("a", Ridge()), ("b", make_pipeline(StandardScaler(), SVR()))], weights=[1, 3]),
        StackingRegressor([("a", Ridge()), ("b", SVR())], passthrough=True, cv=2),
        RANSACRegressor(random_state=0),
        RANSACRegressor(DecisionTreeRegressor(max_depth=3), random_state=0, min_samples=20),
        TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
        TransformedTargetRegressor(make_pipeline(StandardScaler(), SVR()), func=np.log, inverse_func=np.exp),
        TransformedTargetRegressor(RandomForestRegressor(5, max_depth=3), func=np.sqrt, inverse_func=np.square),
        *(
            TransformedTargetRegressor(Ridge(), transformer=transformer)
            for transformer in (
                StandardScaler(),
                MinMaxScaler(),
                MaxAbsScaler(),
                RobustScaler(),
                PowerTransformer(),
                PowerTransformer("box-cox"),
                QuantileTransformer(n_quantiles=20),
                make_pipeline(FunctionTransformer(np.log1p, np.expm1), StandardScaler()),
            )
        ),
    ],
    ids=_name,
)
def test_regressors_built_of_others(model: Any) -> None:
    x, y = values(positive=True)
    assert require_same_answers(model.fit(x, y), x) == {"variable"}


def test_several_transformed_targets() -> None:
    x, y = values(2)
    require_same_answers(TransformedTargetRegressor(Ridge(), transformer=StandardScaler()).fit(x, y), x)


def test_votes_and_stacks_also_tell_what_their_parts_answer() -> None:
    x, y = classes(3)
    for model, output in (
        (VotingClassifier(THREE, voting="soft"), "transform"),
        (VotingClassifier(THREE), "probabilities"),
        (StackingClassifier(THREE, cv=2), "transform"),
        (VotingRegressor([("a", Ridge()), ("b", SVR())]), "transform"),
        (StackingRegressor([("a", Ridge()), ("b", SVR())], cv=2), "transform"),
    ):
        model.fit(x, x[:, 0] if isinstance(model, VotingRegressor | StackingRegressor) else y)
        results = answers(matrix_to_onnx(model, 6), {"X": x})
        np.testing.assert_allclose(results[output], model.transform(x), rtol=1e-9, atol=1e-12)


def test_a_target_taken_back_by_other_rows_is_refused() -> None:
    x, y = values()
    model = TransformedTargetRegressor(Ridge(), func=lambda y: y - y.mean(), inverse_func=lambda y: y + y.mean())
    model.fit(x, y)
    with pytest.raises(ConversionError, match="inverse_func treats a row by what is in other rows"):
        matrix_to_onnx(model, 6)


def _by_column() -> Any:
    return make_column_transformer((StandardScaler(), ["age", "income"]), (OneHotEncoder(), ["town"]))


@pytest.mark.parametrize(
    "model",
    [
        VotingClassifier(
            [("a", make_pipeline(_by_column(), LogisticRegression())), ("b", make_pipeline(_by_column(), TREE))],
            voting="soft",
        ),
        StackingClassifier([("a", make_pipeline(_by_column(), LinearSVC()))], cv=2),
        CalibratedClassifierCV(make_pipeline(_by_column(), LinearSVC()), cv=2),
        TunedThresholdClassifierCV(make_pipeline(_by_column(), LogisticRegression()), cv=2),
        GridSearchCV(make_pipeline(_by_column(), SVC()), {"svc__C": [1, 2]}, cv=2),
    ],
    ids=_name,
)
def test_parts_may_choose_their_columns_by_name(model: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "town": random.choice(["Rome", "Oslo"], 120),
            "age": random.uniform(18, 80, 120),
            "income": random.normal(1e3, 1e2, 120),
        }
    )
    y = np.where(frame["age"] + random.normal(0, 9, 120) > 50, "old", "young")
    model.fit(frame, y)
    kinds = {"town": StringTensorType, "age": DoubleTensorType, "income": DoubleTensorType}
    session = to_onnx(model, [(name, kind([None, 1])) for name, kind in kinds.items()])
    for rows in (frame, frame[:1]):
        feeds = {name: rows[[name]].to_numpy() for name in frame}
        require_equal(model, session, rows, feeds)


def test_a_package_of_several_targets_names_the_probabilities_of_each(tmp_path: Path) -> None:
    x, y = classes(3)
    model = MultiOutputClassifier(LogisticRegression()).fit(x, np.column_stack([y, y[::-1]]))
    joblib.dump(model, tmp_path / "model.joblib")
    converted = convert.convert(tmp_path / "model.joblib", "sha256:0", Options())
    assert [(output["name"], output["shape"]) for output in converted.manifest["outputs"]] == [
        ("label", [None, 2]),
        ("probabilities_0", [None, 3]),
        ("probabilities_1", [None, 3]),
    ]
    assert converted.manifest["methods"]["predict_proba"] == ["probabilities_0", "probabilities_1"]
