"""``python -m benchmarks.deltas [WORD...]``: what deltas move, of models and layers that are really made here.

Each pair is a layer before and after: trees that are trained on, a network of which the last layer or everything is
trained on, wheels one version on. Printed are the bytes of the delta against the whole compressed layer (zstd 19 for
models, 12 for wheels), the goal, the seconds of making and applying, and the memory of a process that applies it and
does nothing else. Wheels come from the package index that pip is set up for; without one they are left out.
"""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepack.deltas.format import GZIP, Blob, Content
from edgepack.deltas.make import make
from edgepack.oci.digest import Digest
from edgepack.oci.tar.compression import zstd_module

# In a process of its own: what applying takes besides reading and writing files.
_APPLY = """
import sys, time
from edgepack.deltas.apply import apply
began = time.perf_counter()
with open(sys.argv[1], "rb") as delta, open(sys.argv[2], "rb") as base, open(sys.argv[3], "wb") as out:
    apply(delta, base, out.write)
took = time.perf_counter() - began
with open("/proc/self/status") as status:
    print(took, status.read().partition("VmHWM:")[2].split()[0])
"""
# Its name, its goal, the level by which the whole is compressed, and the layer before and after.
Pair = tuple[str, str, int, bytes, bytes]
WHEELS = (("numpy", "2.4.5", "2.4.6", "3 %"), ("scikit-learn", "1.9.0", "1.9.1", "8 %"))


def main(words: list[str]) -> None:
    """Print a row for each pair whose name has one of ``words`` in it; for all without any."""
    with tempfile.TemporaryDirectory() as folder:
        # The converters of trees; what they need is here.
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, "onnxmltools"], check=True
        )
        sys.path.append(folder)
        _rows(words)


def _rows(words: list[str]) -> None:
    print(f"{'pair':34} {'whole':>10} {'delta':>10} {'moved':>7} {'goal':>7} {'make s':>7} {'apply s':>7} {'MiB':>5}")
    for name, goal, level, base, result in _pairs(words):
        _row(name, goal, level, base, result)


def _pairs(words: list[str]) -> Iterator[Pair]:
    for source in (_lightgbm, _xgboost, _networks, _wheels):
        if not words or any(word in source.__name__ for word in words):
            yield from source()


def _row(name: str, goal: str, level: int, base: bytes, result: bytes) -> None:
    whole = len(zstd_module().compress(result, level))
    old = Blob.plain(Digest.of(base), len(base))
    # As if the layer were stored so: what a delta must save a tenth of.
    new = Blob(Digest.of(b""), whole, GZIP, Content(Digest.of(result), len(result)), 6)
    began = time.perf_counter()
    delta = make(io.BytesIO(base), io.BytesIO(result), old, new)
    took = time.perf_counter() - began
    if delta is None:
        print(f"{name:34} {whole:10,} {'whole':>10} {'100 %':>7} {goal:>7} {took:7.1f}")
        return
    with delta, tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, one) for one in ("delta", "base", "result")]
        with paths[0].open("wb") as file:
            delta.write_to(file)
        paths[1].write_bytes(base)
        done = subprocess.run(
            [sys.executable, "-c", _APPLY, *map(str, paths)], capture_output=True, text=True, check=True
        )
        seconds, kilobytes = done.stdout.split()
        if hashlib.sha256(paths[2].read_bytes()).hexdigest() != new.content.digest.hex:
            sys.exit(f"{name}: what came out is not the result")
        share = f"{delta.size / whole:.1%}"
        print(
            f"{name:34} {whole:10,} {delta.size:10,} {share:>7} {goal:>7} {took:7.1f} {float(seconds):7.2f} "
            f"{int(kilobytes) / 1024:5.0f}",
            flush=True,
        )


def _layer(name: str, data: bytes) -> bytes:
    return _tar([(f"var/azureml-app/azureml-models/m/1/{name}", data)])


