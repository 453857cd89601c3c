"""The client with Debian's docker-registry, and skopeo's opinion of what was pushed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from edgepack.errors import AuthenticationError, NotFoundError, RegistryError
from edgepack.oci import mediatypes
from edgepack.oci.copy import CopyReport, copy
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.layer import LayerEntry, NoCompression, write_layer
from edgepack.oci.manifest import Manifest
from edgepack.oci.reference import Reference
from edgepack.oci.remote import Credentials, KnownBlobs, Policy, RemoteRepository, anonymous
from edgepack.oci.store import Store
from edgepack.oci.validate import validate
from tests.edgepack.support.breaking_wire import breaking
from tests.edgepack.support.small_images import Gzip, entries, image, two_platforms
from tests.support.parts import docker_registry
from tests.support.running import python, run
from tests.support.token_server import token_server

pytestmark = pytest.mark.real("docker-registry")

ANN = Credentials("ann", "open sesame")


def registry(folder: Path, *, password: bool, relative: bool = False) -> AbstractContextManager[int]:
    """A registry of our own; gives its port."""
    user = {"user": ANN.username, "password": ANN.password} if password else {}
    return docker_registry(folder / "registry", **user, relative=relative)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with registry(tmp_path_factory.mktemp("open"), password=False) as number:
        yield number


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with registry(tmp_path_factory.mktemp("guarded"), password=True, relative=True) as number:
        yield number


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def client(port: int, name: str, policy: Policy | None = None, **options: object) -> RemoteRepository:
    reference = Reference.parse(f"127.0.0.1:{port}/{name}")
    return RemoteRepository(
        reference, credentials=anonymous, policy=policy or Policy(backoff=0.01), **options  # type: ignore[arg-type]
    )  # fmt: skip


def big_image(store: Store, size: int = 5_000_000) -> Descriptor:
    layer = write_layer([LayerEntry.of_bytes("opt/big", os.urandom(size))], store, NoCompression(), kind="model")
    return image(store, (write_layer(entries(), store, Gzip(), kind="code"), layer))


@pytest.mark.parametrize("chunk", [64 << 20, 2_000_000])
def test_an_image_for_two_platforms_is_pushed_and_pulled_unchanged(
    port: int, store: Store, tmp_path: Path, chunk: int
) -> None:
    root, remote = two_platforms(store), client(port, f"team/both-{chunk}:1", Policy(chunk=chunk))
    first = copy(store, remote, root)
    remote.tag("1", root)
    assert copy(store, remote, root).moved_bytes == 0
    assert remote.tags() == ("1",)
    other = Store.create(tmp_path / "other")
    found = client(port, f"team/both-{chunk}:1").resolve()
    assert found.digest == root.digest
    assert copy(client(port, f"team/both-{chunk}"), other, found).moved_bytes == first.moved_bytes
    assert other.read(root) == store.read(root)


def test_a_large_layer_is_pushed_in_chunks_and_read_from_the_middle(port: int, store: Store) -> None:
    root = big_image(store)
    layer = store.manifest(root).layers[1]
    remote = client(port, "chunks", Policy(chunk=1_000_000))
    copy(store, remote, root)
    with remote.open(layer, 4_000_000) as stream:
        assert stream.read() == store.path(layer.digest).read_bytes()[4_000_000:]
    assert not remote.has(Descriptor(layer.media_type, layer.digest, layer.size + 1))


def test_a_layer_is_mounted_from_another_repository(port: int, store: Store) -> None:
    root = big_image(store)
    layer = store.manifest(root).layers[1]
    copy(store, client(port, "mount/base"), root)

    class Nothing:
        def open(self, descriptor: Descriptor, offset: int = 0) -> None:
            raise AssertionError("a mounted blob must not be read")

    remote = client(port, "mount/app", mount_from=["mount/base"])
    remote.put(layer, Nothing())  # type: ignore[arg-type]
    assert remote.has(layer)


def moves(store: Store, root: Descriptor, report: CopyReport) -> bool:
    """Whether the layers moved, and else nothing but the manifest."""
    layers = {one.digest for one in store.manifest(root).layers}
    assert layers <= report.blobs or report.blobs == {root.digest}
    return layers <= report.blobs


def test_what_another_repository_was_seen_to_have_is_mounted_and_counts_as_there(port: int, store: Store) -> None:
    root, known = big_image(store), KnownBlobs()
    assert moves(store, root, copy(store, client(port, "known/one", known=known), root))
    kept = KnownBlobs(known.to_json())
    report = copy(store, client(port, "known/two", known=kept), root)
    assert (moves(store, root, report), report.moved_bytes) == (False, root.size)

    for item in (*store.manifest(root).layers, store.manifest(root).config):
        kept.note(item.digest, "known/removed")
    assert moves(store, root, copy(store, client(port, "known/three", known=kept), root))
    pulled = KnownBlobs()
    with client(port, "known/three", known=pulled).open(store.manifest(root).layers[1]):
        assert pulled.repositories(store.manifest(root).layers[1].digest) == ("known/three",)


@pytest.mark.parametrize("strict", [False, True])
def test_who_may_not_read_the_other_repository_pushes_the_blobs(store: Store, tmp_path: Path, strict: bool) -> None:
    root, known = big_image(store, 1000), KnownBlobs()
    with (
        token_server(ANN.username, ANN.password) as service,
        docker_registry(tmp_path / "registry", auth=service.section(tmp_path)) as port,
    ):

        def pushed(name: str) -> CopyReport:
            reference = Reference.parse(f"127.0.0.1:{port}/{name}:1")
            remote = RemoteRepository(reference, credentials=lambda _: ANN, known=known)
            report = copy(store, remote, root)
            remote.tag("1", root)
            return report

        assert moves(store, root, pushed("team/base"))
        assert not moves(store, root, pushed("team/open"))
        known = KnownBlobs({digest: ["team/base"] for digest in known.to_json()})
        service.closed, service.strict = {"team/base"}, strict
        assert moves(store, root, pushed("team/other"))
        both = {"repository:team/base:pull", "repository:team/other:pull,push"}
        # With the blobs that move side by side, for each when it is asked for and when that was refused.
        assert 0 < sum(1 for scopes in service.asked if both <= {*scopes}) <= 6


def test_statements_are_attached_by_the_fallback_tag(port: int, store: Store) -> None:
    root, remote = big_image(store, 1000), client(port, "signed:1")
    copy(store, remote, root)
    remote.tag("1", root)
    empty = store.put_bytes(b"{}", mediatypes.EMPTY)
    made = []
    for number in (1, 2):
        layer = store.put_bytes(b"statement %d" % number, mediatypes.DSSE)
        statement = Manifest(empty, (layer,), subject=root, artifact_type=mediatypes.STATEMENT_ARTIFACT)
        made.append(store.put_bytes(statement.to_bytes(), mediatypes.MANIFEST))
        remote.attach(made[-1], store)
    found = remote.referrers(root.digest, mediatypes.STATEMENT_ARTIFACT)
    assert {one.digest for one in found} == {one.digest for one in made}
    assert remote.referrers(root.digest, "application/x-other") == ()
    assert remote.tags() == ("1",)


def test_what_is_not_there_is_not_found(port: int, store: Store) -> None:
    with pytest.raises(NotFoundError, match="MANIFEST_UNKNOWN"):
        client(port, "none").resolve("1")
    assert client(port, "none").referrers(Digest.of(b"x")) == ()
    root = big_image(store, 1000)
    with pytest.raises(RegistryError, match=r"MANIFEST_BLOB_UNKNOWN|BLOB_UNKNOWN"):
        client(port, "none").put(root, store)


@pytest.mark.real("htpasswd")
def test_a_registry_with_a_password(
    guarded: int, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    root, reference = big_image(store), Reference.parse(f"127.0.0.1:{guarded}/team/churn:1")
    with pytest.raises(AuthenticationError, match="none are stored"):
        copy(store, RemoteRepository(reference), root)
    with pytest.raises(AuthenticationError, match="docker login"):
        RemoteRepository(reference, credentials=lambda _: Credentials("ann", "wrong")).resolve()
    auth = ANN.basic.removeprefix("Basic ")
    (tmp_path / "config.json").write_text(json.dumps({"auths": {reference.registry: {"auth": auth}}}))
    remote = RemoteRepository(reference, policy=Policy(chunk=2_000_000))
    copy(store, remote, root)
    remote.tag("1", root)
    assert RemoteRepository(reference).resolve().digest == root.digest


@pytest.mark.real("skopeo")
def test_skopeo_agrees_with_what_was_pushed(port: int, store: Store, tmp_path: Path) -> None:
    root, remote = two_platforms(store), client(port, "seen/by-others:1")
    copy(store, remote, root)
    remote.tag("1", root)
    address = f"docker://127.0.0.1:{port}/seen/by-others:1"
    for command in (
        ["skopeo", "inspect", "--tls-verify=false", address],
        ["skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false", address, f"oci:{tmp_path}/out:1"],
    ):
        run(*command)
    assert Store.open_existing(tmp_path / "out").resolve("1").digest == root.digest


@pytest.mark.parametrize("chunk", [64 << 20, 1_000_000])
def test_a_push_over_a_wire_that_breaks_arrives_whole(port: int, store: Store, chunk: int) -> None:
    root = big_image(store)
    budgets = [2_500_000, 1_700_000, 100]
    with breaking(port, budgets) as wire:
        copy(store, client(wire, f"broken-{chunk}", Policy(chunk=chunk, backoff=0.01)), root)
    assert budgets == []
    remote = client(port, f"broken-{chunk}")
    layer = store.manifest(root).layers[1]
    with remote.open(layer) as stream:
        assert Digest.of(stream.read()) == layer.digest
    assert remote.resolve(root.digest).size == root.size


def test_push_and_pull_arrive_over_a_wire_that_breaks_every_connection_at_a_number_of_bytes(
    port: int, store: Store, tmp_path: Path
) -> None:
    root = big_image(store, 8_000_000)
    with breaking(port, every=1_500_000) as wire:
        remote = client(wire, "broken-always:1")
        copy(store, remote, root)
        remote.tag("1", root)
        assert client(port, "broken-always:1").resolve().digest == root.digest
        pulled = Store.create(tmp_path / "pulled")
        copy(client(wire, "broken-always:1"), pulled, root)
    assert validate(pulled, root) == []


_BIG = 200 << 20
_FLAT = """
import contextlib, hashlib, io, sys
from pathlib import Path
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest, VerifyingReader
from edgepack.oci.reference import Reference
from edgepack.oci.remote import Policy, RemoteRepository, anonymous

