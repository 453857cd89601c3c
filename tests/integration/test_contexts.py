"""Build contexts in real engines: the image that Docker and Podman make of one is the image that we make."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support.images import Site, expected, rows, wait_healthy
from tests.integration.test_image_engines import alive, container
from tests.support.http_client import ask
from tests.support.image_trees import Node, of_archive, of_store
from tests.support.parts import remove_tree, unmount_below
from tests.support.ports import free_port
from tests.support.running import run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# The only things that may differ between the image that an engine builds of a context and ours, each with its reason.
ALLOWED = {
    "time of a folder": "COPY makes the folders above its target at the time of the build",
    "label io.buildah.version": "Buildah signs what it builds",
    "Cmd": "engines write an empty list where we write nothing",
}
STEPS = """\
ARG WHO=world
RUN ["/usr/bin/python3.11", "-c", "import numpy; open('/opt/numpy.txt', 'w').write(numpy.__version__)"]
RUN umask 077 && echo "hello $WHO" > /opt/hello.txt
ENV GREETING="hello  $WHO"
EXPOSE 8080
LABEL team=blue
"""
OF_STEPS = {"opt/numpy.txt", "opt/hello.txt"}
SCRIPT = """\
import json, os
import numpy, onnxruntime
from beside.names import LABEL

def init():
    global session
    folder = os.environ["AZUREML_MODEL_DIR"]
    session = onnxruntime.InferenceSession(os.path.join(folder, "mlp.onnx"), providers=["CPUExecutionProvider"])

def run(data):
    rows = numpy.array(json.loads(data)["data"], "float32")
    return {LABEL: session.run(None, {"X": rows})[0].tolist(), "greeting": os.environ.get("GREETING")}
