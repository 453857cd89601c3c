"""Shared by the measurements: commands, models, medians, a container engine of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


def edgepack(workspace: Path, *words: str) -> Any:
    """Run ``edgepack`` and give its JSON answer."""
    done = subprocess.run(
        [str(BIN / "edgepack"), *words],
        env={
            # As a user has it, whose first command writes the bytecode of what it imports.
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "EDGEPACK_OUTPUT": "json",
            "EDGEPACK_WORKSPACE": str(workspace),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"edgepack {' '.join(words)}: {done.stderr}")
    return json.loads(done.stdout) if done.stdout.strip() else None


def write_model(path: Path, seed: int, size: int = 1_000_000) -> None:
    """An ONNX file of about ``size`` bytes: one dense layer whose weights depend on ``seed``."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    width = size // 4 // 100
    weights = np.random.default_rng(seed).normal(size=(width, 100)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 100])],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), str(path))


def seconds(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def median(values: list[float]) -> str:
    """Median with the least and the most, in seconds."""
    return f"{statistics.median(values):.2f} s (of {len(values)}: {min(values):.2f} to {max(values):.2f})"


@contextmanager
def docker_engine(folder: Path) -> Iterator[dict[str, str] | None]:
    """An engine of our own and the environment that reaches it; ``None`` where it cannot run."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None or shutil.which("docker") is None:
        yield None
        return
    socket = folder / "docker.sock"
    log = (folder / "dockerd.log").open("wb")
    engine = subprocess.Popen(
        [
            "dockerd", "--host", f"unix://{socket}", "--data-root", str(folder / "data"), "--exec-root",
            str(folder / "exec"), "--pidfile", str(folder / "docker.pid"), "--bridge=none", "--iptables=false",
        ],
        stdout=log,
        stderr=log,
    )  # fmt: skip
    environment = {**os.environ, "DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0"}
    try:
        for _ in range(100):
            if subprocess.run(["docker", "version"], env=environment, capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.2)
        else:
            sys.exit(f"dockerd did not start, see {log.name}")
        yield environment
    finally:
        engine.send_signal(signal.SIGTERM)
        engine.wait(30)
        log.close()
