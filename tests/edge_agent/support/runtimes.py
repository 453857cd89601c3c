"""What the runtimes' tests share: a small image, and each runtime by its name."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from pathlib import Path

from edge_agent.runtimes.base import Runtime
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer, LayerEntry, NoCompression, write_layer
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store

# Answers on its port with what it sees of the place where it runs.
APP = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
text = %r
print("starting", text, flush=True)
if os.environ.get("CRASH"):
    print("crashing", file=sys.stderr, flush=True)
    sys.exit(int(os.environ["CRASH"]))
eaten = [bytes([1]) * (1 << 20) for _ in range(int(os.environ.get("EAT", "0")))]
for number in range(int(os.environ.get("CHATTER", "0"))):
    print("line", number, flush=True)
def writable(path):
    try:
        with open(os.path.join(path, "probe.%%d" %% os.getpid()), "w"):
            return True
    except OSError:
        return False
def lines(path):
    with open(path) as file:
        return file.read().splitlines()
def capabilities():
    wanted = ("CapEff", "CapBnd", "NoNewPrivs")
    return [line.split()[1] for line in lines("/proc/self/status") if line.startswith(wanted)]
def named(name):
    try:
        return socket.gethostbyname(name)
    except OSError as error:
        return repr(error)
def read(path):
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(64).decode("latin-1")
    except OSError as error:
        return error.strerror
def entries(path):
    return sorted(os.listdir(path)) if os.path.isdir(path) else None
def reaches(address):
    try:
        socket.create_connection(address, 2).close()
        return True
    except OSError:
        return False
answer = {
    "probe": eval(os.environ.get("PROBE", "None")),
    "text": text, "uid": os.getuid(), "gid": os.getgid(), "pid": os.getpid(), "capabilities": capabilities(),
    "here": writable(os.path.dirname(os.path.abspath(__file__))), "tmp": writable("/tmp"),
    "root": writable("/"), "greeting": os.environ.get("GREETING"), "home_of_agent": os.environ.get("AGENT_SECRET"),
    "cgroups": lines("/proc/self/cgroup"), "localhost": named("localhost"), "cwd": os.getcwd(),
}
server = socket.create_server((os.environ["EDGEPACK_HOST"], int(os.environ["EDGEPACK_PORT"])))
while True:
    connection, _ = server.accept()
    connection.recv(4096)
    now = dict(answer, probe=answer["probe"]() if callable(answer["probe"]) else answer["probe"])
    connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + repr(now).encode())
    connection.close()
"""


# More than half of the files, of which no test reads one: other character sets, documentation, what apt and dpkg keep.
_UNREAD = re.compile(
    r"/(gconv|doc|man|lintian|engines-3|ossl-modules|var/(lib|cache|log)/\w+)/.|"
    r"/encodings/(?!(__init__|aliases|ascii|idna|latin_1|punycode|raw_unicode_escape|unicode_escape|utf_\w+)\.)."
)


def debian_base(folder: Path) -> tuple[Store, Layer]:
    """A store in ``folder`` that holds a base layer: a Debian tree with nothing but Python's core."""
    store = Store.create(folder / "store")
    raw = folder / "raw.tar"
    suite = ["mmdebstrap", "--quiet", "--variant=extract", "--include=python3.11-minimal", "bookworm", str(raw)]
    subprocess.run(suite, check=True, capture_output=True, timeout=300)
    with store.writer() as blob:
        with tarfile.open(raw) as source, tarfile.open(mode="w|", fileobj=blob, format=tarfile.PAX_FORMAT) as out:
            for member in source:
                if not member.ischr() and not _UNREAD.search(member.name):
                    out.addfile(member, source.extractfile(member) if member.isreg() else None)
        digest, size = blob.commit()
    raw.unlink()
    notes = {mediatypes.LAYER_KIND: "base", mediatypes.LAYER_UNPACKED: str(size)}
    return store, Layer(Descriptor(mediatypes.LAYER, digest, size, notes), digest, size)


# What a Python needs that listens on a port.
_NEEDED = re.compile(
    r"\./(usr/bin/python3\.11|usr/lib/python3\.11(/|$)|(usr/)?lib(64|/[a-z0-9_]+-linux-gnu)?(/(ld-linux|lib(c|m|z|dl|"
    r"pthread|util|expat|mvec)[.-])|$)|(usr|tmp|etc|usr/bin|usr/lib)$)"
)


def python_base(folder: Path, whole: tuple[Store, Layer]) -> tuple[Store, Layer]:
    """As ``debian_base``, of which half is left: for tests that unpack it hundreds of times."""
    store = Store.create(folder / "small")
    with store.writer() as blob:
        with (
            tarfile.open(whole[0].path(whole[1].descriptor.digest)) as source,
            tarfile.open(mode="w|", fileobj=blob, format=tarfile.PAX_FORMAT) as out,
        ):
            for member in source:
                if _NEEDED.match(member.name):
                    out.addfile(member, source.extractfile(member) if member.isreg() else None)
        digest, size = blob.commit()
    notes = {mediatypes.LAYER_KIND: "base", mediatypes.LAYER_UNPACKED: str(size)}
    return store, Layer(Descriptor(mediatypes.LAYER, digest, size, notes), digest, size)


def build_image(store: Store, base: Layer | None, text: str, **changes: object) -> Digest:
    """An image that runs ``APP`` and answers ``text``; ``changes`` replace fields of its configuration."""
    app = write_layer(
        [
            LayerEntry.of_bytes("etc/passwd", b"boss:x:0:0::/:/bin/sh\nworker:x:1234:5678::/:/bin/sh\n"),
            LayerEntry.of_bytes("opt/edgepack/server/app.py", (APP % text).encode()),
        ],
        store,
        NoCompression(),
        kind="code",
    )
    layers = [app] if base is None else [base, app]
    fields: dict[str, object] = {
        "platform": Platform.host(),
        "diff_ids": tuple(layer.diff_id for layer in layers),
        "env": {"PYTHONPATH": "/opt/edgepack/server:/opt/edgepack/lib/python3.11/site-packages"},
        "entrypoint": ("/usr/bin/python3.11", "-m", "app"),
        "user": "10001:10001",
        "exposed_ports": ("5001/tcp",),
    }
    config = store.put_bytes(ImageConfig(**(fields | changes)).to_bytes(), mediatypes.CONFIG)  # type: ignore[arg-type]
    manifest = Manifest(config, tuple(layer.descriptor for layer in layers))
    return store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST).digest


def copy_store(source: Store, target: Path) -> Store:
    """Another store with the same blobs, which take no disk twice."""
    store = Store.create(target)
    for path in (source.root / "blobs/sha256").iterdir():
        os.link(path, target / "blobs/sha256" / path.name)
    return store


def make_runtime(kind: str, store: Store, state: Path, address: str | None) -> Runtime:
    """The runtime ``kind``; engines listen at ``address``."""
    if kind in ("docker", "podman"):
        from edge_agent.runtimes.engine.runtime import DockerRuntime

        return DockerRuntime(store, address)
    if kind in ("crun", "runc"):
        from edge_agent.runtimes.crun import CrunRuntime

        return CrunRuntime(state, store, kind)  # type: ignore[arg-type]
    from edge_agent.runtimes.process import ProcessRuntime

    return ProcessRuntime(state, store)
