"""Images with an entry script, or with several models, run as on a device: read-only, no rights, no network."""

from __future__ import annotations

import ctypes
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from edge_agent.runtimes.crun import CrunRuntime
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.state.desired import DesiredService
from tests.integration.support.images import Commands, expected, image_of, rows, write_model
from tests.support.http_client import ask
from tests.support.parts import processes_with, remove_tree
from tests.support.ports import free_port
from tests.support.running import run

pytestmark = [
    pytest.mark.real("crun", "ip"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

PLATFORM = "linux/amd64"
CLONE_NEWNET = 0x40000000  # linux/sched.h
T = TypeVar("T")

# Written for the service of the specification; numpy and onnxruntime are all that it needs.
SCRIPT = """
import json
import os

import numpy as np
import onnxruntime
from azureml.core.model import Model

from helpers.tables import to_table


def init():
    global session
    session = onnxruntime.InferenceSession(Model.get_model_path("mlp"))


def run(data):
    asked = json.loads(data)
    if "data" in asked:
        return session.run(None, {"X": to_table(asked["data"])})[0].tolist()
    return look_around()


def look_around():
    import socket

    from azureml.contrib.services.aml_request import AMLRequest, rawhttp
    from azureml.contrib.services.aml_response import AMLResponse
    from azureml.monitoring import ModelDataCollector
    from inference_schema.schema_decorators import input_schema

    functions = (Model.get_model_path, AMLRequest.__init__, rawhttp, AMLResponse.__init__, ModelDataCollector.collect,
                 input_schema)
    written = []
    for folder in ("/", "/opt/edgepack", "/var/azureml-app", os.path.dirname(__file__), os.getcwd(), "/tmp"):
        try:
            with open(os.path.join(folder, "probe"), "w"):
                written.append(folder)
        except OSError:
            pass
    with open("/proc/self/mounts") as mounts:
        kinds = [line.split() for line in mounts]
    return {
        "ours": [function.__code__.co_filename for function in functions],
        "written": written,
        "in_tmp": os.listdir("/tmp"),
        "writable_mounts": [at for _, at, kind, options, *_ in kinds if "rw" in options.split(",")],
        "user": [os.getuid(), os.getgid()],
        "model_dir": os.environ["AZUREML_MODEL_DIR"],
        "cards": [name for _, name in socket.if_nameindex()],
    }
"""


class Alone:
    """A thread whose network is a loopback of its own; what it starts shares it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self.call(self._leave)

    def call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call `function` there."""
        return self._pool.submit(function, *arguments, **options).result(120)

    def close(self) -> None:
        self._pool.shutdown()

    @staticmethod
    def _leave() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "the network cannot be left")
        run("ip", "link", "set", "lo", "up")


@dataclass(frozen=True)
class Device:
    """Runs images of the workspace by crun; `alone` is where its network is."""

    runtime: CrunRuntime
    alone: Alone

    def start(self, name: str, built: Any, **env: str) -> int:
        """Start a container and wait until it is ready, or has ended; its port."""
        image = Digest.parse(image_of(built, PLATFORM)["digest"])
        self.runtime.prepare(image)
        port: int = free_port()
        self.alone.call(self.runtime.start, DesiredService(name, image, port, env=env))
        end = time.monotonic() + 60
        while self._runs(name) and not self._answers(port):
            assert time.monotonic() < end, self.runtime.logs(name)
            time.sleep(0.05)
        return port

    def ask(self, port: int, method: str, path: str, document: Any = None) -> tuple[int, Any]:
        """One request from beside the container; status, and the answer's JSON."""
        body = None if document is None else json.dumps(document)
        headers = {"Content-Type": "application/json"} if body else {}
        answer = self.alone.call(ask, port, method, path, body, headers)
        return answer.status, answer.json

    def _runs(self, name: str) -> bool:
        found = self.runtime.inspect(name)
        return found is not None and found.state == "running"

    def _answers(self, port: int) -> bool:
        try:
            return self.alone.call(ask, port, "GET", "/").body == b"Healthy"
        except OSError:
            return False


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="eds-"))
    made.chmod(0o755)
    yield made
    remove_tree(made)


@pytest.fixture(scope="module")
def workshop(folder: Path) -> Commands:
    """A workspace with two models, and two source directories: one whose script starts, and one whose does not."""
    commands = Commands(folder, folder / "workspace")
    for name, seed in (("mlp", 1), ("other", 2)):
        (folder / name).mkdir()
        commands.register(write_model(folder / name / "mlp.onnx", seed, hidden=64), name)
    source = folder / "code"
    (source / "helpers").mkdir(parents=True)
    (source / "score.py").write_text(SCRIPT)
    (source / "helpers/__init__.py").touch()
    (source / "helpers/tables.py").write_text(
        "import numpy as np\n\n\ndef to_table(rows):\n    return np.array(rows, np.float32)\n"
    )
    (folder / "broken.py").write_text(
        "def init():\n    raise RuntimeError('the licence is missing')\n\n\ndef run(data):\n    return data\n"
    )
    return commands


