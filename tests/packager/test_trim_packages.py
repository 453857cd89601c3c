"""The rules for packages of entry scripts: each package is imported and predicts without what they leave out."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import pytest

from packager.layers.rules import path_pattern
from packager.wheels.trim import RULES
from packager.wheels.trim_packages import PACKAGES, PackageTrim
from tests.support.running import finish, run

ROOT = Path(__file__).parents[2]
# Every public module is imported, then it does what a scoring script does with it.
USES = {
    "scipy": """
import scipy, numpy, importlib
for name in scipy.__all__: getattr(scipy, name)
import scipy.special, scipy.sparse.linalg, scipy.cluster.hierarchy, scipy.io.wavfile, scipy.fft, scipy.stats.qmc
from scipy import integrate, interpolate, ndimage, optimize, signal, stats, LowLevelCallable
assert abs(optimize.minimize(lambda x: (x - 3) ** 2, [0.0]).x[0] - 3) < 1e-4
assert abs(integrate.quad(numpy.sin, 0, numpy.pi)[0] - 2) < 1e-9
assert abs(stats.norm(0, 1).cdf(0) - 0.5) < 1e-12 and ndimage.gaussian_filter(numpy.eye(5), 1).shape == (5, 5)
assert interpolate.interp1d([0, 1], [0, 2])(0.5) == 1 and signal.lfilter([1], [1], [1.0, 2]).tolist() == [1, 2]
assert scipy.sparse.linalg.spsolve(scipy.sparse.csc_matrix(numpy.eye(2) * 2), [2, 4]).tolist() == [1, 2]
""",
    "pandas": """
import io, pandas as pd, pandas.testing, pandas.api.types, pandas.plotting
frame = pd.DataFrame({"a": [1, 2, 3], "b": list("xyx"), "t": pd.date_range("2024", periods=3, tz="Europe/Berlin")})
assert frame.groupby("b").a.sum().to_dict() == {"x": 4, "y": 2}
assert pd.read_csv(io.StringIO(frame.to_csv())).shape == (3, 4) and pd.read_json(io.StringIO(frame.to_json())).shape[0]
assert pd.get_dummies(frame.b).shape == (3, 2) and frame.merge(frame, on="a").shape == (3, 5)
assert frame.set_index("t").resample("D").a.mean().tolist() == [1, 2, 3] and "<table" in frame.to_html()
pandas.testing.assert_frame_equal(frame, frame.copy())
""",
    "scikit-learn": """
import warnings, sklearn, importlib, io, joblib
warnings.simplefilter("ignore")
for name in sklearn.__all__:
    if name not in ("setup_module", "clone", "get_config", "set_config", "config_context", "show_versions"):
        importlib.import_module(f"sklearn.{name}") if importlib.util.find_spec(f"sklearn.{name}") else None
from sklearn.utils import all_estimators
from sklearn.datasets import load_iris, load_digits, load_sample_images, make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.feature_extraction.text import TfidfVectorizer
x, y = load_iris(return_X_y=True)
load_digits()
for model in (make_pipeline(StandardScaler(), LogisticRegression()), RandomForestClassifier(5),
              HistGradientBoostingClassifier(max_iter=3)):
    file = io.BytesIO()
    joblib.dump(model.fit(x, y), file)
    file.seek(0)
    assert joblib.load(file).predict(x[:2]).tolist() == [0, 0]
assert TfidfVectorizer().fit_transform(["a bc", "bc de"]).shape == (2, 2) and "estimator" in model._repr_html_()
""",
    "joblib": """
import joblib
assert joblib.Parallel(n_jobs=2, backend="threading")(joblib.delayed(abs)(n) for n in (-1, -2)) == [1, 2]
""",
    "statsmodels": """
import numpy, statsmodels.api as sm, statsmodels.formula.api as smf, statsmodels.tsa.api as tsa, pandas
x = numpy.arange(20.0)
assert abs(sm.OLS(2 * x + 1, sm.add_constant(x)).fit().predict([[1, 3]])[0] - 7) < 1e-9
assert tsa.ARIMA(numpy.sin(x), order=(1, 0, 0)).fit().forecast(1).shape == (1,)
frame = pandas.DataFrame({"x": x, "y": 2 * x + 1})
assert abs(smf.ols("y ~ x", frame).fit().predict({"x": [3.0]})[0] - 7) < 1e-9
sm.GLM(x > 9, sm.add_constant(x + numpy.sin(9 * x) * 9), family=sm.families.Binomial()).fit().summary()
""",
    "patsy": """
