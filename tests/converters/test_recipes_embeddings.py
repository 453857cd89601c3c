"""Decompositions, kernel maps, manifolds and clusterers answer in float64 what scikit-learn does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import cluster, decomposition, kernel_approximation, manifold, neighbors, random_projection
from sklearn.neural_network import BernoulliRBM

from edgepack.errors import ConversionError
from tests.converters.support.transformer_answers import require_same_matrix

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((80, 12))
X[:40] += 3
ROWS = np.vstack([RANDOM.standard_normal((20, 12)) * 2, np.zeros((1, 12))])
POSITIVE = np.abs(X)
COUNTS = RANDOM.poisson(1.0, (80, 12)).astype(float)

EMBEDDINGS = [
    decomposition.FastICA(4, random_state=0),
    decomposition.FastICA(whiten=False, random_state=0, max_iter=20),
    decomposition.FactorAnalysis(3),
    decomposition.SparsePCA(4, max_iter=20, random_state=0),
    decomposition.MiniBatchSparsePCA(4, max_iter=10, random_state=0),
    decomposition.DictionaryLearning(6, max_iter=10, random_state=0),
    decomposition.MiniBatchDictionaryLearning(
        6, max_iter=5, random_state=0, transform_n_nonzero_coefs=3, split_sign=True
    ),
    decomposition.MiniBatchDictionaryLearning(
        6, max_iter=5, random_state=0, transform_algorithm="threshold", transform_alpha=0.2
    ),
    decomposition.SparseCoder(np.linalg.qr(X[:12])[0], transform_n_nonzero_coefs=4),
    *(decomposition.KernelPCA(3, kernel=kernel) for kernel in ("linear", "rbf", "poly", "sigmoid", "cosine")),
    random_projection.GaussianRandomProjection(4, random_state=0),
    random_projection.SparseRandomProjection(6, random_state=0),
    *(cluster.FeatureAgglomeration(4, pooling_func=pool) for pool in (np.mean, np.median, np.max, np.min)),
    *(
        kernel_approximation.Nystroem(kernel=kernel, n_components=9, random_state=0)
        for kernel in ("rbf", "poly", "sigmoid", "laplacian", "cosine")
    ),
    kernel_approximation.RBFSampler(n_components=9, random_state=0),
    kernel_approximation.PolynomialCountSketch(n_components=20, random_state=0),
    kernel_approximation.PolynomialCountSketch(n_components=33, degree=3, coef0=1, gamma=0.3, random_state=0),
    manifold.Isomap(n_neighbors=7, n_components=3),
    manifold.LocallyLinearEmbedding(n_neighbors=8, n_components=3, random_state=0),
    neighbors.RadiusNeighborsTransformer(radius=6),
    neighbors.RadiusNeighborsTransformer(radius=6, mode="connectivity"),
]
OF_POSITIVE = [
    kernel_approximation.SkewedChi2Sampler(n_components=7, random_state=0),
    *(kernel_approximation.AdditiveChi2Sampler(sample_steps=steps) for steps in (1, 2, 3)),
    kernel_approximation.Nystroem(kernel="chi2", n_components=7, random_state=0),
    decomposition.NMF(3, random_state=0),
    decomposition.NMF(4, alpha_W=0.01, l1_ratio=0.3, random_state=0),
    decomposition.NMF(3, solver="mu", random_state=0),
    decomposition.NMF(3, solver="mu", beta_loss="kullback-leibler", max_iter=50, random_state=0),
    decomposition.MiniBatchNMF(3, random_state=0),
    decomposition.MiniBatchNMF(3, beta_loss="kullback-leibler", random_state=0),
    BernoulliRBM(4, n_iter=2, random_state=0),
]


@pytest.mark.parametrize("model", EMBEDDINGS, ids=lambda model: type(model).__name__)
@pytest.mark.filterwarnings("ignore")
def test_rows_are_embedded_alike(model: Any) -> None:
    alone = not isinstance(model, decomposition.SparsePCA | decomposition.MiniBatchSparsePCA)  # loses its axis there
    require_same_matrix(model.fit(X), ROWS, alone=alone)


@pytest.mark.parametrize("model", OF_POSITIVE, ids=lambda model: type(model).__name__)
@pytest.mark.filterwarnings("ignore")
def test_rows_that_are_positive_are_embedded_alike(model: Any) -> None:
    scale = POSITIVE.max() if isinstance(model, BernoulliRBM) else 1.0
    rows = np.abs(ROWS[:-1])
    rows[1, 2] = 0.0
    require_same_matrix(model.fit(POSITIVE / scale), rows / scale)


def test_topics_settle_as_the_original_lets_them() -> None:
    for prior in (None, 0.01):
        model = decomposition.LatentDirichletAllocation(5, max_iter=3, doc_topic_prior=prior, random_state=0)
        require_same_matrix(model.fit(COUNTS), np.vstack([COUNTS[:20] * 2, np.zeros((1, 12))]))


@pytest.mark.parametrize(
    "model",
    [
        cluster.BisectingKMeans(5, random_state=0),
        cluster.Birch(n_clusters=3, threshold=1.5),
        cluster.Birch(n_clusters=None),
        cluster.MeanShift(),
        cluster.AffinityPropagation(random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_clusterers_predict_and_measure(model: Any) -> None:
    from tests.converters.support.predictor_answers import matrix_to_onnx

    model.fit(X)
    session = matrix_to_onnx(model, 12)
    for rows in (ROWS, X, ROWS[:1]):
        labels, distances = session.run({"X": rows})
        assert labels.tolist() == model.predict(rows).tolist()
        if hasattr(model, "transform"):
            # The original's distances come from a difference of squares, which loses half of the digits near 0.
            np.testing.assert_allclose(distances, model.transform(rows), rtol=1e-9, atol=1e-6)


def test_what_has_no_form_is_refused_by_name() -> None:
    refused = [
        (decomposition.NMF(3, shuffle=True).fit(POSITIVE), "shuffle"),
        (decomposition.DictionaryLearning(4, max_iter=2, transform_algorithm="lasso_lars").fit(X), "lasso_lars"),
        (cluster.FeatureAgglomeration(4, pooling_func=np.var).fit(X), "pools"),
        (manifold.Isomap(n_neighbors=None, radius=9.0).fit(X), "radius"),
    ]
    for model, named in refused:
        with pytest.raises(ConversionError, match=named):
            require_same_matrix(model, POSITIVE)