@pytest.fixture(scope="module")
def script_image(workshop: Commands, folder: Path) -> Any:
    words = ("--entry-script", "score.py", "--source-directory", folder / "code")
    return workshop.build("mlp:1", "script:1", *words, platform=PLATFORM)


@pytest.fixture(scope="module")
def device(workshop: Commands, script_image: Any, folder: Path) -> Iterator[Device]:
    state = folder / "device"
    state.mkdir()
    alone = Alone()
    runtime = CrunRuntime(state, Store.open_existing(workshop.workspace / "store"))
    made = Device(runtime, alone)
    yield made
    for name in ("script", "models", "several", "broken", "own"):
        runtime.stop(name)
    alone.close()
    assert processes_with(str(state)) == []


def test_a_script_in_an_image_serves_and_writes_nothing(
    workshop: Commands, folder: Path, script_image: Any, device: Device
) -> None:
    port = device.start("script", script_image)
    status, answer = device.ask(port, "POST", "/score", {"data": rows()})
    wanted = expected(folder / "mlp/mlp.onnx")
    assert (status, answer) == (200, [pytest.approx(row, abs=1e-5) for row in wanted])
    status, seen = device.ask(port, "POST", "/score", {})
    assert status == 200, device.runtime.logs("script")
    assert len(seen["ours"]) == 6
    assert all(path.startswith("/opt/edgepack/server/edge_server/") for path in seen["ours"]), seen["ours"]
    assert seen["written"] == ["/tmp"]
    assert seen["in_tmp"] == ["probe"]
    writable = {mount for mount in seen["writable_mounts"] if not mount.startswith(("/proc", "/dev"))}
    assert writable == {"/tmp"}
    assert seen["user"] == [10001, 10001]
    assert seen["model_dir"] == "/var/azureml-app/azureml-models/mlp/1"
    assert seen["cards"] == ["lo"]
    assert device.ask(port, "GET", "/swagger.json")[0] == 200
    assert device.ask(port, "GET", "/v2/health/ready")[0] == 200
    device.runtime.stop("script")


def test_several_models_in_an_image_are_asked_for_by_name(workshop: Commands, folder: Path, device: Device) -> None:
    built = workshop.edgepack(
        "package", "build", "-m", "mlp:1", "-m", "other:1", "-t", "models:1", "--platform", PLATFORM
    ).json
    port = device.start("models", built)
    for name in ("mlp", "other"):
        wanted = expected(folder / name / "mlp.onnx")
        for model in (name, f"{name}:1"):
            status, answer = device.ask(port, "POST", f"/score?model={model}", {"data": rows()})
            assert (status, answer) == (200, [pytest.approx(row, abs=1e-5) for row in wanted])
        flat = [value for row in rows() for value in row]
        tensor = {"name": "X", "datatype": "FP32", "shape": [len(rows()), len(rows()[0])], "data": flat}
        status, answer = device.ask(port, "POST", f"/v2/models/{name}/infer", {"inputs": [tensor]})
        assert status == 200
        assert answer["outputs"][0]["data"] == pytest.approx([value for row in wanted for value in row], abs=1e-5)
    assert device.ask(port, "POST", "/score?model=third", {"data": rows()})[0] == 404
    device.runtime.stop("models")


# What the specification's examples of one model and of several ask for, and what get_model_path refuses.
LOCATE = """
import json
import os

from azureml.core.model import Model

from tables import OPENED


def init():
    global root, opened
    root = os.environ["AZUREML_MODEL_DIR"]
    with open(os.path.join(root, "tokens", "1", "tokens", "words.txt")) as words:
        opened = words.read()


def run(data):
    found = {}
    for name, version in json.loads(data):
        try:
            found[f"{name}:{version!r}"] = Model.get_model_path(name, version=version)
        except Exception as error:
            found[f"{name}:{version!r}"] = f"{type(error).__name__}: {error}"
    return {"root": root, "opened": opened, "paths": found, "greeting": os.environ["GREETING"], "ours": OPENED,
            "inside": sorted(os.listdir(root)), "script": os.path.abspath(__file__)}
"""


