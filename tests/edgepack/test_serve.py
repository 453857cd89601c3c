"""The read-only registry over a store, asked by hand, by our client, by skopeo and by a real engine."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.errors import NotFoundError, RegistryUnavailableError, UsageError
from edgepack.oci import mediatypes
from edgepack.oci.copy import copy
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.layer import LayerEntry, NoCompression, write_layer
from edgepack.oci.manifest import Manifest
from edgepack.oci.reference import Reference
from edgepack.oci.remote import Policy, RemoteRepository, anonymous
from edgepack.oci.serve import serve
from edgepack.oci.store import Store
from tests.edgepack.support.small_images import Gzip, entries, image, two_platforms
from tests.support.http_client import Answer, ask
from tests.support.parts import docker_engine
from tests.support.running import Done, finish, run

CHURN = LayerEntry.of_bytes("opt/model.bin", bytes(range(256)) * 1000)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store")
    base = write_layer(entries(), store, Gzip(), kind="base")
    for version in (1, 2):
        model = write_layer(
            [CHURN, LayerEntry.of_bytes("opt/version", b"%d" % version)], store, NoCompression(), kind="model"
        )
        store.tag(f"churn:{version}", image(store, (base, model)))
    store.tag("team/both:latest", two_platforms(store))
    return store


def layer_of(store: Store, tag: str, number: int = 1) -> Descriptor:
    return store.manifest(store.resolve(tag)).layers[number]


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["errors"][0]["code"]


def test_a_manifest_is_found_by_tag_and_by_digest_in_any_repository(store: Store) -> None:
    root = store.resolve("churn:1")
    with serve(store) as port:
        for path in ("churn/manifests/1", f"churn/manifests/{root.digest}", f"any/name/manifests/{root.digest}"):
            status, headers, data = ask(port, "GET", f"/v2/{path}")
            assert (status, headers["content-type"]) == (200, mediatypes.MANIFEST)
            assert headers["docker-content-digest"] == str(root.digest)
            assert Digest.of(data) == root.digest
            head = ask(port, "HEAD", f"/v2/{path}")
            assert (head[0], head[1]["content-length"], head[2]) == (200, str(root.size), b"")
        assert ask(port, "GET", "/v2/team/both/manifests/latest")[1]["content-type"] == mediatypes.INDEX
        assert ask(port, "GET", "/v2/")[0] == 200


def test_what_is_not_there_is_said_in_the_registry_s_words(store: Store) -> None:
    nothing, layer = Digest.of(b"nothing"), layer_of(store, "churn:1")
    with serve(store) as port:
        assert code(ask(port, "GET", "/v2/churn/manifests/3")) == (404, "MANIFEST_UNKNOWN")
        assert code(ask(port, "GET", f"/v2/churn/manifests/{nothing}")) == (404, "MANIFEST_UNKNOWN")
        assert code(ask(port, "GET", f"/v2/churn/manifests/{layer.digest}")) == (404, "MANIFEST_UNKNOWN")
        assert code(ask(port, "GET", f"/v2/churn/blobs/{nothing}")) == (404, "BLOB_UNKNOWN")
        assert code(ask(port, "GET", "/v2/churn/blobs/sha256:..")) == (404, "BLOB_UNKNOWN")
        assert code(ask(port, "GET", "/v2/none/tags/list")) == (404, "NAME_UNKNOWN")
        for path in ("/", "/v1/", "/v2/../../etc/passwd", "/v2/churn/manifests/..%2f..", "/v2/UP/manifests/1"):
            assert ask(port, "GET", path)[0] == 404
        assert ask(port, "HEAD", "/v2/churn/manifests/3")[2] == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_written(store: Store, method: str) -> None:
    with serve(store) as port:
        assert code(ask(port, method, "/v2/churn/blobs/uploads/", body=b"x" * 1000)) == (405, "UNSUPPORTED")


@pytest.mark.parametrize(
    ("wanted", "first", "end"),
    [
        ("bytes=0-0", 0, 1), ("bytes=100-", 100, None), ("bytes=5-9", 5, 10), ("bytes=-7", -7, None),
        ("bytes=10-99999999999", 10, None),
    ],
)  # fmt: skip
def test_a_part_of_a_blob_can_be_asked_for(store: Store, wanted: str, first: int, end: int | None) -> None:
    layer = layer_of(store, "churn:1")
    whole = store.path(layer.digest).read_bytes()
    with serve(store) as port:
        status, headers, data = ask(port, "GET", f"/v2/churn/blobs/{layer.digest}", headers={"Range": wanted})
        assert (status, data) == (206, whole[first:end])
        start = first if first >= 0 else len(whole) + first
        assert headers["content-range"] == f"bytes {start}-{start + len(data) - 1}/{len(whole)}"


def test_ranges_that_make_no_sense(store: Store) -> None:
    layer = layer_of(store, "churn:1")
    path = f"/v2/churn/blobs/{layer.digest}"
    with serve(store) as port:
        for wanted in ("bytes=9999999999-", "bytes=5-4", "bytes=-0"):
            answer = ask(port, "GET", path, headers={"Range": wanted})
            assert (answer[0], answer[1]["content-range"]) == (416, f"bytes */{layer.size}")
        for wanted in ("bytes=-", "bytes=1-2,4-5", "lines=1-2", "bytes=a-b"):
            assert ask(port, "GET", path, headers={"Range": wanted})[0] == 200
        status, headers, data = ask(port, "HEAD", path)
        assert (status, headers["content-length"], data) == (200, str(layer.size), b"")
        assert headers["accept-ranges"] == "bytes"


def test_a_blob_of_the_wrong_size_is_never_served(store: Store) -> None:
    layer = layer_of(store, "churn:1")
    path = store.path(layer.digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    with serve(store) as port:
        assert code(ask(port, "GET", f"/v2/churn/blobs/{layer.digest}")) == (500, "UNKNOWN")
        assert ask(port, "HEAD", f"/v2/churn/blobs/{layer.digest}")[0] == 500


def test_an_altered_manifest_is_never_served(store: Store) -> None:
    root = store.resolve("churn:1")
    path = store.path(root.digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"opt", b"0pt").replace(b"churn", b"Churn").replace(b":2", b":3"))
    with serve(store) as port:
        assert code(ask(port, "GET", "/v2/churn/manifests/1")) == (500, "UNKNOWN")
        # The store has removed it, so that fetching the image again brings it.
        assert code(ask(port, "GET", f"/v2/churn/manifests/{root.digest}")) == (404, "MANIFEST_UNKNOWN")


def test_tags_are_listed_in_pages(store: Store) -> None:
    with serve(store) as port:
        assert json.loads(ask(port, "GET", "/v2/churn/tags/list")[2]) == {"name": "churn", "tags": ["1", "2"]}
        _, headers, data = ask(port, "GET", "/v2/churn/tags/list?n=1")
        assert json.loads(data)["tags"] == ["1"]
        following = headers["link"].partition(">")[0].lstrip("<")
        assert json.loads(ask(port, "GET", following)[2])["tags"] == ["2"]
        assert client(port, "churn").tags() == ("1", "2")


def test_referrers_are_listed_and_filtered(store: Store) -> None:
    root = store.resolve("churn:1")
    empty = store.put_bytes(b"{}", mediatypes.EMPTY)
    statement = Manifest(empty, (empty,), subject=root, artifact_type="application/x-statement")
    made = store.put_bytes(statement.to_bytes(), mediatypes.MANIFEST)
    listed = Descriptor(made.media_type, made.digest, made.size, artifact_type="application/x-statement")
    store.add_referrer(root.digest, listed)
    with serve(store) as port:
        remote = client(port, "churn")
        assert remote.referrers(root.digest) == (listed,)
        assert remote.referrers(root.digest, "application/x-statement") == (listed,)
        assert remote.referrers(root.digest, "application/x-other") == ()
        assert remote.referrers(made.digest) == ()
        assert remote.resolve(f"sha256-{root.digest.hex}").media_type == mediatypes.INDEX


def test_only_this_machine_is_served_unless_told(store: Store) -> None:
    with pytest.raises(UsageError, match=r"0\.0\.0\.0 can be reached"), serve(store, "0.0.0.0"):  # noqa: S104
        pass
    with serve(store, "0.0.0.0", allow_remote=True) as port:  # noqa: S104
        assert ask(port, "GET", "/v2/", headers={"Host": "registry.example"})[0] == 200
    with serve(store) as port:
        assert code(ask(port, "GET", "/v2/", headers={"Host": f"registry.example:{port}"})) == (403, "DENIED")
        assert ask(port, "GET", "/v2/", headers={"Host": f"localhost:{port}"})[0] == 200


def test_a_port_that_is_taken_is_named(store: Store) -> None:
    with serve(store) as port, pytest.raises(UsageError, match=f"port {port} is taken"), serve(store, port=port):
        pass


def test_the_port_is_free_when_the_context_ends_whoever_is_still_connected(store: Store) -> None:
    with serve(store) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/v2/")
        connection.getresponse().read()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.close()


# By our client


def client(port: int, name: str) -> RemoteRepository:
    return RemoteRepository(
        Reference.parse(f"127.0.0.1:{port}/{name}"), credentials=anonymous, policy=Policy(attempts=2, backoff=0.01)
    )


def test_only_what_lacks_moves_and_it_is_counted(store: Store, tmp_path: Path) -> None:
    other, sent = Store.create(tmp_path / "other"), Counter[Digest]()
    with serve(store, on_blob=lambda digest, size: sent.update({digest: size})) as port:
        copy(client(port, "churn"), other, client(port, "churn").resolve("1"))
        assert sent[layer_of(store, "churn:1", 0).digest] == layer_of(store, "churn:1", 0).size
        sent.clear()
        report = copy(client(port, "churn"), other, client(port, "churn").resolve("2"))
        config = store.manifest(store.resolve("churn:2")).config.digest
        assert set(sent) == {layer_of(store, "churn:2").digest, config}
        assert report.moved_blobs == 3
        with pytest.raises(NotFoundError):
            client(port, "churn").resolve("3")
    with pytest.raises(RegistryUnavailableError):
        client(port, "churn").resolve("1")


# By others


@pytest.mark.real("skopeo")
def test_skopeo_reads_what_is_served(store: Store, tmp_path: Path) -> None:
    with serve(store) as port:
        address = f"docker://127.0.0.1:{port}"
        seen = run("skopeo", "inspect", "--tls-verify=false", f"{address}/churn:1")
        assert json.loads(seen)["Digest"] == str(store.resolve("churn:1").digest)
        assert sorted(json.loads(seen)["RepoTags"]) == ["1", "2"]
        for name in ("churn:1", "team/both:latest"):
            run(
                "skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false",
                f"{address}/{name}", f"oci:{tmp_path / 'layout'}:{name}",
            )  # fmt: skip
            assert Store.open_existing(tmp_path / "layout").resolve(name).digest == store.resolve(name).digest


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """A Docker engine of our own; gives its address."""
    if os.geteuid() != 0:
        pytest.skip("an engine needs root")
    folder = Path(tempfile.mkdtemp(prefix="engine-", dir="/tmp"))  # a socket's path must be short
    try:
        with docker_engine(folder) as address:
            yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def docker(address: str, *arguments: str) -> Done:
    return finish("docker", "--host", address, *arguments)


@pytest.mark.real("dockerd", "docker", "ip")
def test_an_engine_pulls_only_the_layers_that_it_lacks(store: Store, engine: str) -> None:
    sent: list[Digest] = []
    with serve(store, on_blob=lambda digest, _: sent.append(digest)) as port:
        moved = []
        for version in (1, 2):
            name = f"127.0.0.1:{port}/churn@{store.resolve(f'churn:{version}').digest}"
            pulled = docker(engine, "pull", name)
            assert pulled.code == 0, pulled.stderr
            moved.append(sorted(sent))
            sent.clear()
    first, second = (store.manifest(store.resolve(f"churn:{version}")) for version in (1, 2))
    assert moved[0] == sorted(item.digest for item in first.blobs)
    assert moved[1] == sorted([second.config.digest, second.layers[1].digest])


_FLAT = """
import http.client, sys
from pathlib import Path
from edgepack.oci.serve import serve
from edgepack.oci.store import Store

def peak():  # of this program alone: getrusage's starts at that of its parent
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])

store, size = Store.create(Path(sys.argv[1])), int(sys.argv[2])
name = "ab" * 32
with (store.root / "blobs" / "sha256" / name).open("wb") as file:
    file.truncate(size)
with serve(store) as port:
    for path in ("/v2/", f"/v2/churn/blobs/sha256:{name}"):
        before = peak()
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", path)
        answer, seen = connection.getresponse(), 0
        while piece := answer.read(1 << 20):
            seen += len(piece)
assert seen == size
print(peak() - before)
"""


def test_memory_is_flat_whatever_the_blob_weighs(tmp_path: Path) -> None:
    grown = int(run(sys.executable, "-c", _FLAT, str(tmp_path / "flat"), str(200 << 20)))
    assert grown < 8 << 10, f"{grown} KiB more for a blob of 200 MiB"


def test_the_loopback_address_of_version_6_is_served(store: Store) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    with serve(store, "::1") as port:
        remote = RemoteRepository(Reference.parse(f"[::1]:{port}/churn:1"), credentials=anonymous)
        assert remote.resolve().digest == store.resolve("churn:1").digest