"""


@pytest.fixture(scope="module")
def inputs(site: Site) -> tuple[str, ...]:
    """A script whose folder has a name that means something to shells, Dockerfiles and patterns, and extra steps."""
    source = site.folder / "my [co$de] *"
    (source / "beside").mkdir(parents=True)
    (source / "score.py").write_text(SCRIPT)
    (source / "beside/__init__.py").write_text("")
    (source / "beside/names.py").write_text("LABEL = 'probabilities'\n")
    (source / "link.py").symlink_to("beside/names.py")
    (site.folder / "steps.txt").write_text(STEPS)
    words = ("-m", "mlp:1", "--source-directory", str(source), "--entry-script", "score.py")
    return *words, "--platform", "linux/amd64"


@pytest.fixture(scope="module")
def context(site: Site, inputs: tuple[str, ...]) -> Path:
    folder = site.folder / "con text"
    mask = os.umask(0o077)
    try:
        site.commands.edgepack("package", "save", *inputs, "--dockerfile-steps", "steps.txt", "-o", folder)
    finally:
        os.umask(mask)
    return folder


@pytest.fixture(scope="module")
def docker(engine: str) -> tuple[str, ...]:
    return "docker", "--host", engine


@pytest.fixture(scope="module")
def built(docker: tuple[str, ...], context: Path) -> str:
    """What Docker makes of the context, with no network at all."""
    run(*docker, "build", "--network=none", "--tag", "context:1", context)
    return "context:1"


def image_in(client: tuple[str, ...], name: str, folder: Path) -> tuple[dict[str, Node], Any]:
    run(*client, "save", "--output", folder / "saved.tar", name)
    return of_archive(folder / "saved.tar")


def assert_same(ours: Mapping[str, Node], theirs: Mapping[str, Node], without: frozenset[str] = frozenset()) -> None:
    """Path by path: kind, mode, owner and content, and the time of files and links."""
    assert theirs.keys() - without == ours.keys() - without
    seen = set()
    for path in ours.keys() - without:
        one, other = ours[path], theirs[path]
        assert (one.kind, one.mode, one.uid, one.gid, one.content) == (
            other.kind, other.mode, other.uid, other.gid, other.content,
        ), path  # fmt: skip
        if one.mtime != other.mtime:
            seen.add(f"time of a {'folder' if one.kind == 'dir' else one.kind}")
    assert seen <= ALLOWED.keys()


def settings(config: Any) -> dict[str, Any]:
    """How an image is run, without what ``ALLOWED`` names."""
    found = config["config"]
    names = ("Env", "Entrypoint", "User", "WorkingDir", "ExposedPorts", "StopSignal", "Healthcheck")
    labels = {name: text for name, text in found["Labels"].items() if f"label {name}" not in ALLOWED}
    assert not found.get("Cmd")
    return {name: found.get(name) for name in names} | {"Labels": labels, "for": config["architecture"]}


def assert_answers(client: tuple[str, ...], image: str, site: Site, *options: str, port: int) -> None:
    with container(client, image, *options) as name:
        wait_healthy(port, 60, lambda: alive(client, name))
        answer = ask(port, "POST", "/score", json.dumps({"data": rows()}), {"Content-Type": "application/json"}).json
        assert answer["greeting"] == "hello  world"
        for one, two in zip(answer["probabilities"], expected(site.models[1]), strict=True):
            assert one == pytest.approx(two, abs=1e-5)


@pytest.mark.real("dockerd", "docker", "ip")
def test_what_docker_builds_of_a_context_is_what_the_engine_build_makes(
    site: Site, docker: tuple[str, ...], engine: str, inputs: tuple[str, ...], built: str, place: Path
) -> None:
    theirs, their_config = image_in(docker, built, place)
    words = (*inputs, "--dockerfile-steps", "steps.txt", "--engine", "docker", "-t", "stepped:1")
    done = site.commands.edgepack("package", "build", *words, DOCKER_HOST=engine)
    assert "numpy; open" in done.stderr  # the engine's log
    layers = done.json["platforms"][0]["layers"]
    assert [layer["kind"] for layer in layers] == [
        "base", "wheel", "wheel", "wheels", "step", "step", "server", "code", "config", "model",
    ]  # fmt: skip
    ours, our_config = of_store(site.commands.blobs, done.json["platforms"][0]["digest"])
    assert_same(ours, theirs)
    assert settings(our_config) == settings(their_config)
    said = site.commands.edgepack("package", "verify", "stepped:1", "--rebuild", code=3).stderr
    assert "extra steps: an engine executed steps of a Dockerfile" in said
    # Without the steps, the same image but for what they made, and with the very layers.
    plain = site.commands.edgepack("package", "build", *inputs, "-t", "plain:1").json["platforms"][0]
    assert theirs.keys() > OF_STEPS
    assert_same(of_store(site.commands.blobs, plain["digest"])[0], theirs, frozenset(OF_STEPS))
    shared = {layer["digest"] for layer in layers if layer["kind"] != "step"}
    assert shared == {layer["digest"] for layer in plain["layers"]}


@pytest.mark.real("dockerd", "docker", "ip")
def test_what_docker_builds_of_a_context_answers(site: Site, docker: tuple[str, ...], built: str) -> None:
    port = free_port()
    assert_answers(docker, built, site, "--publish", f"127.0.0.1:{port}:5001", port=port)


@pytest.mark.real("dockerd", "docker", "ip")
def test_a_change_of_code_in_a_context_builds_with_what_is_there(
    docker: tuple[str, ...], context: Path, built: str
) -> None:
    script = next(context.glob("azureml-app/my*/score.py"))
    text = script.read_text()
    script.write_text(text.replace('"greeting"', '"Greeting"'))
    script.chmod(0o600)
    try:
        said = run(*docker, "build", "--network=none", "--tag", "context:2", context)
    finally:
        script.write_text(text)
    again = [line for line in said.splitlines() if line.startswith(" ---> Running in")]
    assert len(again) <= 10  # one RUN, and lines of the configuration
    shown = 'import os, stat; print(oct(stat.S_IMODE(os.stat("/var/azureml-app/my [co$de] */score.py").st_mode)))'
    assert run(*docker, "run", "--rm", "--entrypoint", "/usr/bin/python3.11", "context:2", "-c", shown) == "0o644\n"


@pytest.mark.real("dockerd", "docker", "ip")
def test_a_step_that_fails_is_named_with_its_last_lines_and_changes_nothing(
    site: Site, engine: str, inputs: tuple[str, ...]
) -> None:
    (site.folder / "bad.txt").write_text("RUN echo almost && exit 7\n")
    before = site.commands.blob_sizes()
    words = (*inputs, "--dockerfile-steps", "bad.txt", "--engine", "docker", "-t", "bad:1")
    done = site.commands.edgepack("package", "build", *words, code=1, DOCKER_HOST=engine)
    last = done.stderr.splitlines()[-1]
    assert "step RUN echo almost && exit 7: failed:" in last
    assert "code: 7; its last lines: almost; correct the step; it reaches a network with --allow-network" in last
    assert site.commands.blob_sizes() == before
    assert "bad:1" not in {image["tag"] for image in site.commands.edgepack("package", "list").json}


def test_an_engine_that_is_not_there_is_named(site: Site, inputs: tuple[str, ...]) -> None:
    (site.folder / "s.txt").write_text("RUN true\n")
    words = (*inputs, "--dockerfile-steps", "s.txt", "--engine", "docker", "-t", "bad:1")
    done = site.commands.edgepack("package", "build", *words, code=1, DOCKER_HOST="unix:///nowhere.sock")
    assert "--engine docker: no container engine answers; start Docker or Podman, or set DOCKER_HOST" in done.stderr


@pytest.fixture(scope="module")
def podman() -> Iterator[tuple[str, ...]]:
    folder = Path(tempfile.mkdtemp(prefix="edi-p-"))
    client = ("podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--runtime", "runc")
    try:
        yield (*client, "--cgroup-manager", "cgroupfs")
    finally:
        unmount_below(folder)
        remove_tree(folder)


@pytest.mark.whole
@pytest.mark.real("podman", "runc")
def test_what_podman_builds_of_a_context_is_the_same(
    site: Site, podman: tuple[str, ...], inputs: tuple[str, ...], place: Path
) -> None:
    # Podman 4.3 looks for the name that it found by a pattern once more as a pattern.
    plainly = site.folder / "my co$de"
    shutil.copytree(inputs[inputs.index("--source-directory") + 1], plainly, symlinks=True)
    inputs = tuple(str(plainly) if "co$de" in word else word for word in inputs)
    limits = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
    site.commands.edgepack("package", "save", *inputs, "-o", place / "for podman")
    run(*podman, "build", "--network=none", *limits, "--tag", "context:1", place / "for podman")
    theirs, their_config = image_in(podman, "localhost/context:1", place)
    plain = site.commands.edgepack("package", "build", *inputs, "-t", "plain:1").json["platforms"][0]
    ours, our_config = of_store(site.commands.blobs, plain["digest"])
    assert_same(ours, theirs)
    assert settings(our_config) == settings(their_config)


@pytest.mark.real("docker-registry", "dockerd", "docker", "ip")
def test_a_base_in_a_registry_is_named_by_its_digest(
    site: Site, docker: tuple[str, ...], registry: int, place: Path
) -> None:
    repository = f"127.0.0.1:{registry}/team/bases"
    words = ("-m", "mlp:1", "--platform", "linux/amd64", "--base-registry", repository, "-o", place / "on-base")
    (saved,) = site.commands.edgepack("package", "save", *words).json
    assert saved["base"].startswith(f"{repository}@sha256:")
    assert not (place / "on-base/base").exists()
    first = (place / "on-base/Dockerfile").read_text().splitlines()[2]
    assert first == f"FROM --platform=linux/amd64 {saved['base']} AS base"
    # The engine takes it: no step runs before the packages'.
    (place / "on-base/Dockerfile").write_text(f"{first}\nUSER 0:0\n")
    run(*docker, "build", "--network=none", "--tag", "based:1", place / "on-base")