def test_several_models_are_found_by_a_script_of_an_inference_configuration(
    workshop: Commands, folder: Path, device: Device
) -> None:
    project = folder / "several"
    (project / "src/nested").mkdir(parents=True)
    (project / "tokens").mkdir()
    (project / "tokens/words.txt").write_text("some words")
    (project / "a.bin").write_bytes(b"a")
    (project / "src/nested/locate.py").write_text(LOCATE)
    (project / "src/tables.py").write_text("OPENED = 'tables'\n")
    (folder / "mlp/other").mkdir()
    workshop.register(write_model(folder / "mlp/other/mlp.onnx", 3, hidden=64), "mlp")
    workshop.register(project / "tokens", "tokens")
    workshop.edgepack("model", "register", "-n", "pair", "-p", project / "a.bin", "-p", project / "tokens/words.txt")
    packages = {"dependencies": ["python=3.11"]}
    described = {"name": "e", "environmentVariables": {"GREETING": "hi"}, "python": {"condaDependencies": packages}}
    said = {"entryScript": "nested/locate.py", "sourceDirectory": "several/src", "environment": described,
            "description": "Finds models"}  # fmt: skip
    (folder / "several.json").write_text(json.dumps(said))
    (folder / "several-service.json").write_text('{"entry_script": {"workers": 2}, "limits": {"body_bytes": 64}}')
    words = ("-m", "mlp:2", "-m", "tokens", "-m", "pair:1", "--ic", "several.json", "--service-config",
             "several-service.json")  # fmt: skip
    built = workshop.build("mlp:1", "several:1", *words, platform=PLATFORM)
    store = Store.open_existing(workshop.workspace / "store")
    manifest = store.manifest(store.resolve("several:1"))
    assert manifest.annotations["org.opencontainers.image.description"] == "Finds models"

    port = device.start("several", built)
    root = "/var/azureml-app/azureml-models"
    asked = [("mlp", None), ("mlp", 1), ("mlp", 3), ("mlp", "1")]
    status, seen = device.ask(port, "POST", "/score", asked)
    assert status == 200, device.runtime.logs("several")
    assert (seen["root"], seen["opened"], seen["greeting"], seen["ours"]) == (root, "some words", "hi", "tables")
    assert seen["inside"] == ["mlp", "pair", "tokens"]
    assert seen["script"] == "/var/azureml-app/src/nested/locate.py"
    paths = seen["paths"]
    assert (paths["mlp:None"], paths["mlp:1"]) == (f"{root}/mlp/2/mlp.onnx", f"{root}/mlp/1/mlp.onnx")
    assert paths["mlp:'1'"].startswith("WebserviceException: version should be an int")
    assert paths["mlp:3"].startswith("WebserviceException: Model mlp of version 3 not found")
    status, seen = device.ask(port, "POST", "/score", [("tokens", None), ("pair", 1), ("third", None)])
    assert status == 200, device.runtime.logs("several")
    assert seen["paths"]["tokens:None"] == f"{root}/tokens/1/tokens"
    assert seen["paths"]["pair:1"].startswith("WebserviceException: Dir ")
    assert seen["paths"]["third:None"].startswith("ModelNotFoundException: Model third not found")
    assert device.ask(port, "POST", "/score", [("mlp", None)] * 20)[0] == 413
    device.runtime.stop("several")


def test_a_users_own_scoring_package_is_imported_in_an_image(
    workshop: Commands, folder: Path, tmp_path: Path, device: Device
) -> None:
    source = tmp_path / "own"
    (source / "scoring").mkdir(parents=True)
    (source / "scoring/features.py").write_text("def double(x):\n    return 2 * x\n")
    (source / "packager.py").write_text("ONE = 1\n")
    (source / "score.py").write_text(
        "from packager import ONE\nfrom scoring.features import double\n\n\ndef init():\n    pass\n\n\n"
        "def run(data):\n    return double(21) + ONE\n"
    )
    words = ("--entry-script", "score.py", "--source-directory", source)
    built = workshop.build("mlp:1", "own:1", *words, platform=PLATFORM)
    port = device.start("own", built)
    assert device.ask(port, "POST", "/score", {}) == (200, 43), device.runtime.logs("own")
    device.runtime.stop("own")


def test_a_script_that_cannot_start_ends_its_container(workshop: Commands, folder: Path, device: Device) -> None:
    built = workshop.build("mlp:1", "broken:1", "--entry-script", folder / "broken.py", platform=PLATFORM)
    device.start("broken", built)
    ended = device.runtime.inspect("broken")
    assert ended is not None
    assert (ended.state, ended.exit_code) == ("exited", 5)
    said = [line for line in device.runtime.logs("broken").splitlines() if line.startswith("edge-server: ")]
    assert len(said) == 1
    assert "the licence is missing" in said[0]
    assert "(/var/azureml-app/broken.py, line 2)" in said[0]
    device.runtime.stop("broken")


def test_an_image_with_a_script_is_small(script_image: Any) -> None:
    image = image_of(script_image, PLATFORM)
    assert image["unpacked_size"] <= 130_000_000
    layers = image["layers"]
    assert [layer["kind"] for layer in layers] == [
        "base", "wheel", "wheel", "wheels", "server", "code", "config", "model"
    ]  # fmt: skip
    assert {layer["title"].split()[0] for layer in layers if layer["kind"] == "wheel"} == {"numpy", "onnxruntime"}
    own = sum(layer["unpacked_size"] for layer in layers if layer["kind"] in ("wheels", "server"))
    assert own <= 6_000_000
