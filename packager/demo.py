"""The main job once, on real input, by the commands that a user types."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgepack.errors import EdgepackError, MissingPartError, UsageError
from edgepack.host.console import human

# What a user has before edgepack comes: a training script. It writes a model, held-out rows, and its own answers.
TRAIN = '''\
"""Train a classifier on the breast cancer data set that scikit-learn ships: python train.py VERSION TREES"""
import json
import sys

import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

version, trees = sys.argv[1], int(sys.argv[2])
data = load_breast_cancer()
train_x, test_x, train_y, test_y = train_test_split(data.data, data.target, random_state=int(version))
model = RandomForestClassifier(n_estimators=trees, random_state=int(version)).fit(train_x, train_y)
joblib.dump(model, f"cancer-{version}.joblib", protocol=5)  # Python's own choice depends on its version
with open(f"rows-{version}.json", "w") as file:
    json.dump({"data": test_x[:5].tolist()}, file)
with open(f"answers-{version}.json", "w") as file:
    json.dump(model.predict_proba(test_x[:5]).tolist(), file)
print(f"accuracy {model.score(test_x, test_y):.3f} on {len(test_x)} held-out rows")
'''
SERVICE = "cancer"
# The desired state that runs the service again, beside the files of a demo that was kept.
START = "start.json"
_ADDRESS = "127.0.0.1"
PORT = 6789


def check_packages() -> None:
    """Raise ``MissingPartError`` where a package that the demo needs is not installed: an extra may bring a part."""
    for package in ("uv", "sklearn", "joblib", "skl2onnx", "docker"):
        if find_spec(package) is None:
            what = f"the Python package {package} is not installed"
            raise MissingPartError(what, where="the demo", hint="run: pip install 'edgepack[all]'")


def check_folder(folder: Path) -> None:
    """Raise ``UsageError`` for a folder with something in it."""
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError("is not empty", where=folder, hint="give --folder a new one")


def usable_port(wanted: int | None, say: Callable[[str], None]) -> int:
    """The port ``wanted``; without one ``PORT``, or another, which is said, where something listens there already.

    Raises ``UsageError`` when the port that is wanted cannot be used.
    """
    reason = _unusable(wanted or PORT)
    if reason is None:
        return wanted or PORT
    if wanted is not None:
        hint = "stop what listens there, or give another by --port"
        raise UsageError(f"port {wanted} cannot be used ({reason})", where="--port", hint=hint)
    with socket.create_server((_ADDRESS, 0)) as free:
        other = int(free.getsockname()[1])
    say(f"port {PORT} cannot be used ({reason}); the service gets port {other}")
    return other


def _unusable(port: int) -> str | None:
    try:
        # As servers do, it takes a port of connections that have ended.
        socket.create_server((_ADDRESS, port)).close()
    except OSError as error:
        return os.strerror(error.errno or 0)  # Python's own text repeats the address
    return None


@dataclass(frozen=True)
class Demo:
    """Runs in ``folder``; ``say`` prints a line; ``port`` is where the service answers."""

    folder: Path
    port: int
    runtime: str
    say: Callable[[str], None]

    def run(self) -> None:
        """Everything, from training to rollback; stops what it started, also when a step fails."""
        check_folder(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        # On a device the service runs as a user of its own, who must be able to pass through here.
        self.folder.chmod(0o711)
        (self.folder / "train.py").write_text(TRAIN)
        digest = None
        try:
            self._heading("A model, a key, and a device that trusts the key")
            self._shell("python", "train.py", "1", "51")
            self._json("edgepack", "key", "create", "-n", "demo")
            self._shell("edgepack", "key", "export", "demo", "-o", "demo.pub")
            self._agent("trust", "demo.pub")

            self._heading("From the model file to an image, with no container engine and no image registry")
            first = self._package("1")

            self._heading("From the image to a device that answers")
            self._json("edgepack", "bundle", "create", f"{SERVICE}:1", "-o", "cancer-1.bundle", "--key", "demo")
            self._import("cancer-1.bundle")
            digest = first["digest"]
            self._apply(digest)
            self._score("1")

            self._heading("A second version: only what the device lacks moves")
            self._shell("python", "train.py", "2", "61")
            second = self._package("2")
            self._agent("receipt", "-o", "receipt.json")
            self._json(
                "edgepack", "bundle", "create", f"{SERVICE}:2", "-o", "cancer-2.bundle", "--key", "demo",
                "--since", "receipt.json",
            )  # fmt: skip
            self._import("cancer-2.bundle")
            digest = second["digest"]
            self._apply(digest)
            self._score("2")
            moved, size = (self.folder / "cancer-2.bundle").stat().st_size, second["platforms"][0]["size"]
            self.say(f"   moved {human(moved)} to update an image of {human(size)}: {moved / size:.1%}")

            self._heading("Back to the first version, with no network")
            self._services("rollback", SERVICE)
            digest = first["digest"]
            self._score("1")
        finally:
            if digest is not None:
                self._heading("Stop what was started")
                self._apply(digest, status="stopped")
                self._write_desired(START, digest, "running")

    def _heading(self, text: str) -> None:
        self.say(f"\n== {text}")

    def _package(self, version: str) -> dict[str, Any]:
        model = f"{SERVICE}:{version}"
        found = self._json(
            "edgepack", "model", "register", "-n", SERVICE, "-p", f"cancer-{version}.joblib",
            "--framework", "ScikitLearn", "--sample-input", f"rows-{version}.json",
        )  # fmt: skip
        self.say(f"   {found['id']}: {human(found['size'])}")
        converted = self._json("edgepack", "model", "convert", "-m", model, "--report", f"parity-{version}.json")
        parity = converted["report"]["summary"]
        self.say(
            f"   equal to the original on {parity['rows']} rows: labels {parity['label_agreement']:.0%}, "
            f"largest difference {parity['max_abs']:.1e}"
        )
        built = self._json("edgepack", "package", "build", "-m", model, "-t", model)
        for image in built["platforms"]:
            self.say(
                f"   {image['platform']}: {human(image['size'])} compressed, {human(image['unpacked_size'])} "
                f"unpacked, {human(image['new_bytes'])} new in {len(image['layers'])} layers"
            )
        return dict(built)

    def _import(self, bundle: str) -> None:
        found = self._agent("import", bundle)
        self.say(
            f"   {bundle} is {human((self.folder / bundle).stat().st_size)}; "
            f"{human(found['moved_bytes'])} imported, {human(found['present_bytes'])} already present"
        )

    def _apply(self, digest: str, status: str = "running") -> None:
        document = self._write_desired("desired.json", digest, status)
        self.say("$ cat desired.json\n   " + document.replace("\n", "\n   "))
        self._services("apply", "desired.json")

    def _write_desired(self, name: str, digest: str, status: str) -> str:
        service = {"name": SERVICE, "image": digest, "port": self.port, "status": status}
        document = json.dumps({"schema": "edgepack.desired/v1", "services": [service]}, indent=2)
        (self.folder / name).write_text(document)
        return document

    def _services(self, *words: str) -> None:
        for one in self._agent(*words)["services"]:
            last_good = one["last_good"] and one["last_good"][:19]
            self.say(
                f"   {one['name']} is {one['state']} on port {one['port']} by {one['runtime']}: "
                f"{one['digest'][:19]}, last good {last_good or 'none'}"
            )

    def _score(self, version: str) -> None:
        body = (self.folder / f"rows-{version}.json").read_bytes()
        expected = json.loads((self.folder / f"answers-{version}.json").read_bytes())
        url = f"http://127.0.0.1:{self.port}/score"
        self.say(f"$ curl -d @rows-{version}.json -H 'Content-Type: application/json' {url}")
        started = time.perf_counter()
        answers = _post(self.port, body)
        spent = time.perf_counter() - started
        if len(answers) != len(expected):
            raise EdgepackError(f"{len(answers)} answers to {len(expected)} rows", where=url)
        worst = max(abs(a - b) for one, two in zip(answers, expected, strict=True)
                    for a, b in zip(one, two, strict=True))  # fmt: skip
        if worst > 1e-4:
            raise EdgepackError(f"differs from the trained model by {worst:.1e}", where=url)
        self.say(f"   {json.dumps([[round(cell, 4) for cell in row] for row in answers])}")
        self.say(f"   {len(answers)} rows in {spent * 1000:.1f} ms; the trained model itself differs by {worst:.1e}")

    def _agent(self, *words: str) -> Any:
        return self._json("edge-agent", "--state-dir", "device", "--runtime", self.runtime, *words)

    def _json(self, *words: str) -> Any:
        text = self._shell(*words, env={"EDGEPACK_OUTPUT": "json"}, show=False)
        return json.loads(text) if text.strip() else None

    def _shell(self, *words: str, env: Mapping[str, str] | None = None, show: bool = True) -> str:
        self.say(f"$ {shlex.join(words)}")
        program = sys.executable if words[0] == "python" else str(Path(sys.executable).parent / words[0])
        started = time.perf_counter()
        done = subprocess.run(
            [program, *words[1:]],
            cwd=self.folder,
            env={**os.environ, "EDGEPACK_WORKSPACE": "workspace", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            ended = f"ended with code {done.returncode}"
            raise EdgepackError(ended, where=shlex.join(words), hint="read what it wrote")
        if show and done.stdout.strip():
            self.say(f"   {done.stdout.strip()}")
        self.say(f"   {time.perf_counter() - started:.1f} s")
        return done.stdout


def _post(port: int, body: bytes) -> list[list[float]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/score", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
    except OSError as error:
        raise EdgepackError(f"no answer ({error})", where=f"http://127.0.0.1:{port}/score") from error
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise EdgepackError(f"answered {answer.status}: {data.decode(errors='replace')}", where=f"port {port}")
    return list(json.loads(data))
