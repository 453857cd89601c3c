"""A device that is changed by the real ``edge-agent`` command, with small signed images that came in real bundles."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.bundle.write import write_bundle
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer, LayerEntry, NoCompression, write_layer
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from edgepack.signing.keys import PrivateKey, create_key
from tests.edge_agent.support.runtimes import copy_store
from tests.support import forked
from tests.support.http_client import ask
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
DRIVER = Path(__file__).with_name("power_cut_driver.py")

# Answers its text on every path. It may be slow to answer, refuse, or end at once.
APP = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
text, status = %r, %r
print("starting", text, flush=True)
if status == "crash":
    print("no model \\x1b[31mhere", file=sys.stderr, flush=True)
    sys.exit(7)
server = socket.create_server((os.environ["EDGEPACK_HOST"], int(os.environ["EDGEPACK_PORT"])))
while True:
    connection, _ = server.accept()
    connection.recv(4096)
    connection.sendall(f"HTTP/1.0 {status} x\\r\\n\\r\\n{text} {os.getpid()}".encode())
    connection.close()
"""


@dataclass(frozen=True)
class Images:
    """Images of version 1 and 2, one that answers 503, one that ends at once, and one that nobody signed."""

    store: Store
    key: PrivateKey
    folder: Path
    digests: Mapping[str, Digest]

    def bundle(self, *names: str) -> Path:
        """A bundle of these images, signed; ``unsigned`` alone is in one that nobody signed."""
        path = self.folder / f"{'-'.join(names)}.bundle"
        if not path.exists():
            key = None if names == ("unsigned",) else self.key
            write_bundle(self.store, [f"{name}:1" for name in names], path, key=key)
        return path


def make_images(folder: Path, held: tuple[Store, Layer] | None = None) -> Images:
    """Build them, on a base layer that a store holds, or on next to nothing: the device's own Python runs them then."""
    store = Store.create(folder / "store") if held is None else copy_store(held[0], folder / "store")
    kinds = {"v1": "200", "v2": "200", "ill": "503", "crash": "crash", "unsigned": "200", "absent": "200"}
    digests = {}
    if held is None:
        base = write_layer([LayerEntry.of_bytes("etc/os", b"none\n")], store, NoCompression(), kind="base")
    else:
        base = held[1]
    for name, status in kinds.items():
        app = LayerEntry.of_bytes("opt/edgepack/server/app.py", (APP % (name, status)).encode())
        code = write_layer([app], store, NoCompression(), kind="code")
        config = ImageConfig(
            platform=Platform.host(),
            diff_ids=(base.diff_id, code.diff_id),
            env={"PYTHONPATH": "/opt/edgepack/server:/opt/edgepack/lib/python3.11/site-packages"},
            entrypoint=("/usr/bin/python3.11", "-m", "app"),
            user="10001:10001",
            exposed_ports=("5001/tcp",),
        )
        written = store.put_bytes(config.to_bytes(), mediatypes.CONFIG)
        manifest = Manifest(written, (base.descriptor, code.descriptor))
        image = store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST)
        store.tag(f"{name}:1", image)
        digests[name] = image.digest
    key = create_key()
    (folder / "key.pub").write_bytes(key.public.to_pem())
    return Images(store, key, folder, digests)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def services(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.out)["services"]
        return found


@dataclass
class Agent:
    """A device's folder, and the command."""

    root: Path
    images: Images
    port: int
    umask: int = -1  # as it is

    def environment(self, **more: str) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("EDGEPACK_")}
        return {**ours, "EDGEPACK_OUTPUT": "json", **more}

    def start(self, *words: str, driver: tuple[str, ...] = (), **more: str) -> subprocess.Popen[str]:
        """Start the command, or the driver that kills it on the way."""
        program = [str(DRIVER), *driver] if driver else ["-m", "edge_agent"]
        return subprocess.Popen(
            [sys.executable, *program, "--state-dir", str(self.root), "--runtime", "process", *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.environment(PYTHONPATH=str(ROOT), **more), umask=self.umask,
        )  # fmt: skip

    def run(self, *words: str, driver: tuple[str, ...] = (), **more: str) -> Done:
        """Run it to its end; without a driver, in a fork."""
        if not driver:
            argv = ("--state-dir", self.root, "--runtime", "process", *words)
            done = forked.finish("edge-agent", *argv, env=self.environment(**more), umask=self.umask)
            return Done(done.code, done.stdout, done.stderr)
        process = self.start(*words, driver=driver, **more)
        out, err = process.communicate(timeout=120)
        return Done(process.returncode, out, err)

    def ok(self, *words: str) -> Done:
        done = self.run(*words)
        assert done.code == 0, done.err
        return done

    def take_in(self, *names: str) -> None:
        """Trust the key, and import a bundle of these images."""
        self.ok("trust", str(self.images.folder / "key.pub"))
        words = ["--allow-unsigned"] if names == ("unsigned",) else []
        self.ok("import", str(self.images.bundle(*names)), *words)

    def document(self, image: str, *, serial: int | None = None, **fields: Any) -> str:
        """The path of a desired state with one service."""
        health = {"timeout_seconds": 6 if image == "ill" else 60}
        service = {"name": "churn", "image": str(self.images.digests[image]), "port": self.port, "health": health}
        value: dict[str, Any] = {"schema": "edgepack.desired/v1", "services": [service | fields]}
        if serial is not None:
            value["serial"] = serial
        path = self.root.parent / "desired.json"
        path.write_text(json.dumps(value))
        return str(path)

    def apply(self, image: str, *words: str, **fields: Any) -> Done:
        return self.run("apply", self.document(image, **fields), *words)

    def status(self) -> dict[str, Any]:
        """The one service, as ``status`` tells."""
        services = self.ok("status").services
        assert len(services) == 1
        return services[0]

    def answer(self) -> str:
        """What the service says it is."""
        answer = ask(self.port, "GET", "/")
        assert answer.status == 200
        return answer.body.decode().split()[0]

    def processes(self) -> list[int]:
        """The processes that run from the device's folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    cwd = (entry / "cwd").readlink()
                except OSError:
                    continue
                if cwd.is_relative_to(self.root.resolve()):
                    found.append(int(entry.name))
        return found

    def close(self) -> None:
        """Stop what runs."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        wait_until(lambda: not self.processes())
        # What watched them writes how they ended, and is gone a moment later.
        end = time.monotonic() + 30
        while self._is_held() and time.monotonic() < end:
            time.sleep(0.02)

    def _is_held(self) -> bool:
        """Whether another process has a file of the device's folder open."""
        root = self.root.resolve()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if any(file.readlink().is_relative_to(root) for file in (entry / "fd").iterdir()):
                    return True
            except OSError:
                continue
        return False
