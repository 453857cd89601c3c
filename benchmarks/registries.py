"""Push and pull of 500 MB of random bytes, beside ``skopeo copy`` of the same image; and what a new model moves.

Against Debian's docker-registry on this machine, alternating, a fresh registry and a fresh workspace each time. Limits:
at most 1.25 times as long as skopeo; a push after a change of the model moves its layer and 64 KiB of documents.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.lab import edgepack, median, seconds, write_model

ROUNDS = 5
# Bytes of the layers: one that is long, and a few beside it.
LAYERS = (250_000_000, 150_000_000, 75_000_000, 25_000_000)


def main() -> None:
    """Run it and print it."""
    if shutil.which("skopeo") is None or shutil.which("docker-registry") is None:
        print("push and pull                         not measured: skopeo or docker-registry is missing")
        return
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as name:
        folder = Path(name)
        _make_image(folder)
        ours_push, ours_pull, theirs_push, theirs_pull = [], [], [], []
        for number in range(ROUNDS):
            with _registry(folder / f"a{number}") as port:
                ours_push.append(seconds(lambda: _push(folder, port)))
                ours_pull.append(seconds(lambda: _pull(folder, port)))
            with _registry(folder / f"b{number}") as port:
                theirs_push.append(seconds(lambda: _skopeo(f"oci:{folder}/layout:bench", _address(port))))
                theirs_pull.append(seconds(lambda: _skopeo(_address(port), f"oci:{folder}/copy:bench")))
            shutil.rmtree(folder / "copy")
        for what, ours, theirs in (("push", ours_push, theirs_push), ("pull", ours_pull, theirs_pull)):
            ratio = statistics.median(one / two for one, two in zip(ours, theirs, strict=True))
            print(f"{what} of 500 MB                        {median(ours)}")
            print(f"skopeo copy                           {median(theirs)}")
            print(f"{what} : skopeo                         {ratio:.2f} times as long, of 1.25")
        _new_model(folder)


def _new_model(folder: Path) -> None:
    """What arrives at a registry after a new version of a model of 20 MB, counted on the wire."""
    workspace, sizes = folder / "models", []
    with _registry(folder / "registry") as port, _counting(port) as (wire, counted):
        for version in (1, 2):
            model = folder / f"model-{version}.onnx"
            write_model(model, version, 20_000_000)
            edgepack(workspace, "model", "register", "-n", "m", "-p", str(model))
            edgepack(workspace, "package", "build", "-m", "m", "-t", "m:1")
            before = sum(counted)
            edgepack(workspace, "package", "push", "m:1", f"127.0.0.1:{wire}/m:1")
            sizes.append(sum(counted) - before)
        layers = edgepack(workspace, "package", "inspect", "m:1")["platforms"][0]["layers"]
        moved = sum(layer["size"] for layer in layers if layer["kind"] == "model")
    print(f"first push of a package               {sizes[0]:,} bytes")
    more = sizes[1] - moved
    print(f"push after a new model of 20 MB       {sizes[1]:,} bytes   {more:,} more than its layer, of 65,536")


def _make_image(folder: Path) -> None:
    """The tag ``bench:1`` of a workspace and the same image in a layout, of layers that do not compress."""
    from edgepack.oci import mediatypes
    from edgepack.oci.config import ImageConfig
    from edgepack.oci.descriptor import Platform
    from edgepack.oci.layer import LayerEntry, NoCompression, write_layer
    from edgepack.oci.manifest import Manifest
    from packager.workspaces.workspace import Workspace

    store = Workspace(folder / "workspace").store
    layers = [
        write_layer([LayerEntry.of_bytes(f"opt/{size}", os.urandom(size))], store, NoCompression(), kind="model")
        for size in LAYERS
    ]
    config = ImageConfig(Platform("linux", "amd64"), tuple(layer.diff_id for layer in layers))
    described = store.put_bytes(config.to_bytes(), mediatypes.CONFIG)
    manifest = Manifest(described, tuple(layer.descriptor for layer in layers))
    store.tag("bench:1", store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST))
    edgepack(folder / "workspace", "package", "push", "bench:1", f"oci:{folder}/layout:bench")


def _address(port: int) -> str:
    return f"docker://127.0.0.1:{port}/bench:1"


def _push(folder: Path, port: int) -> None:
    edgepack(folder / "workspace", "package", "push", "bench:1", f"127.0.0.1:{port}/bench:1")


def _pull(folder: Path, port: int) -> None:
    workspace = folder / f"pulled-{port}"
    edgepack(workspace, "package", "pull", f"127.0.0.1:{port}/bench:1")


def _skopeo(source: str, target: str) -> None:
    subprocess.run(
        ["skopeo", "copy", "-q", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false",
         source, target],
        check=True,
    )  # fmt: skip


@contextmanager
def _registry(folder: Path) -> Iterator[int]:
    """An empty registry; gives its port. What was pulled from it goes with it."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "bench"},
    }
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log, env={"PATH": "/usr/bin"}
        )
    try:
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        else:
            sys.exit(f"docker-registry did not start, see {folder / 'log'}")
        yield port
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)
        shutil.rmtree(folder.parent / f"pulled-{port}", ignore_errors=True)


@contextmanager
def _counting(target: int) -> Iterator[tuple[int, list[int]]]:
    """A wire to ``target`` and the numbers of bytes that went there."""
    counted: list[int] = []

    def pump(source: socket.socket, sink: socket.socket, *, count: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if count:
                    counted.append(len(data))
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", target))
                threading.Thread(target=pump, args=(near, far), kwargs={"count": True}, daemon=True).start()
                threading.Thread(target=pump, args=(far, near), kwargs={"count": False}, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], counted


if __name__ == "__main__":
    main()