import patsy
assert patsy.dmatrix("x + C(g)", {"x": [1, 2], "g": ["a", "b"]}).shape == (2, 3)
""",
    "imbalanced-learn": """
import imblearn, numpy
from imblearn.over_sampling import SMOTE
from imblearn.under_sampling import RandomUnderSampler
from imblearn.pipeline import make_pipeline
from sklearn.linear_model import LogisticRegression
x = numpy.arange(40.0).reshape(20, 2)
y = [0] * 14 + [1] * 6
assert make_pipeline(SMOTE(k_neighbors=2), LogisticRegression()).fit(x, y).predict(x[:1]).shape == (1,)
RandomUnderSampler().fit_resample(x, y)
""",
    "matplotlib": """
import io, matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt, mpl_toolkits.mplot3d
figure, axes = plt.subplots()
axes.plot([1, 2, 3]); axes.set_title("title"); axes.imshow([[0, 1], [1, 0]])
plt.figure().add_subplot(projection="3d").scatter([1], [2], [3])
for kind in ("png", "svg", "pdf"):
    file = io.BytesIO(); figure.savefig(file, format=kind); assert file.tell() > 500
""",
    "pyarrow": """
import io, pyarrow as pa, pyarrow.parquet as pq, pyarrow.compute as pc, pyarrow.csv, pyarrow.json, pyarrow.feather
import pyarrow.dataset, pyarrow.fs, pyarrow.ipc, pyarrow.orc, pyarrow.acero, pandas
table = pa.table({"a": [1, 2, 3], "b": ["x", "y", None]})
file = io.BytesIO(); pq.write_table(table, file); file.seek(0)
assert pq.read_table(file).equals(table) and pc.sum(table["a"]).as_py() == 6
assert pa.Table.from_pandas(table.to_pandas()).num_rows == 3 and pyarrow.dataset.dataset(table).count_rows() == 3
""",
    "onnx": """
import onnx, onnx.checker, onnx.helper, onnx.shape_inference, onnx.numpy_helper, onnx.compose, onnx.parser
import onnx.version_converter, onnx.reference, numpy
text = '<ir_version: 9, opset_import: ["" : 18]> g (float[N] x) => (float[N] y) { y = Mul(x, x) }'
graph = onnx.parser.parse_model(text)
onnx.checker.check_model(graph, full_check=True)
assert onnx.reference.ReferenceEvaluator(graph).run(None, {"x": numpy.float32([3])})[0].tolist() == [9]
""",
}


PROGRAM = "tests.packager.support.trimmed_package"


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def test_every_rule_for_a_package_is_proven_and_can_be_switched_off() -> None:
    assert {package.distribution for package in PACKAGES} == set(USES)
    assert {package.name for package in PACKAGES} <= {rule.name for rule in RULES}


def test_the_packages_predict_without_what_the_rules_leave_out() -> None:
    """All in one process: what they import of each other takes the longest."""
    here = {name: code for name, code in USES.items() if _is_installed(name)}
    said = run(sys.executable, "-B", "-m", PROGRAM, json.dumps(here), cwd=ROOT)
    assert said.splitlines() == [f"{name} predicts" for name in here]


@pytest.mark.parametrize(
    "code",
    [
        "import pandas.tests",
        "import joblib.test",
        "import pandas, pathlib; pathlib.Path(pandas.__file__, '../conftest.py').resolve().open()",
    ],
)
def test_what_the_rules_leave_out_is_refused_in_that_test(code: str) -> None:
    done = finish(sys.executable, "-B", "-m", PROGRAM, json.dumps({"it": code}), cwd=ROOT)
    assert done.code == 1
    assert "the rules leave" in done.stderr


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_pattern_of_a_rule_matches_a_file(package: PackageTrim) -> None:
    if not _is_installed(package.distribution):
        pytest.skip(f"{package.distribution} is not installed")
    files = [str(path) for path in importlib.metadata.files(package.distribution) or ()]
    assert not [one for one in package.paths if not any(map(path_pattern([one]).fullmatch, files))]
