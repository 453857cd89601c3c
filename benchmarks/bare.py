"""``python bare.py train|convert|compare CASE FOLDER``: a framework and its bare converter, without edgepack.

Run by the Python in which the framework is. ``train`` writes the model, ``convert`` reads it and writes ``bare.onnx``,
as the converters' own documentation says, ``compare`` asks the model and ``ours/model.onnx`` on as many rows as our
report says that it did, and writes the seconds to stdout: importing, loading and making up rows do not count.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What the package of a table is compared on beside its report's rows: single rows, and unusual rows of four kinds.
SINGLE_ROWS, UNUSUAL_ROWS, UNUSUAL_KINDS = 8, 64, 4
# The same for a model of tensors: unusual rows of seven kinds.
TENSOR_UNUSUAL_ROWS, TENSOR_UNUSUAL_KINDS = 16, 7
FILES = {"keras": "model.keras", "pytorch": "model.pt2"}


def model_file(case: str) -> str:
    """The name of the file that ``train`` writes."""
    return FILES.get(case, "model.joblib")


def train(case: str, folder: Path) -> None:
    """Fit the model of a case and save it."""
    {"keras": _train_keras, "pytorch": _train_pytorch}.get(case, _train_table)(case, folder / model_file(case))


def _train_table(case: str, path: Path) -> None:
    import joblib
    from sklearn.datasets import make_classification

    x, y = make_classification(4000, 20, n_informative=10, n_classes=3, random_state=0)
    if case == "table":
        joblib.dump(_pipeline().fit(_frame(x), y), path)
        return
    joblib.dump(_ESTIMATORS[case]().fit(x, y), path)


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500)


def _forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(100, random_state=0)


def _histogram() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=0)


def _lightgbm() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(random_state=0, verbose=-1, n_jobs=1)


_ESTIMATORS: dict[str, Callable[[], Any]] = {
    "logistic": _logistic,
    "forest": _forest,
    "histogram": _histogram,
    "lightgbm": _lightgbm,
}


def _pipeline() -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = make_column_transformer(
        (StandardScaler(), [f"number {index}" for index in range(10)]),
        (OneHotEncoder(handle_unknown="ignore"), [f"word {index}" for index in range(5)]),
    )
    return make_pipeline(columns, _logistic())


def _frame(x: Any) -> Any:
    """Ten columns of numbers and five of words."""
    import pandas as pd

    columns: dict[str, Any] = {f"number {index}": x[:, index] for index in range(10)}
    words = (x[:, 10:15] * 2).astype(int)
    columns |= {f"word {index}": [f"w{word}" for word in words[:, index]] for index in range(5)}
    return pd.DataFrame(columns)


def _train_keras(case: str, path: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((28, 28, 1), name="picture"),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
    keras.Sequential(layers).save(path)


def _train_pytorch(case: str, path: Path) -> None:
    import torch

    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(1, 16, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(16, 32, 3)]
    model = torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(3872, 10)).eval()
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(model, (torch.rand(2, 1, 28, 28),), dynamic_shapes=dynamic), path)


def convert(case: str, folder: Path) -> None:
    """The bare converter."""
    target = folder / "bare.onnx"
    {"keras": _convert_keras, "pytorch": _convert_pytorch}.get(case, _convert_table)(folder / model_file(case), target)


def _convert_table(path: Path, target: Path) -> None:
    import joblib
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    model = joblib.load(path)
    if type(model).__name__.startswith("LGBM"):
        _register_lightgbm(type(model))
    if type(model).__name__ == "Pipeline":
        names = list(model.feature_names_in_)
        types = [
            (name, FloatTensorType([None, 1]) if name.startswith("number") else StringTensorType([None, 1]))
            for name in names
        ]
    else:
        types = [("X", FloatTensorType([None, model.n_features_in_]))]
    made = convert_sklearn(
        model, initial_types=types, target_opset={"": 18, "ai.onnx.ml": 3}, options={"zipmap": False}
    )
    target.write_bytes(made.SerializeToString())


def _register_lightgbm(kind: Any) -> None:
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes as shapes

    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    update_registered_converter(kind, "LightGbmLGBMClassifier", shapes, convert_lightgbm, options=options)


def _convert_keras(path: Path, target: Path) -> None:
    import keras
    import numpy as np

    model = keras.models.load_model(path, compile=False)
    model(np.zeros((2, 28, 28, 1), dtype=np.float32))  # a Sequential has to be called once before it can be exported
    model.export(target, format="onnx", verbose=False)


def _convert_pytorch(path: Path, target: Path) -> None:
    import torch

    torch.onnx.export(torch.export.load(path), dynamo=True, verbose=False).save(target)


def compare(case: str, folder: Path) -> float:
    """Seconds of the parity run: the answers of both models on the same rows."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    ours = folder / "ours"
    report, manifest = (json.loads((ours / name).read_text()) for name in ("parity.json", "model.manifest.json"))
    methods = _methods(case, folder / model_file(case), manifest)
    tables = case not in FILES
    sizes = _sizes(report, tables)
    batches = [_rows(case, np.random.default_rng(0), size, manifest) for size in sizes]
    started = time.perf_counter()
    session = ort.InferenceSession(ours / "model.onnx", options, providers=["CPUExecutionProvider"])
    for given, feeds in batches:
        for method in methods:
            method(given)
        session.run(None, feeds)
    return time.perf_counter() - started


def _sizes(report: Any, tables: bool) -> list[int]:
    if tables:
        rows = sum(kind["rows"] for kind in report["rows"].values())
        return [rows, *[1] * SINGLE_ROWS, *[UNUSUAL_ROWS] * UNUSUAL_KINDS]
    return [*report["batches"], *[TENSOR_UNUSUAL_ROWS] * TENSOR_UNUSUAL_KINDS]


def _methods(case: str, path: Path, manifest: Any) -> list[Callable[[Any], Any]]:
    """The original's methods that the package has."""
    if case == "keras":
        import keras

        return [keras.models.load_model(path, compile=False)]
    if case == "pytorch":
        import torch

        module = torch.export.load(path).module()
        return [lambda given: module(torch.from_numpy(given))]
    import joblib

    model = joblib.load(path)
    return [getattr(model, method) for method in manifest["methods"] if method != "default"]


def _rows(case: str, random: Any, size: int, manifest: Any) -> tuple[Any, dict[str, Any]]:
    """Random rows as the original and as the graph takes them."""
    import numpy as np

    entries = manifest["inputs"]
    if case == "table":
        frame = _frame(random.standard_normal((size, 20)))
        dtypes = {entry["name"]: object if entry["dtype"] == "string" else entry["dtype"] for entry in entries}
        feeds = {
            entry["graph_name"]: np.array(frame[[entry["name"]]], dtype=dtypes[entry["name"]]) for entry in entries
        }
        return frame, feeds
    (entry,) = entries
    rows = random.standard_normal((size, *entry["shape"][1:])).astype(entry["dtype"])
    return rows, {entry["graph_name"]: rows}


def main(arguments: list[str]) -> None:
    """Run the verb in the first argument."""
    verb, case, folder = arguments[0], arguments[1], Path(arguments[2])
    if verb == "compare":
        sys.stdout.write(f"{compare(case, folder)}\n")
    else:
        {"train": train, "convert": convert}[verb](case, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
