"""Models, request bodies and right answers, into a folder: ``python -m benchmarks.peers.models FOLDER NAME...``.

In a separate process: pages mapped here would be shared with the servers and make their memory look smaller.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

COLUMNS = 20
SIZES = (1, 100)


def main(folder: Path, names: list[str]) -> None:
    """Train, convert, and write ``NAME/model.onnx`` with its manifest, ``data-N.json``, ``v2-N.json`` and so on."""
    import joblib
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    from converters import convert

    warnings.simplefilter("ignore")  # the network need not be a good one
    models = {
        "logistic": LogisticRegression(max_iter=1000),
        "mlp": MLPClassifier((1000, 1000), max_iter=1, random_state=0),  # 4 MB
        "forest": RandomForestClassifier(100, random_state=0),
    }
    rows, labels = make_classification(2000, COLUMNS, n_informative=12, random_state=0)
    asked = rows[: max(SIZES)].round(6)
    for name in names:
        model = models[name].fit(rows, labels)
        joblib.dump(model, folder / f"{name}.joblib")
        convert(folder / f"{name}.joblib", framework="ScikitLearn", output_dir=folder / name)
        for size in SIZES:
            write_bodies(folder / name, size, asked[:size], model.predict_proba(asked[:size]).tolist())


def write_bodies(folder: Path, size: int, rows: object, probabilities: list[list[float]]) -> None:
    """What each kind of server is sent, and what it has to answer."""
    import numpy as np

    manifest = json.loads((folder / "model.manifest.json").read_text())
    first = manifest["inputs"][0]
    array = np.asarray(rows, dtype=first["dtype"])
    tensor = {
        "name": first["name"],
        "shape": list(array.shape),
        "datatype": {"float64": "FP64", "float32": "FP32"}[first["dtype"]],
    }
    (folder / f"data-{size}.json").write_text(json.dumps({"data": np.asarray(rows).tolist()}))
    (folder / f"v2-{size}.json").write_text(
        json.dumps({"inputs": [{**tensor, "data": np.asarray(rows).ravel().tolist()}]})
    )
    values = array.tobytes()
    head = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": len(values)}}],
            "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
        }
    ).encode()
    (folder / f"binary-{size}.json").write_bytes(head + values)
    (folder / f"binary-{size}.length").write_text(str(len(head)))
    (folder / f"expected-{size}.json").write_text(json.dumps(probabilities))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
