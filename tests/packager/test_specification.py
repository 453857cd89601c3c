"""The Python blocks of the document that the API follows, as they stand there: each runs, or says why it cannot.

The document is not a part of this repository: ``EDGEPACK_SPECIFICATION`` names its Markdown file.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from pathlib import Path

import joblib
import pytest
from onnx import TensorProto, helper
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from packager.sdk import azureml_names
from packager.sdk.automl import AutoMLRun
from packager.sdk.model import Model
from packager.sdk.workspace import Experiment, Workspace

DOCUMENT = os.environ.get("EDGEPACK_SPECIFICATION")
_SCRIPT = "is a part of an entry script; the server's tests run those"
_REGISTERS = f"from azureml.core import Model\n\nmodel = Model.register(workspace=ws,\n{' ' * 23}model_name="
# What a block begins with -> why it is not run. Each must be in the document, so that the list stays true.
REASONS = {
    "import os\nimport urllib.request": "downloads a model from the internet",
    "# Example when the model is a file\n": _SCRIPT,
    "# Example when the model is a file, and": _SCRIPT,
    "#Example: scikit-learn and Swagger": _SCRIPT,
    "import json\nimport pickle": _SCRIPT,
    "import json\nfrom azureml.core import Datastore": "profiling and its datasets are not there yet",
    "from azureml.core.model import InferenceConfig, Model\nfrom azureml.core.dataset": "profiling is not there yet",
    f"{_REGISTERS}'flowers'": "needs TensorFlow; the tests of its converter have such models",
    "import requests\nimport json\n\n# URL": "asks a service that docker run started: see the test of packages",
    "from azureml.contrib.services.aml_request": _SCRIPT,
    "import requests\n# Load image data": "asks a service",
    "from azureml.contrib.services.aml_response": _SCRIPT,
}
# Misprints of the document, and names that Azure's own rules refuse: the text there, and what it must be.
CORRECTIONS = {
    "path-to-score.py": "path_to_score.py",
    "file_path = 'path-to-conda-specification-file'\n": "file_path = 'path-to-conda-specification-file')\n",
}


def blocks(text: str) -> list[str]:
    """The Python blocks, without the spaces that a list puts before them, and corrected."""
    found = []
    for block in re.findall(r"^ *```python\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        plain = "\n".join(line.rstrip() for line in _dedented(block).strip().splitlines()) + "\n"
        for wrong, right in CORRECTIONS.items():
            plain = plain.replace(wrong, right)
        found.append(plain)
    return found


def _dedented(block: str) -> str:
    """A first line that stands further left than the others is put under them."""
    first, _, rest = textwrap.dedent(block).partition("\n")
    lines = [line for line in rest.splitlines() if line.strip()]
    indent = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    if not first.startswith(" ") and indent and not first.rstrip().endswith((":", "(", ",")):
        return f"{first}\n{textwrap.dedent(rest)}"
    return f"{first}\n{rest}"


@pytest.mark.skipif(DOCUMENT is None, reason="EDGEPACK_SPECIFICATION names no document")
def test_every_block_runs_or_says_why_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = blocks(Path(str(DOCUMENT)).read_text(encoding="utf-8"))
    monkeypatch.setenv("EDGEPACK_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("EDGEPACK_RUNTIME", "process")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    names = _prepared(tmp_path)
    azureml_names.install()
    reasons = {block: why for block in found for start, why in REASONS.items() if block.startswith(start)}
    for block in found:
        if block in reasons:
            continue
        if block.startswith("description = 'My AutoML Model'"):
            names["run"] = names["automl_run"]
        exec(compile(block, str(DOCUMENT), "exec"), names)  # noqa: S102 - what this test is for
    assert {"Dockerfile", "wheels"} <= {path.name for path in Path("imagefiles").iterdir()}
    workspace = names["ws"]
    assert isinstance(workspace, Workspace)
    deployed = {name: service.state for name, service in workspace.webservices.items()}
    for service in workspace.webservices.values():
        service.delete()
    assert deployed == dict.fromkeys(("my-sklearn-service", "myservice", "onnx-mnist-service"), "running")
    unused = [start for start in REASONS if not any(block.startswith(start) for block in found)]
    assert unused == []
    assert len(found) - len(reasons) >= 8


def _prepared(folder: Path) -> dict[str, object]:
    """What the document supposes: a configuration, a run with its model, candidates, an environment's file."""
    (folder / ".file-path").mkdir()
    (folder / ".file-path/ws_config.json").write_text('{"workspace_name": "plant"}')
    (folder / "path-to-conda-specification-file").write_text(
        "name: project_environment\ndependencies:\n  - python=3.11\n  - pip:\n    - azureml-defaults>=1.0.45\n"
    )
    (folder / "path_to_score.py").write_text("def init(): pass\ndef run(data): return data\n")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 10]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ports[:1], ports[1:])
    (folder / "mnist-model.onnx").write_bytes(helper.make_model(graph, ir_version=9).SerializeToString())
    data = load_diabetes()
    joblib.dump(Ridge().fit(data.data, data.target), folder / "sklearn_regression_model.pkl")
    (folder / "made").mkdir()
    (folder / "made/model.pkl").write_bytes(b"weights")
    workspace = Workspace(workspace_name="plant")
    run = Experiment(workspace, "mnist").start_logging()
    run.upload_file("outputs/sklearn_mnist_model.pkl", "made/model.pkl")
    parent = Experiment(workspace, "automl").start_logging()
    parent.add_properties({"primary_metric": "AUC"})
    child = parent.child_run()
    child.log("AUC", 0.9)
    child.upload_file("outputs/model.pkl", "made/model.pkl")
    workspace.models.register("mymodel", "made/model.pkl")
    return {
        "run": run,
        "automl_run": AutoMLRun(Experiment(workspace, "automl"), parent.id),
        "Model": Model,
        "__name__": "document",
    }
