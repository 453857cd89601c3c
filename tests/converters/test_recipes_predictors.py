"""Classifiers, regressors and outlier detectors answer in float64 what scikit-learn does, by every method they have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special
from sklearn.covariance import EllipticEnvelope
from sklearn.cross_decomposition import CCA, PLSSVD, PLSCanonical, PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    DotProduct,
    ExpSineSquared,
    Matern,
    RationalQuadratic,
    WhiteKernel,
)
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import (
    GammaRegressor,
    LogisticRegression,
    MultiTaskLasso,
    Perceptron,
    PoissonRegressor,
    RidgeClassifier,
    SGDClassifier,
    SGDOneClassSVM,
    TweedieRegressor,
)
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    LocalOutlierFactor,
    NearestCentroid,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.semi_supervised import LabelPropagation, LabelSpreading
from sklearn.svm import SVC, SVR, LinearSVC, NuSVC, NuSVR, OneClassSVM

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

BOTH = {"label", "probabilities", "decision_function"}
PROBA = {"label", "probabilities"}
SCORES = {"label", "scores"}
CLASSIFIERS = [
    (LogisticRegression(), BOTH),
    (LogisticRegression(fit_intercept=False, class_weight="balanced"), BOTH),
    (LinearDiscriminantAnalysis(), BOTH),
    (LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"), BOTH),
    (QuadraticDiscriminantAnalysis(reg_param=0.2), BOTH),
    (SGDClassifier(loss="log_loss", random_state=0), BOTH),
    (SGDClassifier(loss="modified_huber", random_state=0), BOTH),
    (SGDClassifier(random_state=0), SCORES),
    (Perceptron(random_state=0), SCORES),
    (RidgeClassifier(), SCORES),
    (LinearSVC(), SCORES),
    (SVC(), SCORES),
    (SVC(kernel="poly", coef0=0.5), SCORES),
    (SVC(kernel="linear", decision_function_shape="ovo"), SCORES),
    (SVC(kernel="sigmoid", break_ties=True), SCORES),
    (SVC(probability=True, random_state=0), BOTH),
    (NuSVC(nu=0.3, gamma=0.2, probability=True, random_state=0), BOTH),
    (GaussianNB(), PROBA),
    (NearestCentroid(), BOTH),
    (NearestCentroid(shrink_threshold=0.3, priors="empirical"), BOTH),
    (NearestCentroid(metric="manhattan"), {"label"}),
    (KNeighborsClassifier(3), PROBA),
    (KNeighborsClassifier(4, weights="distance", metric="manhattan"), PROBA),
    (KNeighborsClassifier(4, weights="distance", p=3), PROBA),
    (KNeighborsClassifier(3, metric="cosine"), PROBA),
    (RadiusNeighborsClassifier(2.5, weights="distance", outlier_label="most_frequent"), PROBA),
    (RadiusNeighborsClassifier(0.8, outlier_label="z"), PROBA),
    (MLPClassifier((5, 4), activation="tanh", max_iter=20, random_state=0), PROBA),
    (GaussianProcessClassifier(1.0 * RBF([1.0] * 6) + WhiteKernel(0.1), optimizer=None), PROBA),
    (GaussianProcessClassifier(Matern(nu=1.5) * ConstantKernel(2.0), optimizer=None), PROBA),
    (GaussianProcessClassifier(DotProduct() + RationalQuadratic(), optimizer=None), PROBA),
    (DummyClassifier(), PROBA),
    (DummyClassifier(strategy="constant", constant="bb"), PROBA),
]


def _name(value: Any) -> str | None:
    return str(value).replace("\n", "")[:60] if hasattr(value, "get_params") else None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(("model", "methods"), CLASSIFIERS, ids=_name)
def test_a_classifier_answers_by_every_method(model: Any, methods: set[str], count: int) -> None:
    x, y = classes(count)
    assert require_same_answers(model.fit(x, y), x) == methods


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        SVC(),
        KNeighborsClassifier(),
        GaussianNB(),
        QuadraticDiscriminantAnalysis(),
        GaussianProcessClassifier(optimizer=None),
        NearestCentroid(),
    ],
    ids=_name,
)
def test_classifiers_take_a_single_column_and_number_labels(model: Any) -> None:
    x, y = classes(3, text=False)
    require_same_answers(model.fit(x[:, :1], y), x[:, :1])


@pytest.mark.parametrize("model", [MultinomialNB(), ComplementNB(), BernoulliNB(), CategoricalNB()], ids=_name)
def test_naive_bayes_of_counts_and_categories(model: Any) -> None:
    x = np.random.default_rng(0).integers(0, 4, (200, 6))
    require_same_answers(model.fit(x, classes(3)[1]), x)


def test_support_vectors_on_large_values_keep_their_digits() -> None:
    """Timestamps: squares of them leave float64 no digit for the differences."""
    x, y = classes(2)
    x[:, 0] = 1.7e9 + x[:, 0] * 1e3
    require_same_answers(SVC(gamma=1e-6).fit(x, y), x)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", [LabelPropagation(gamma=0.3), LabelSpreading(kernel="knn", n_neighbors=4)], ids=_name)
def test_labels_spread_to_new_rows(model: Any) -> None:
    x, y = classes(3, text=False)
    model.fit(x, np.where(np.arange(len(y)) % 3 == 0, -1, y))
    assert require_same_answers(model, np.random.default_rng(0).normal(size=(100, 6))) == PROBA


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model",
    [MLPClassifier(max_iter=20, random_state=0), KNeighborsClassifier(), RidgeClassifier(), DummyClassifier()],
    ids=_name,
)
def test_several_labels_at_once_are_a_matrix(model: Any) -> None:
    x, _ = classes(2)
    y = (np.random.default_rng(0).random((len(x), 3)) > 0.5).astype(int)
    assert "label" in require_same_answers(model.fit(x, y), x)


def test_a_class_of_text_for_each_of_several_targets() -> None:
    x, y = classes(3)
    both = np.column_stack([y, y[::-1]])
    assert require_same_answers(KNeighborsClassifier().fit(x, both), x) == {
        "label",
        "predict_proba_0",
        "predict_proba_1",
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize(
    "model",
    [
        KNeighborsRegressor(weights="distance"),
        KNeighborsRegressor(3, metric="chebyshev"),
        RadiusNeighborsRegressor(1.5),
        RadiusNeighborsRegressor(3.0, weights="distance"),
        MLPRegressor(max_iter=20, random_state=0),
        GaussianProcessRegressor(RBF() + WhiteKernel(), normalize_y=True),
        GaussianProcessRegressor(ExpSineSquared() * Matern(nu=2.5) + DotProduct(), alpha=1.0, optimizer=None),
        PLSRegression(2),
        PLSCanonical(1),
        CCA(1),
        DummyRegressor(strategy="median"),
        KernelRidge(kernel="rbf"),
        KernelRidge(kernel="laplacian", gamma=0.1),
        KernelRidge(kernel="cosine"),
    ],
    ids=_name,
)
def test_a_regressor_answers_one_and_several_targets(model: Any, targets: int) -> None:
    x, y = values(targets)
    assert require_same_answers(model.fit(x, y), x) == {"variable"}


@pytest.mark.parametrize(
    "model",
    [
        PoissonRegressor(),
        GammaRegressor(),
        TweedieRegressor(power=1.5),
        TweedieRegressor(power=0),
        SVR(kernel="poly"),
        NuSVR(),
    ],
    ids=_name,
)
def test_regressors_with_a_link_or_a_kernel(model: Any) -> None:
    x, y = values(positive=True)
    require_same_answers(model.fit(x, y), x)


def test_linear_models_of_several_tasks() -> None:
    x, y = values(3)
    require_same_answers(MultiTaskLasso().fit(x, y), x)


def test_chi_squared_kernels_of_counts() -> None:
    x = np.abs(values()[0])
    for kernel in ("chi2", "additive_chi2"):
        require_same_answers(KernelRidge(kernel=kernel, gamma=0.5).fit(x, values()[1]), x)


@pytest.mark.parametrize("out_of_bounds", ["clip", "nan"])
def test_isotonic_steps_on_and_around_every_knot(out_of_bounds: str) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=200)
    model = IsotonicRegression(out_of_bounds=out_of_bounds).fit(x, x + random.normal(size=200))
    knots = model.X_thresholds_
    rows = np.concatenate([knots, np.nextafter(knots, 9), np.nextafter(knots, -9), [-50.0, 50.0, 0.1]])
    require_same_answers(model, rows[:, None])


@pytest.mark.parametrize("kernel", ["rbf", "poly", "linear"])
def test_one_class_machines(kernel: str) -> None:
    x, _ = classes(2)
    assert require_same_answers(OneClassSVM(kernel=kernel).fit(x), x) == {*SCORES, "score_samples"}


@pytest.mark.parametrize(
    "model",
    [
        EllipticEnvelope(random_state=0),
        LocalOutlierFactor(5, novelty=True),
        LocalOutlierFactor(5, novelty=True, metric="manhattan"),
        SGDOneClassSVM(nu=0.3, random_state=0),
    ],
    ids=_name,
)
def test_outlier_detectors_say_inside_or_outside_and_how_far(model: Any) -> None:
    x, _ = classes(2)
    rows = np.concatenate([x, 3 * x])
    assert require_same_answers(model.fit(x), rows) == {*SCORES, "score_samples"}


@pytest.mark.parametrize("shape", ["full", "tied", "diag", "spherical"])
def test_mixtures_name_the_likeliest_component(shape: str) -> None:
    x, _ = classes(3)
    for model in (
        GaussianMixture(3, covariance_type=shape, random_state=0),
        BayesianGaussianMixture(n_components=3, covariance_type=shape, random_state=0),
    ):
        assert require_same_answers(model.fit(x), x) == {*PROBA, "score_samples"}


def test_projections_are_answered_beside_predictions() -> None:
    x, y = classes(3)
    model = LinearDiscriminantAnalysis().fit(x, y)
    results = answers(matrix_to_onnx(model, 6), {"X": x})
    np.testing.assert_allclose(results["transform"], model.transform(x), rtol=1e-9, atol=1e-12)
    both = PLSSVD(2).fit(x, values(2)[1][: len(x)] if len(x) <= 150 else np.column_stack([x[:, 0], x[:, 1] ** 2]))
    results = answers(matrix_to_onnx(both, 6), {"X": x})
    np.testing.assert_allclose(results["variable"], both.transform(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model", [LogisticRegression(), SVC(), KNeighborsClassifier(), MLPRegressor(max_iter=5)])
@pytest.mark.filterwarnings("ignore")
def test_float32_rows_are_answered_in_float32(model: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    x, y = classes(3, text=False)
    x = x.astype(np.float32)
    session = to_onnx(model.fit(x, y), [("X", FloatTensorType([None, 6]))])
    results = session.run({"X": x})
    assert {result.dtype.name for result in results} <= {"int64", "float32"}
    assert (results[0].reshape(-1).round(2) == model.predict(x).round(2)).mean() > 0.99


def test_what_has_no_onnx_form_is_refused_with_a_hint() -> None:
    x, y = classes(2)
    for model, word in (
        (SVC(kernel=lambda a, b: a @ b.T), "kernel"),
        (KNeighborsClassifier(weights=lambda distance: distance), "weighted"),
        (DummyClassifier(strategy="uniform"), "at random"),
        (KNeighborsClassifier(metric=lambda a, b: float(abs(a - b).sum())), "metric"),
        (GaussianProcessRegressor(Matern(nu=0.7), optimizer=None), "nu=0.7"),
    ):
        target = (y == "a").astype(float) if isinstance(model, GaussianProcessRegressor) else y
        with pytest.raises(ConversionError, match=word) as refused:
            matrix_to_onnx(model.fit(x, target), 6)
        assert refused.value.hint


@pytest.mark.parametrize(
    "model",
    [
        LinearDiscriminantAnalysis(),
        LinearSVC(),
        RidgeClassifier(),
        SVC(),
        NearestCentroid(),
        DummyClassifier(),
        GaussianProcessClassifier(optimizer=None),
        LogisticRegression(),
        QuadraticDiscriminantAnalysis(),
    ],
    ids=_name,
)
def test_skl2onnx_alone_does_not_answer_them(model: Any) -> None:
    """When this fails, a recipe of ours may have become superfluous."""
    x, y = classes(2)
    model.fit(x, y)
    with pytest.raises(Exception):  # noqa: B017  it fails in every way: to convert, to load, by another answer
        require_equal(model, matrix_to_onnx(model, 6, ours=False), x, {"X": x})


def test_the_error_function_has_all_digits() -> None:
    import onnxruntime
    from onnx import TensorProto, helper

    from converters.sklearn.recipes import gaussian_process

    class Nodes:
        """As much of ``Ops`` as arithmetic needs."""

        def __init__(self) -> None:
            self.nodes: list[Any] = []

        def constant(self, value: Any) -> str:
            name = f"n{len(self.nodes)}"
            tensor = helper.make_tensor("value", TensorProto.DOUBLE, [], [float(value)])
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
            return name

        def add(self, op_type: str, *inputs: Any) -> str:
            names = [item if isinstance(item, str) else self.constant(item) for item in inputs]
            name = f"n{len(self.nodes)}"
            self.nodes.append(helper.make_node(op_type, names, [name]))
            return name

    ops = Nodes()
    result = gaussian_process.erf(ops, "x")  # type: ignore[arg-type]
    ports = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None]) for name in ("x", result)]
    model = helper.make_model(
        helper.make_graph(ops.nodes, "erf", ports[:1], ports[1:]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    x = np.concatenate([np.linspace(-7, 7, 2001), [0.46875, 4.0, 1e-300, 0.0, 100.0, -100.0]])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], special.erf(x), rtol=0, atol=1e-15)
