"""What scripts that were written for Azure find, each tried in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from edge_server.compat.azure import environment
from edge_server.config.service_file import single_script
from edge_server.config.values import Collection, ModelPlace, ServiceConfig
from tests.support.running import Done, finish

# The specification's own samples, as they stand there.
ARRAYS = """
#Example: scikit-learn and Swagger
import json
import numpy as np
import os
from sklearn.externals import joblib
from sklearn.linear_model import Ridge

from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType


def init():
    global model
    # AZUREML_MODEL_DIR is an environment variable created during deployment. Join this path with the filename of the model file.
    # It holds the path to the directory that contains the deployed model (./azureml-models/$MODEL_NAME/$VERSION).
    # If there are multiple models, this value is the path to the directory containing all deployed models (./azureml-models).
    # Alternatively: model_path = Model.get_model_path('sklearn_mnist')
    model_path = os.path.join(os.getenv('AZUREML_MODEL_DIR'), 'sklearn_mnist_model.pkl')
    # Deserialize the model file back into a sklearn model
    model = joblib.load(model_path)


input_sample = np.array([[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]])
output_sample = np.array([3726.995])


@input_schema('data', NumpyParameterType(input_sample))
@output_schema(NumpyParameterType(output_sample))
def run(data):
    try:
        result = model.predict(data)
        # You can return any data type, as long as it is JSON serializable.
        return result.tolist()
    except Exception as e:
        error = str(e)
        return error
"""  # noqa: E501
FRAMES = """
import json
import pickle
import numpy as np
import pandas as pd
import azureml.train.automl
from sklearn.externals import joblib
from azureml.core.model import Model

from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType


def init():
    global model
    # Replace filename if needed.
    model_path = os.path.join(os.getenv('AZUREML_MODEL_DIR'), 'model_file.pkl')
    # Deserialize the model file back into a sklearn model.
    model = joblib.load(model_path)


input_sample = pd.DataFrame(data=[{
    # This is a decimal type sample. Use the data type that reflects this column in your data.
    "input_name_1": 5.1,
    # This is a string type sample. Use the data type that reflects this column in your data.
    "input_name_2": "value2",
    # This is an integer type sample. Use the data type that reflects this column in your data.
    "input_name_3": 3
}])

# This is an integer type sample. Use the data type that reflects the expected result.
output_sample = np.array([0])


@input_schema('data', PandasParameterType(input_sample))
@output_schema(NumpyParameterType(output_sample))
def run(data):
    try:
        result = model.predict(data)
        # You can return any data type, as long as it is JSON serializable.
        return result.tolist()
    except Exception as e:
        error = str(e)
        return error
"""

# A worker in short: install, import the script, init, run.
WORKER = """
import importlib.util, json, sys
from edge_server.compat.azure import install
install()
light = sorted({"pandas", "numpy", "joblib", "sklearn", "inference_schema", "azureml"} & set(sys.modules))
assert not light, light
spec = importlib.util.spec_from_file_location("score", sys.argv[1])
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
script.init()
answers = []
for text in sys.argv[2:]:
    try:
        answers.append(script.run(**json.loads(text)))
    except ValueError as error:
        answers.append({type(error).__name__: str(error)})
import inference_schema.schema_util as util
print(json.dumps([answers, util.get_input_schema(script.run), util.get_output_schema(script.run)]))
"""


def config(*places: ModelPlace, root: Path = Path("/var/azureml-app")) -> ServiceConfig:
    return ServiceConfig(places, "127.0.0.1", root=root)


def python(code: str, *arguments: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> Done:
    """Run code in a process with the environment of a worker."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AZUREML_", "AML_", "EDGEPACK_"))}
    return finish(sys.executable, "-c", code, *arguments, env={**kept, **(env or {})}, cwd=cwd)


def answered(done: Done) -> Any:
    assert done.code == 0, done.stderr
    return done.json


def asked(code: str, **more: Any) -> str:
    """What a line of code prints after the shims have been installed."""
    done = python(f"from edge_server.compat.azure import install\ninstall()\n{code}", **more)
    assert done.code == 0, done.stderr
    return done.stdout.strip()


