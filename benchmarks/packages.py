"""An image of an entry script with scikit-learn and pandas: time and size, beside Docker, MLflow and BentoML.

Limits: the first build, with base and wheels cached, 10 s on two cores and five times as fast as ``docker build`` of
our own context, whose wheels are in it; after a change of the script 1 s, and not slower than the engine with its
cache; 110 MB compressed and 360 MB unpacked.

What MLflow and BentoML make for the same script cannot be pulled everywhere, so it is counted: what their lists of
requirements install (the distribution itself, the script's packages, and all that these ask for), compressed as our
layers are, and the base that we use ourselves in the place of theirs, which is larger. What their Dockerfiles install
with apt, and bytecode, are not in it.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.lab import BIN, docker_engine, edgepack, median, seconds
from packager.layers.compressors import Gzip

ROUNDS = 3
SCRIPT = """
import json
import os

import joblib
import pandas as pd


def init():
    global model
    model = joblib.load(os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.joblib"))


def run(data):
    return model.predict(pd.DataFrame(json.loads(data)["data"]).values).tolist()
"""
ENVIRONMENT = """
name: score
dependencies:
  - python=3.11
  - scikit-learn
  - pandas
  - pip:
    - azureml-defaults
    - joblib
"""
TRAIN = """
import sys, joblib
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
data = load_diabetes()
joblib.dump(Ridge().fit(data.data, data.target), sys.argv[1])
"""
# What each of them installs for this script: itself, and the packages that it imports.
PEERS = {"MLflow": ("mlflow", "gunicorn"), "BentoML": ("bentoml",)}
OWN = ("scikit-learn", "pandas", "joblib")


def main() -> None:
    """Run everything and print it."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a command that compiles itself each time is not what users run
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as name:
        folder = Path(name)
        prepare(folder)
        build(folder, folder / "warm")
        firsts, image = first_builds(folder)
        changes = changed_code(lambda: build(folder, folder / "first-0"), folder / "score.py")
        line("first build, base and wheels cached", median(firsts), statistics.median(firsts), 10, "s")
        line("build after a change of the script", median(changes), statistics.median(changes), 1, "s")
        (folder / "engine").mkdir()
        with docker_engine(folder / "engine") as environment:
            if environment is None:
                print("docker build                          not measured: no container engine can be started")
            else:
                docker_builds(folder, environment, firsts, changes)
        sizes(folder, image)


def line(what: str, shown: str, value: float, limit: float, unit: str) -> None:
    """Print a measurement beside its limit."""
    print(f"{what:<37} {shown}   {value / limit:.2f} of {limit:g} {unit}")


def prepare(folder: Path) -> None:
    """The model, the script and its environment; the model is registered in each workspace anew."""
    (folder / "score.py").write_text(SCRIPT)
    (folder / "environment.yml").write_text(ENVIRONMENT)
    subprocess.run([sys.executable, "-c", TRAIN, str(folder / "model.joblib")], check=True)


def build(folder: Path, workspace: Path, *words: str) -> dict[str, int]:
    """Build the image in ``workspace``; its sizes."""
    if not workspace.exists():
        edgepack(workspace, "model", "register", "-n", "m", "-p", str(folder / "model.joblib"))
    built = edgepack(workspace, "package", "build", "-t", "m:1", *inputs(folder), *words)
    found: dict[str, int] = built["platforms"][0]
    return found


def inputs(folder: Path) -> tuple[str, ...]:
    """The options that say what the image is made of."""
    script, environment = folder / "score.py", folder / "environment.yml"
    return ("-m", "m", "--entry-script", str(script), "--environment", str(environment))


def first_builds(folder: Path) -> tuple[list[float], dict[str, int]]:
    """Seconds of a build in a fresh workspace that knows the lock, and the image."""
    spent, image = [], {}
    for number in range(ROUNDS):
        workspace = folder / f"first-{number}"
        edgepack(workspace, "model", "register", "-n", "m", "-p", str(folder / "model.joblib"))
        shutil.copytree(folder / "warm" / "locks", workspace / "locks")
        spent.append(seconds(lambda workspace=workspace: image.update(build(folder, workspace))))
        if number:
            shutil.rmtree(workspace)
    return spent, image


def changed_code(work: Callable[[], object], script: Path) -> list[float]:
    """Seconds of ``work`` after each of several changes of ``script``."""
    work()
    spent = []
    for number in range(ROUNDS):
        with script.open("a") as file:
            file.write(f"# change {number}\n")
        spent.append(seconds(work))
    return spent


def docker_builds(folder: Path, environment: Mapping[str, str], firsts: list[float], changes: list[float]) -> None:
    """``docker build`` of the context that we write, without its cache and with it."""
    context = folder / "context"
    edgepack(folder / "warm", "package", "save", *inputs(folder), "-o", str(context))

    def run(*words: str) -> None:
        command = ["docker", "build", "-q", "--network=none", *words, "-t", "m:1", str(context)]
        done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"docker build: {done.stderr}{done.stdout}")

    whole = [seconds(lambda: run("--no-cache")) for _ in range(ROUNDS)]
    (script,) = context.glob("**/score.py")
    cached = changed_code(run, script)
    print(f"docker build, wheels in the context   {median(whole)}")
    print(f"docker build, cached, a changed script {median(cached)}")
    times = statistics.median(whole) / statistics.median(firsts)
    print(f"docker build : first build            {times:.1f} times as long, of at least 5")
    times = statistics.median(cached) / statistics.median(changes)
    print(f"docker build : changed script         {times:.1f} times as long, of at least 1")


def sizes(folder: Path, image: Mapping[str, int]) -> None:
    """The bytes of our image, and of what the others install."""
    size, unpacked = image["size"] / 1e6, image["unpacked_size"] / 1e6
    line("compressed", f"{size:.1f} MB", size, 110, "MB")
    line("unpacked", f"{unpacked:.1f} MB", unpacked, 360, "MB")
    base = edgepack(folder / "warm", "base", "build")[0]
    for name, itself in PEERS.items():
        found = installed(folder / name.lower(), (*itself, *OWN))
        if found is None:
            print(f"{name:<37} not counted: its packages cannot be installed here")
            continue
        their_size, their_unpacked = (found[0] + base["size"]) / 1e6, (found[1] + base["unpacked_size"]) / 1e6
        print(
            f"{name + ', counted':<37} {their_size:.1f} MB, {their_unpacked:.1f} MB unpacked   "
            f"{their_size / size:.1f} and {their_unpacked / unpacked:.1f} times ours"
        )


def installed(target: Path, requirements: tuple[str, ...]) -> tuple[int, int] | None:
    """Bytes of what ``requirements`` install below ``target``: compressed as our layers are, and not."""
    command = [str(BIN / "uv"), "pip", "install", "--quiet", "--python", sys.executable, "--target", str(target)]
    done = subprocess.run([*command, *requirements], capture_output=True, check=False)
    if done.returncode != 0:
        return None
    counted = _Counted()
    with tarfile.open(fileobj=counted, mode="w|") as tar:
        tar.add(target, "site-packages")
    return counted.end(), counted.plain


class _Counted:
    """A file that counts what is written to it, before and after compression."""

    def __init__(self) -> None:
        self._gzip = Gzip()
        self._size = self.plain = 0

    def write(self, data: bytes) -> int:
        self.plain += len(data)
        self._size += len(self._gzip.compress(data))
        return len(data)

    def end(self) -> int:
        return self._size + len(self._gzip.flush())


if __name__ == "__main__":
    main()
