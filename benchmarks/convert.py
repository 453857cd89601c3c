"""Time of a conversion beside the bare converter's and the parity run's, and of the second one of the same bytes.

All are whole processes, taking turns, but the parity run, which ``bare.py`` measures inside of its own. Limits: 1.5
times the bare converter and the parity run together; a cache hit under 0.3 s, by Python and by the command.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import bare
from benchmarks.lab import edgepack, seconds
from converters.package import cache
from converters.sandbox import launch
from converters.software import environments, selection
from edgepack.errors import EdgepackError, MissingPartError
from edgepack.host.uv import find_uv, uv_environment

ROUNDS = 3
ONNXMLTOOLS = "onnxmltools==1.16.0"
CASES = {
    "logistic": ("LogisticRegression", "ScikitLearn"),
    "forest": ("RandomForest of 100 trees", "ScikitLearn"),
    "histogram": ("HistGradientBoosting", "ScikitLearn"),
    "table": ("table: scaler, one-hot, logistic", "ScikitLearn"),
    "lightgbm": ("LightGBM", "ScikitLearn"),
    "keras": ("Keras, convolutions", "TensorFlow"),
    "pytorch": ("PyTorch .pt2, convolutions", "PyTorch"),
}
OURS = (
    "import sys, pathlib, converters\n"
    "path, framework, folder, again = sys.argv[1:]\n"
    "converters.convert(pathlib.Path(path), framework=framework, output_dir=pathlib.Path(folder), again=again == '1')\n"
)


@dataclass
class Times:
    """Seconds, one a round."""

    bare: list[float] = field(default_factory=list)
    parity: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    hit: list[float] = field(default_factory=list)
    command: list[float] = field(default_factory=list)


def main() -> None:
    """Run everything and print it."""
    chosen = sys.argv[1:] if Path(sys.argv[0]).name == "convert.py" else []
    print("conversion, seconds                     bare  parity    ours  ours:bare+parity  again, Python  by command")
    print("limits                                                                    1.50           0.30        0.30")
    for case in chosen or CASES:
        title, framework = CASES[case]
        with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as name:
            try:
                times = measure(case, framework, Path(name))
            except EdgepackError as error:
                print(f"  {title:<34}  not measured: {error.what}")
                continue
        middle = {kind: statistics.median(values) for kind, values in vars(times).items()}
        ratio = statistics.median(
            ours / (alone + parity) for ours, alone, parity in zip(times.ours, times.bare, times.parity, strict=True)
        )
        print(
            f"  {title:<34} {middle['bare']:7.2f} {middle['parity']:7.2f} {middle['ours']:7.2f} {ratio:17.2f} "
            f"{middle['hit']:14.2f} {middle['command']:11.2f}"
        )


def measure(case: str, framework: str, folder: Path) -> Times:
    """The rounds of one case. Raises ``MissingPartError`` where its environment cannot be made without a network."""
    kept = folder / "cache"
    kept.mkdir()
    shared = cache.default_cache() / environments.FOLDER
    shared.mkdir(parents=True, exist_ok=True)
    (kept / environments.FOLDER).symlink_to(shared)
    os.environ["EDGEPACK_CACHE"] = str(kept)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode
    path = folder / bare.model_file(case)
    try:
        interpreter = _environment(case, framework, path).interpreter(kept, offline=True)
        _run(interpreter, "train", case, folder)
        interpreter = selection.choose(framework, path).interpreter(kept, offline=True)
        if case == "lightgbm":
            interpreter = _with_onnxmltools(interpreter, folder / "onnxmltools")
        edgepack(folder / "workspace", "model", "register", "-n", "m", "-p", str(path), "--framework", framework)
        edgepack(folder / "workspace", "model", "convert", "-m", "m")
        times = Times()
        for _ in range(ROUNDS):
            times.bare.append(seconds(lambda: _run(interpreter, "convert", case, folder)))
            times.ours.append(seconds(lambda: _ours(path, framework, folder, again=True)))
            times.parity.append(float(_run(interpreter, "compare", case, folder)))
            times.hit.append(seconds(lambda: _ours(path, framework, folder, again=False)))
            times.command.append(seconds(lambda: edgepack(folder / "workspace", "model", "convert", "-m", "m")))
    finally:
        del os.environ["EDGEPACK_CACHE"]
    return times


def _environment(case: str, framework: str, path: Path) -> selection.Environment:
    """The environment in which a case is trained; the file made there decides in which one it is converted."""
    if case == "lightgbm":
        lock = selection.LOCKS / "boosters-1.9.txt"
        return selection.Environment(lock.stem, environments.digest(lock), lock)
    if framework == "ScikitLearn":
        return selection.Environment("installed", "")
    return selection.choose(framework, path)


def _with_onnxmltools(interpreter: launch.Interpreter, folder: Path) -> launch.Interpreter:
    """The interpreter and LightGBM's usual converter, the yardstick, which edgepack itself does not need."""
    command = [find_uv(), "pip", "install", "--quiet", "--no-deps", "--target", str(folder), ONNXMLTOOLS]
    if subprocess.run(command, env=uv_environment(), cwd=folder.parent, capture_output=True, check=False).returncode:
        raise MissingPartError(f"{ONNXMLTOOLS} cannot be fetched now", hint="run it where a package index is reachable")
    return replace(interpreter, packages=(*interpreter.packages, folder))


def _run(interpreter: launch.Interpreter, verb: str, case: str, folder: Path) -> str:
    """``bare.py`` by an environment's Python, with the settings that the sandbox gives: one thread, no accelerator."""
    command = [str(interpreter.python), "-P", bare.__file__, verb, case, str(folder)]
    environment = {**launch.environment(interpreter), "TMPDIR": str(folder), "HOME": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"bare.py {verb} {case}: {done.stderr}")
    return done.stdout.split()[-1] if done.stdout.split() else ""


def _ours(path: Path, framework: str, folder: Path, *, again: bool) -> None:
    words = [str(path), framework, str(folder / "ours"), "1" if again else "0"]
    done = subprocess.run([sys.executable, "-c", OURS, *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"converters.convert {path.name}: {done.stderr}")


if __name__ == "__main__":
    main()
