"""What the tests of real images share: the commands as users type them, models, and an own look at what was built."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support import forked
from tests.support.http_client import ask
from tests.support.running import Done

PLATFORMS = "linux/amd64,linux/arm64"
SITE_PACKAGES = "opt/edgepack/lib/python3.11/site-packages"
WIDTH = 32


@dataclass(frozen=True)
class Commands:
    """The commands, typed in ``folder`` with the workspace ``workspace`` and the device's folder ``device``."""

    folder: Path
    workspace: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def device(self) -> Path:
        return self.folder / "device"

    def edgepack(self, *words: object, code: int = 0, **env: str) -> Done:
        """Run ``edgepack`` and expect exit code ``code``; after an error, one sentence and no traceback."""
        return self._run("edgepack", words, code, env)

    def agent(self, runtime: str, *words: object, code: int = 0, **env: str) -> Done:
        """Run ``edge-agent`` on the device and expect exit code ``code``."""
        return self._run("edge-agent", ("--state-dir", self.device, "--runtime", runtime, *words), code, env)

    def argv(self, program: str, *words: object) -> list[str]:
        """The command line of one of our programs, run by the Python that runs the tests."""
        return [str(Path(sys.executable).with_name(program)), *map(str, words)]

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """The caller's environment and cache, this workspace, answers in JSON."""
        own = {"EDGEPACK_WORKSPACE": str(self.workspace), "EDGEPACK_OUTPUT": "json"}
        return {**os.environ, **own, **self.env, **(env or {})}

    def _run(self, program: str, words: tuple[object, ...], code: int, env: Mapping[str, str]) -> Done:
        self.folder.mkdir(parents=True, exist_ok=True)
        done = forked.finish(program, *words, cwd=self.folder, env=self.environment(env))
        assert done.code == code, f"{program} {words}: exit code {done.code}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    @property
    def blobs(self) -> Path:
        return self.workspace / "store/blobs/sha256"

    def blob_sizes(self) -> dict[str, int]:
        """Every blob of the workspace with its bytes."""
        return {path.name: path.stat().st_size for path in self.blobs.iterdir()}

    def register(self, model: Path, name: str = "mlp") -> Any:
        return self.edgepack("model", "register", "-n", name, "-p", model).json

    def build(self, model: str, tag: str, *more: object, platform: str = PLATFORMS) -> Any:
        return self.edgepack("package", "build", "-m", model, "-t", tag, "--platform", platform, *more).json


@dataclass(frozen=True)
class Site:
    """A workspace in which ``mlp:1`` was registered and built for both platforms, by the commands of a user."""

    commands: Commands
    models: dict[int, Path]
    built: Any

    @property
    def folder(self) -> Path:
        return self.commands.folder


@dataclass(frozen=True)
class Second:
    """The second version in the same workspace; blobs as they were before registration and after the build."""

    built: Any
    before: dict[str, int]
    after: dict[str, int]


# ---- Models and answers -------------------------------------------------------------------------------------------


def write_model(path: Path, seed: int, hidden: int = 480) -> Path:
    """A network of three layers, its weights (1 MB with 480 hidden units) drawn from ``seed``."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(seed)
    sizes = (WIDTH, hidden, 512, 3)
    weights, nodes, last = [], [], "X"
    for at, (rows, columns) in enumerate(pairwise(sizes)):
        values = draw.standard_normal((rows, columns)) / np.sqrt(rows)
        weights.append(numpy_helper.from_array(values.astype("float32"), f"w{at}"))
        nodes += [helper.make_node("MatMul", [last, f"w{at}"], [f"m{at}"]),
                  helper.make_node("Tanh", [f"m{at}"], [f"t{at}"])]  # fmt: skip
        last = f"t{at}"
    nodes.append(helper.make_node("Softmax", [last], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes, "mlp", [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, WIDTH])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 3])], weights,
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def rows() -> list[list[float]]:
    """Four rows of input."""
    import numpy as np

    values: list[list[float]] = np.random.default_rng(99).standard_normal((4, WIDTH)).round(4).tolist()
    return values


def expected(model: Path) -> list[list[float]]:
    """What onnxruntime answers here."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    answer: list[list[float]] = session.run(None, {"X": np.array(rows(), "float32")})[0].tolist()
    return answer


def assert_scores(port: int, model: Path, host: str = "127.0.0.1") -> None:
    """``GET /`` says Healthy, and ``POST /score`` gives the numbers that onnxruntime gives for ``model`` here."""
    health = ask(port, "GET", "/", host=host)
    assert (health.status, health.body) == (200, b"Healthy")
    body = json.dumps({"data": rows()})
    answer = ask(port, "POST", "/score", body, {"Content-Type": "application/json"}, host=host)
    assert answer.status == 200, answer.body
    answers, wanted = answer.json, expected(model)
    assert [len(row) for row in answers] == [len(row) for row in wanted]
    worst = max(abs(a - b) for one, two in zip(answers, wanted, strict=True) for a, b in zip(one, two, strict=True))
    assert worst < 1e-5


def wait_healthy(port: int, seconds: float, alive: Callable[[], bool] = lambda: True, host: str = "127.0.0.1") -> None:
    """Wait until ``GET /`` says Healthy, for as long as ``alive``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if ask(port, "GET", "/", host=host, seconds=5).body == b"Healthy":
                return
        except (OSError, http.client.HTTPException):
            pass
        assert alive(), "it has ended"
        assert time.monotonic() < deadline, f"not healthy after {seconds} s"
        time.sleep(0.1)


# ---- Our own look at images ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """An image as its blobs say: bytes of its distinct blobs, and of its layers' plain tars; each verified."""

    size: int
    unpacked_size: int
    layers: tuple[str, ...]


def measure(blobs: Path, digest: str) -> Measured:
    """Compute the figures of the manifest ``digest`` from the files below ``blobs``, with nothing but hashlib and gzip.

    Every blob must hash to its name, and every layer's tar to its diff ID.
    """
    raw = _verified(blobs, digest)
    manifest = json.loads(raw)
    config_raw = _verified(blobs, manifest["config"]["digest"])
    config = json.loads(config_raw)
    sizes = {digest: len(raw), manifest["config"]["digest"]: len(config_raw)}
    unpacked = 0
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        packed = _verified(blobs, layer["digest"])
        assert len(packed) == layer["size"]
        plain = gzip.decompress(packed) if layer["mediaType"].endswith("gzip") else packed
        assert f"sha256:{hashlib.sha256(plain).hexdigest()}" == diff_id
        sizes[layer["digest"]] = len(packed)
        unpacked += len(plain)
    return Measured(sum(sizes.values()), unpacked, tuple(layer["digest"] for layer in manifest["layers"]))


def _verified(blobs: Path, digest: str) -> bytes:
    data = (blobs / digest.removeprefix("sha256:")).read_bytes()
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
    return data


def image_of(built: Any, platform: str) -> Any:
    """The image for ``platform`` in the answer of ``package build``."""
    return next(image for image in built["platforms"] if image["platform"] == platform)