def peak():  # of this program alone: getrusage's starts at that of its parent
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])

port, size = int(sys.argv[1]), int(sys.argv[2])

class Zeros(io.RawIOBase):
    def __init__(self, left): self.left = left
    def readable(self): return True
    def readinto(self, buffer):
        count = min(len(buffer), self.left)
        buffer[:count] = bytes(count)
        self.left -= count
        return count

class Source:
    @contextlib.contextmanager
    def open(self, descriptor, offset=0):
        yield io.BufferedReader(Zeros(descriptor.size - offset), 1 << 20)

digest = hashlib.sha256()
for _ in range(size >> 20): digest.update(bytes(1 << 20))
blob = Descriptor("application/octet-stream", Digest(digest.hexdigest()), size)
reference = Reference.parse(f"127.0.0.1:{port}/flat")
remote = RemoteRepository(reference, credentials=anonymous, policy=Policy(chunk=32 << 20))
list(remote.referrers(Digest.of(b"warm")))
before = peak()
remote.put(blob, Source())
with remote.open(blob) as stream:
    reader, seen = VerifyingReader(stream, blob.digest, blob.size), 0
    while chunk := reader.read(1 << 20): seen += len(chunk)
assert seen == size
print(peak() - before)
"""


def test_memory_is_flat_whatever_the_blob_weighs(port: int) -> None:
    more = int(python(_FLAT, port, _BIG))
    assert more < 16 << 10, f"{more} KiB more for a blob of {_BIG >> 10} KiB"