def _tar(files: list[tuple[str, bytes]]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def _table(seed: int, rows: int = 20_000) -> tuple[Any, Any]:
    from sklearn.datasets import make_classification

    x, y = make_classification(rows, 30, n_informative=20, random_state=0)
    half = rows // 2
    return (x[:half], y[:half]) if seed == 0 else (x[half:], y[half:])


def _lightgbm() -> Iterator[Pair]:
    import lightgbm
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    settings = {"objective": "binary", "num_leaves": 63, "verbose": -1, "num_threads": 2}
    first = lightgbm.train(settings, lightgbm.Dataset(*_table(0)), 400)
    then = lightgbm.train(settings, lightgbm.Dataset(*_table(1)), 10, init_model=first)
    inputs = [("x", FloatTensorType([None, 30]))]
    onnx = [
        convert_lightgbm(one, initial_types=inputs, zipmap=False).SerializeToString(deterministic=True)
        for one in (first, then)
    ]
    yield "LightGBM, 400 + 10 trees, ONNX", "5 %", 19, _layer("model.onnx", onnx[0]), _layer("model.onnx", onnx[1])
    texts = [one.model_to_string().encode() for one in (first, then)]
    yield "LightGBM, 400 + 10 trees, text", "5 %", 19, _layer("model.txt", texts[0]), _layer("model.txt", texts[1])


def _xgboost() -> Iterator[Pair]:
    import xgboost
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    settings: dict[str, Any] = {"max_depth": 7, "n_jobs": 2, "random_state": 0}
    first = xgboost.XGBClassifier(n_estimators=400, **settings).fit(*_table(0))
    then = xgboost.XGBClassifier(n_estimators=10, **settings).fit(*_table(1), xgb_model=first.get_booster())
    inputs = [("x", FloatTensorType([None, 30]))]
    onnx = [convert_xgboost(one, initial_types=inputs).SerializeToString(deterministic=True) for one in (first, then)]
    yield "XGBoost, 400 + 10 trees, ONNX", "5 %", 19, _layer("model.onnx", onnx[0]), _layer("model.onnx", onnx[1])
    raw = [bytes(one.get_booster().save_raw("ubj")) for one in (first, then)]
    yield "XGBoost, 400 + 10 trees, UBJSON", "5 %", 19, _layer("model.ubj", raw[0]), _layer("model.ubj", raw[1])


def _networks() -> Iterator[Pair]:
    import numpy as np

    random = np.random.default_rng(0)
    x = random.normal(size=(6000, 256)).astype(np.float32)
    y = (x @ random.normal(size=(256, 10)) + random.normal(size=(6000, 10))).argmax(axis=1)
    weights, trained = _trained([], x[:3000], y[:3000], 1e-3, 10), {}
    last = [*weights[:2], _trained(weights, x[3000:], y[3000:], 1e-3, 2)[2]]
    for rate in (1e-5, 1e-4, 1e-3):
        trained[rate] = _trained(weights, x[3000:], y[3000:], rate, 2)
    base = _layer("model.onnx", _network(weights))
    yield "float32, last layer changed", "1 %", 19, base, _layer("model.onnx", _network(last))
    for new in trained.values():
        moved = [np.abs(b - a) / np.maximum(np.abs(a), 1e-12) for a, b in zip(weights, new, strict=True)]
        change = float(np.median(np.concatenate([one.ravel() for one in moved])))
        goal = "52 %" if change <= 3e-4 else "62 %" if change <= 2.6e-3 else "-"
        yield f"float32, median change {change:.1e}", goal, 19, base, _layer("model.onnx", _network(new))


def _trained(start: list[Any], x: Any, y: Any, rate: float, epochs: int) -> list[Any]:
    """The weights of a network of three layers, trained from ``start`` on with Adam at ``rate``."""
    import warnings

    import numpy as np
    from sklearn.neural_network import MLPClassifier

    net = MLPClassifier((1024, 1024), learning_rate_init=rate, max_iter=epochs, random_state=0, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if start:
            net.max_iter = 1
            net.learning_rate_init = 1e-9
            net.fit(x[:200], np.arange(200) % 10)
            net.set_params(learning_rate_init=rate, max_iter=epochs)
            net.coefs_ = [one.copy() for one in start]
            net.intercepts_ = [np.zeros(one.shape[1], np.float32) for one in start]
        net.fit(x, y)
    return [one.astype(np.float32) for one in net.coefs_]


def _network(weights: list[Any]) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    nodes, at = [], "x"
    for number in range(len(weights)):
        nodes.append(helper.make_node("MatMul", [at, f"w{number}"], [f"m{number}"]))
        nodes.append(helper.make_node("Relu", [f"m{number}"], [f"y{number}"]))
        at = f"y{number}"
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 256])],
        [helper.make_tensor_value_info(at, TensorProto.FLOAT, [None, 10])],
        [numpy_helper.from_array(one, f"w{number}") for number, one in enumerate(weights)],
    )
    return bytes(helper.make_model(graph).SerializeToString(deterministic=True))


def _wheels() -> Iterator[Pair]:
    with tempfile.TemporaryDirectory() as folder:
        for name, old, new, goal in WHEELS:
            base, result = (_wheel(name, version, Path(folder)) for version in (old, new))
            if base is None or result is None:
                print(f"{name} {old} to {new}: not on the package index")
                continue
            yield f"{name} {old} to {new}", goal, 12, base, result


def _wheel(name: str, version: str, folder: Path) -> bytes | None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder),
         f"{name}=={version}"],
        capture_output=True, check=False,
    )  # fmt: skip
    shape = re.sub(r"[-_.]+", "_", name)
    found = sorted(folder.glob(f"{shape}-{version}-*.whl"))
    if done.returncode or not found:
        return None
    with zipfile.ZipFile(found[0]) as wheel:
        files = [(f"opt/site-packages/{one}", wheel.read(one)) for one in wheel.namelist() if not one.endswith("/")]
    return _tar(files)


if __name__ == "__main__":
    main(sys.argv[1:])