def test_the_specifications_sample_with_arrays_runs_unchanged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = Ridge().fit(rng.normal(size=(50, 10)), rng.normal(size=50))
    folder = tmp_path / "azureml-models" / "sklearn_mnist" / "1"
    folder.mkdir(parents=True)
    joblib.dump(model, folder / "sklearn_mnist_model.pkl")
    (tmp_path / "score.py").write_text(ARRAYS)
    rows = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]]
    posted = [{"data": rows}, {"data": [[1, 2]]}, {"data": [[*rows[0][:9], "q"]]}]
    env = environment(config(ModelPlace("sklearn_mnist", 1, folder), root=tmp_path))
    done = python(WORKER, tmp_path / "score.py", *map(json.dumps, posted), env=env)
    answers, given, returned = answered(done)
    np.testing.assert_allclose(answers[0], model.predict(rows))
    assert answers[1] == {"InvalidInput": "data: row 0 has 2 columns, where the sample has 10"}
    assert answers[2] == {"InvalidInput": "data: row 0, column 9 does not take 'q' (int64)"}
    assert given["example"] == {"data": [rows[1]]}
    items = given["properties"]["data"]["items"]
    assert items == {"type": "array", "items": {"type": "integer", "format": "int64"}}
    assert returned["example"] == [3726.995]


def first_times_third(table: pd.DataFrame) -> np.ndarray:
    return np.asarray([[one * three] for one, three in zip(table.input_name_1, table.input_name_3, strict=True)])


def test_the_specifications_sample_with_frames_runs_unchanged(tmp_path: Path) -> None:
    # The document leaves `import os` out of this sample: its reader has to put it in.
    (tmp_path / "score.py").write_text("import os\n" + FRAMES)
    columns = ["input_name_1", "input_name_2", "input_name_3"]
    table = pd.DataFrame([[1.0, "a", 2], [3.0, "b", 4], [2.0, "a", 5]], columns=columns)
    model = make_pipeline(FunctionTransformer(first_times_third), Ridge()).fit(table, [1, 0, 1])
    (tmp_path / "elsewhere").mkdir()
    joblib.dump(model, tmp_path / "elsewhere" / "model_file.pkl")
    rows = [dict(zip(columns, row, strict=True)) for row in table.to_numpy().tolist()]
    posted = [{"data": rows}, {"data": [dict(reversed(rows[0].items()))]}, {"data": [{**rows[0], "input_name_3": "x"}]}]
    env = environment(config(ModelPlace("m", 4, tmp_path / "elsewhere", "model_file.pkl")))
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = python(WORKER, tmp_path / "score.py", *map(json.dumps, posted), env=env)
    answers, given, _ = answered(done)
    np.testing.assert_allclose(answers[0], model.predict(table))
    np.testing.assert_allclose(answers[1], model.predict(table)[:1])
    assert answers[2] == {"InvalidInput": "data: row 0, column 'input_name_3' does not take 'x' (int64)"}
    assert list(given["properties"]["data"]["items"]["properties"]) == columns


def test_one_model_is_found_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "azureml-models" / "m" / "3"
    folder.mkdir(parents=True)
    (folder / "model.pkl").write_text("")
    env = environment(config(ModelPlace("m", 3, folder), root=tmp_path))
    assert env["AZUREML_MODEL_DIR"] == str(folder)
    assert env["AML_APP_ROOT"] == str(tmp_path)
    find = (
        "from azureml.core.model import Model; print(Model.get_model_path('m'), Model.get_model_path('m', version=3))"
    )
    assert asked(find, env=env) == f"{folder / 'model.pkl'} {folder / 'model.pkl'}"


def test_several_models_are_found_below_one_folder(tmp_path: Path) -> None:
    folders = [tmp_path / "azureml-models" / name / version for name, version in (("a", "1"), ("a", "12"), ("b", "2"))]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "model").mkdir()
    places = [ModelPlace(folder.parent.name, int(folder.name), folder) for folder in folders]
    env = environment(config(*places, root=tmp_path))
    assert env["AZUREML_MODEL_DIR"] == str(tmp_path / "azureml-models")
    find = "from azureml.core import Model; print([Model.get_model_path(*a) for a in (('a',), ('a', 1), ('b',))])"
    assert asked(find, env=env) == str([f"{folders[n]}/model" for n in (1, 0, 2)])


