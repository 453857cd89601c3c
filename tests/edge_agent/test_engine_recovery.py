"""An engine that restarts, loses containers or all that it has, or keeps damaged layers: our own store has it all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from edge_agent.runtimes.base import Runtime
from edge_agent.runtimes.engine import images
from edge_agent.runtimes.engine.oom import killed_at
from edgepack.errors import NotFoundError, RuntimeFailedError
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer, LayerEntry, NoCompression, write_layer
from edgepack.oci.store import Store
from edgepack.state.desired import DesiredService
from tests.edge_agent.support.engines import podman_engine
from tests.edge_agent.support.runtimes import build_image, make_runtime
from tests.support.parts import docker_engine
from tests.support.running import run
from tests.support.waiting import wait_until

# A program in one file, which needs nothing of an image and is there where Docker is.
PROGRAM = Path("/usr/bin/tini-static")
pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not PROGRAM.exists(), reason="needs root and tini")
ENGINES: dict[str, Callable[[Path], AbstractContextManager[str]]] = {"docker": docker_engine, "podman": podman_engine}
KINDS = [
    pytest.param("docker", marks=pytest.mark.real("dockerd", "ip")),
    pytest.param("podman", marks=[pytest.mark.real("podman", "runc"), pytest.mark.whole]),
]


class Place:
    """A folder for an engine and a device, and an image that prints its version and ends."""

    def __init__(self, folder: Path, kind: str, port: int) -> None:
        self.folder = folder
        self.kind = kind
        self.store = Store.create(folder / "device/store")
        self.base = write_layer(
            [LayerEntry.of_bytes("bin/program", PROGRAM.read_bytes(), 0o755)], self.store, NoCompression(), kind="base"
        )
        self.image = self.make("one", self.base)
        self.spec = DesiredService("churn", self.image, port)

    def make(self, text: str, base: Layer) -> Digest:
        return build_image(self.store, base, text, entrypoint=("/bin/program", "--version"))

    def engine(self) -> AbstractContextManager[str]:
        return ENGINES[self.kind](self.folder)

    def ran(self, runtime: Runtime) -> None:
        wait_until(lambda: "version" in runtime.logs("churn"))
        wait_until(lambda: runtime.inspect("churn").exit_code == 0)  # type: ignore[union-attr]

    def damage(self) -> None:
        """What a power cut leaves of a layer that the engine had not written to the disk: zeros."""
        (path,) = self.folder.glob("*/overlay*/*/diff/opt/edgepack/server/app.py")
        path.write_bytes(bytes(path.stat().st_size))


@pytest.fixture
def place(request: pytest.FixtureRequest, free_port: Callable[[], int]) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="edp-r-"))
    yield Place(folder, request.node.callspec.params["kind"], free_port())
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_engine_loses_is_sent_again(place: Place, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(images, "sync_file_system", refuse)  # as to an agent that is not root
    monkeypatch.setattr(os, "sync", lambda: synced.append("all"))
    with place.engine() as address:
        runtime = make_runtime(kind, place.store, place.folder / "device", address)
        runtime.prepare(place.image)
        assert synced == ["all"]
        runtime.start(place.spec)
        place.ran(runtime)
        runtime._engine.remove("edgepack-churn")  # type: ignore[attr-defined]
        assert runtime.inspect("churn") is None
        runtime.start(place.spec)
        place.ran(runtime)
        watch = runtime.watch("churn")
        assert watch is None
        runtime.stop("churn", 1)  # Podman's own monitor would wait for a store that is gone
    with pytest.raises(RuntimeFailedError, match="the container engine refuses"):
        runtime.inspect("churn")
    for name in ("data", "root", "run"):
        shutil.rmtree(place.folder / name, ignore_errors=True)
    with place.engine():
        # The same object: an agent goes on while its engine is exchanged.
        assert runtime.inspect("churn") is None
        with pytest.raises(NotFoundError, match="is not prepared"):
            runtime.start(place.spec)
        runtime.prepare(place.image)
        runtime.start(place.spec)
        place.ran(runtime)
        runtime.stop("churn", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_is_damaged_where_the_engine_keeps_it_is_mended(place: Place, kind: str) -> None:
    with place.engine() as address:
        runtime = make_runtime(kind, place.store, place.folder / "device", address)
        runtime.prepare(place.image)
        assert runtime.mend(place.image) is False
        place.damage()
        assert runtime.mend(place.image) is True
        assert runtime.mend(place.image) is False
        runtime.start(place.spec)
        place.ran(runtime)
        run("docker", "--host", address, "create", "--name", "of-somebody", f"edgepack/image:{place.image.hex}")
        place.damage()
        with pytest.raises(RuntimeFailedError, match=r"other images or containers have them too.*system prune"):
            runtime.mend(place.image)
        runtime.stop("churn", 1)


def test_the_kernels_log_tells_of_a_lack_of_memory(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("6,1,2500000,-;oom-kill:constraint=CONSTRAINT_MEMCG,task_memcg=/libpod-abc,pid=1\n")
    assert killed_at("abc", str(tmp_path / "log")) == 2.5
    assert killed_at("abd", str(tmp_path / "log")) is None
    assert killed_at("abc", str(tmp_path / "absent")) is None