def test_models_that_are_elsewhere_are_linked_below_one_folder_while_the_server_runs(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from edge_server.config.values import ModelPlace, ServiceConfig
from edge_server.compat.azure import environment
base = Path(sys.argv[1])
places = [ModelPlace("a", 1, base / "x", "a.onnx"), ModelPlace("a", 2, base / "y", "a.onnx")]
places = (*places, ModelPlace("b", 7, base / "x"))
env = environment(ServiceConfig(places, "127.0.0.1"))
print(env["AZUREML_MODEL_DIR"], (Path(env["AZUREML_MODEL_DIR"]) / "a" / "2" / "a.onnx").read_text())
"""
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.onnx").write_text(name)
    done = python(code, tmp_path)
    assert done.code == 0, done.stderr
    folder, text = done.stdout.split()
    assert text == "y"
    assert not Path(folder).exists()
    assert (tmp_path / "y" / "a.onnx").exists()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("'zz'", "ModelNotFoundException: Model zz not found among the service's models (m:1, many:2) or in "),
        ("'m', 9", "WebserviceException: Model m of version 9 not found"),
        ("'m', '1'", "WebserviceException: version should be an int, not '1'"),
        ("'many'", "WebserviceException: Dir {}/many can contain only 1 file or folder. Found ['a', 'b']"),
        ("None", "WebserviceException: model_name is None"),
    ],
)
def test_a_model_that_cannot_be_told_is_an_error_of_azures(tmp_path: Path, call: str, error: str) -> None:
    for path in ("m/model.pkl", "many/a", "many/b"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("")
    env = environment(config(ModelPlace("m", 1, tmp_path / "m"), ModelPlace("many", 2, tmp_path / "many")))
    code = f"""
from azureml.core.model import Model
from azureml.exceptions import ModelNotFoundException, WebserviceException
import azureml.core.model
assert azureml.core.model.ModelNotFoundException is ModelNotFoundException
try:
    Model.get_model_path({call})
except (ModelNotFoundException, WebserviceException) as error:
    print(f"{{type(error).__name__}}: {{error}}", error.message == str(error))
"""
    said = asked(code, env=env)
    assert said.startswith(error.format(tmp_path))
    assert said.endswith("True")


def test_a_model_of_the_command_line_is_the_file_or_the_folder_that_was_named(tmp_path: Path) -> None:
    for path in ("one/a", "two/a", "two/b", "azureml-models/diabetes/12/model.pkl"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    script = tmp_path / "score.py"
    for given, name, version, found in (
        ("one", "one", 0, "one"),
        ("two", "two", 0, "two"),
        ("two/a", "a", 0, "two/a"),
        ("azureml-models/diabetes/12", "diabetes", 12, "azureml-models/diabetes/12/model.pkl"),
        ("azureml-models/diabetes/12/", "diabetes", 12, "azureml-models/diabetes/12/model.pkl"),
        ("one/../azureml-models/diabetes/12/model.pkl", "diabetes", 12, "azureml-models/diabetes/12/model.pkl"),
        ("azureml-models/diabetes", "diabetes", 0, "azureml-models/diabetes"),
    ):
        told = single_script(script, tmp_path / given)
        assert [(place.name, place.version) for place in told.models] == [(name, version)]
        env = environment(told)
        find = f"from azureml.core.model import Model; print(Model.get_model_path({name!r}))"
        assert asked(find, env=env) == str(tmp_path / found)
        if version:
            assert env["AZUREML_MODEL_DIR"].split("/")[-2:] == [name, str(version)]
        assert env["AZUREML_ENTRY_SCRIPT"] == str(script)


def test_models_beside_the_script_are_found_last(tmp_path: Path) -> None:
    (tmp_path / "azureml-models" / "m" / "2").mkdir(parents=True)
    (tmp_path / "azureml-models" / "m" / "10").mkdir()
    (tmp_path / "azureml-models" / "m" / "10" / "ten.pkl").write_text("")
    (tmp_path / "local.pkl").write_text("")
    find = "from azureml.core.model import Model; print(Model.get_model_path('m'), Model.get_model_path('local.pkl'))"
    assert asked(find, cwd=tmp_path) == "azureml-models/m/10/ten.pkl local.pkl"


def test_raw_requests_are_ours() -> None:
    code = """
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse
from edge_server.scripts import raw_requests, raw_responses, rawhttp as ours
print(AMLRequest is raw_requests.AMLRequest, rawhttp is ours.rawhttp, AMLResponse is raw_responses.AMLResponse)
from azureml_inference_server_http.api import aml_request as request, aml_response as response
print(request.AMLRequest is AMLRequest, request.rawhttp is rawhttp, response.AMLResponse is AMLResponse)
"""
    assert asked(code).split() == ["True"] * 6


def test_a_run_outside_of_an_experiment_takes_what_it_is_told() -> None:
    code = """
from azureml.core.run import Run
import azureml.core, logging, sys
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
run = Run.get_context()
print(azureml.core.Run is Run, run.id)
run.log("rows", 3)
run.log_list("sizes", value=[1, 2])
try:
    Run.get_context(allow_offline=False)
except RuntimeError as error:
    print(error)
"""
    assert asked(code).splitlines() == [
        "True OfflineRun", "log of rows: [3]", "log_list of sizes: [[1, 2]]",
        "there is no run of an experiment here: the script is served",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "from azureml.core import Workspace",
            "edgepack's azureml.core has no Workspace, it offers Model, Run, model, run",
        ),
        (
            "from azureml.core.model import InferenceConfig",
            "azureml.core.model has no InferenceConfig, it offers Model",
        ),
        ("import azureml.core.webservice", "edgepack's azureml.core has no webservice"),
        ("import azureml.core; azureml.core.Dataset", "edgepack's azureml.core has no Dataset"),
        ("from azureml.core.run import Run; Run.get_context().experiment.name", "'NoneType' object has no attribute"),
        ("from azureml.core import Run; Run.get_context().upload_file", "edgepack's Run has no upload_file"),
        ("import azureml_inference_server_http.server", "has no server, it offers api"),
        ("from azureml.train.automl import AutoMLConfig", "add azureml-train-automl-runtime to the dependencies"),
        ("import azureml.train.automl.model", "there is no model; add azureml-train-automl-runtime"),
        ("import azureml.nothing", "edgepack's azureml has no nothing, it offers ai, contrib, core"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(line: str, message: str) -> None:
    code = f"""
try:
    {line}
except (ImportError, AttributeError) as error:
    print(error)
"""
    assert message in asked(code)


def test_optional_imports_and_questions_stay_harmless() -> None:
    code = """
import inspect, azureml, azureml.core.model
try:
    from azureml.core import Dataset
except ImportError:
    Dataset = None
core = azureml.core
print(Dataset, hasattr(core, "Dataset"), hasattr(azureml, "__file__"), dir(core), bool(inspect.getmodule(core.Model)))
"""
    assert asked(code) == "None False False ['Model', 'Run'] True"


PACKAGE = {
    "azureml/__init__.py": "__path__ = __import__('pkgutil').extend_path(__path__, __name__)",
    "azureml/train/__init__.py": "",
    "azureml/train/automl.py": "AutoMLConfig = 'real'",
    "azureml/core/__init__.py": "from azureml.core.model import Model\nWorkspace = 'real'",
    "azureml/core/model.py": (
        "class Model:\n    name = 'real'\n"
        "    @staticmethod\n    def get_model_path(model_name, version=None, _workspace=None):\n"
        "        return f'remote {model_name} {_workspace}'"
    ),
    "azureml/exceptions.py": "class ModelNotFoundException(Exception): ...\nclass WebserviceException(Exception): ...",
    "azureml/monitoring.py": "raise RuntimeError('needs the cloud')",
    "azureml/contrib/__init__.py": "",
    "azureml/contrib/other.py": "x = 'real'",
    "azureml/contrib/services/__init__.py": "raise RuntimeError('needs Flask')",
    "sklearn/__init__.py": "",
    "sklearn/externals/__init__.py": "",
    "sklearn/externals/joblib.py": "load = 'real'",
    "inference_schema/__init__.py": "x = 'real'",
    "inference_schema/_inner.py": "x = 'real'",
}


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment in which Azure's packages are installed, or what looks like them to an import."""
    for name, text in PACKAGE.items():
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text(text)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.pkl").write_text("")
    return {**environment(config(ModelPlace("m", 1, tmp_path / "m"))), "PYTHONPATH": str(tmp_path / "site")}


def test_installed_packages_keep_their_names_but_for_those_that_need_the_cloud(
    installed: dict[str, str], tmp_path: Path
) -> None:
    code = """
from azureml.core import Workspace, Model
from azureml.train.automl import AutoMLConfig
from azureml.contrib.other import x
from sklearn.externals import joblib
from azureml.contrib.services.aml_request import rawhttp
from azureml.monitoring import ModelDataCollector
import azureml.exceptions
print(Workspace, Model.name, AutoMLConfig, x, joblib.load, rawhttp.__module__, ModelDataCollector.__module__)
print(Model.get_model_path("m"), Model.get_model_path("m", _workspace="w"))
try:
    Model.get_model_path("z")
except azureml.exceptions.ModelNotFoundException:
    print("caught")
"""
    lines = asked(code, env=installed).splitlines()
    assert lines == [
        "real real real real real edge_server.scripts.rawhttp edge_server.collection.collector",
        f"{tmp_path / 'm' / 'model.pkl'} remote m w",
        "caught",
    ]


def test_inference_schema_is_ours_unless_the_installed_one_is_chosen(installed: dict[str, str]) -> None:
    ours = "import inference_schema.schema_util as u; print(u.__name__)"
    assert asked(ours, env=installed) == "edge_server.compat.inference_schema.schema_util"
    inner = "from inference_schema._inner import x; print(x)"
    assert asked(inner, env={**installed, "EDGEPACK_INFERENCE_SCHEMA": "installed"}) == "real"


def test_joblib_keeps_its_own_module() -> None:
    code = """
import warnings
warnings.simplefilter("error")
from sklearn.externals import joblib
import joblib as plain
import sklearn.externals.joblib as third
print(joblib is plain is third, joblib.__spec__.name)
"""
    assert asked(code) == "True joblib"


def test_collection_reaches_the_worker_by_its_environment(tmp_path: Path) -> None:
    given = environment(
        ServiceConfig((ModelPlace("m", 1, tmp_path),), "127.0.0.1", collection=Collection(tmp_path / "d", 5000))
    )
    settings = json.loads(given["EDGEPACK_WORKER_COLLECTION"])
    assert settings == {
        "folder": str(tmp_path / "d"),
        "quota_bytes": 5000,
        "service": "ML service",
        "versions": {"m": 1},
    }
    assert "EDGEPACK_WORKER_COLLECTION" not in environment(config())


def test_collectors_by_the_new_names_write_to_the_same_place(tmp_path: Path) -> None:
    code = """
import pandas as pd
from azureml.ai.monitoring import Collector
from azureml.ai.monitoring.context import BasicCorrelationContext, CorrelationContext
from azureml.monitoring import ModelDataCollector
frame = pd.DataFrame({"age": [1, 2]})
context = Collector(name="model_inputs").collect(frame)
print(isinstance(context, CorrelationContext), len(context.get_id()))
Collector(name="model_outputs").collect(pd.DataFrame({"label": [0, 1]}), context)
Collector(name="drift").collect(frame, BasicCorrelationContext(id="mine"))
errors = []
Collector(name="model_inputs", on_error=errors.append).collect([1, 2])
print(errors)
Collector(name="model_inputs").collect(5)
ModelDataCollector("m", identifier="labels", feature_names=["a"]).collect([[1]])
"""
    collection = Collection(tmp_path / "collected")
    env = environment(ServiceConfig((ModelPlace("m", 3, tmp_path, "a.pkl"),), "127.0.0.1", collection=collection))
    lines = asked(code, env=env).splitlines()
    assert lines == ["True 36", "[TypeError('collect() takes a data frame, not list')]"]
    written = {path.name: path.read_text() for path in (tmp_path / "collected").rglob("*.csv")}
    assert {name: text.splitlines()[0].split(",")[0] for name, text in written.items()} == {
        "inputs.csv": "age", "predictions.csv": "label", "drift.csv": "age", "labels.csv": "a",
    }  # fmt: skip
    assert all("/m/3/" in str(path) for path in (tmp_path / "collected").rglob("*.csv"))


def test_a_collector_without_a_folder_says_so_once() -> None:
    code = """
from edge_server.compat.azure import install
install()
from azureml.monitoring import ModelDataCollector
for _ in range(3):
    print(ModelDataCollector("m", designation="inputs").collect([1]))
"""
    found = python(code)
    assert found.stdout == "{}\n" * 3
    assert found.stderr.count("nothing is collected: collection.folder is not configured") == 1
    assert "collected" not in python(code, env={"AML_MODEL_DC_STORAGE_ENABLED": "false"}).stderr


def test_spark_frames_need_the_original() -> None:
    code = """
try:
    from inference_schema.parameter_types.spark_parameter_type import SparkParameterType
except ModuleNotFoundError as error:
    print(error)
"""
    assert asked(code).strip() == (
        "edgepack's inference_schema has no type for Spark; install inference-schema and pyspark, and set "
        "EDGEPACK_INFERENCE_SCHEMA=installed"
    )
