"""The client against what registries and networks do wrong, by a simulator with switches."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.errors import (
    DigestMismatchError,
    EdgepackError,
    InvalidDocumentError,
    NotFoundError,
    RegistryError,
    RegistryUnavailableError,
    SizeMismatchError,
    TooLargeError,
)
from edgepack.oci import mediatypes
from edgepack.oci.copy import copy
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.layer import LayerEntry, NoCompression, write_layer
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.reference import Reference
from edgepack.oci.remote import Credentials, Policy, RemoteRepository, anonymous
from edgepack.oci.remote.origin import joined
from edgepack.oci.remote.referrers import _NEXT
from edgepack.oci.remote.transport import seconds_to_wait
from edgepack.oci.sources import read_verified
from edgepack.oci.store import Store
from tests.edgepack.support.blobs import BLOB, QUICK, Bytes, blob
from tests.edgepack.support.registry_simulator import Simulator, digest_of, handler_of, running
from tests.edgepack.support.small_images import entries, image


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with running(Simulator()) as simulator:
        yield simulator


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def client(sim: Simulator, policy: Policy = QUICK, **options: object) -> RemoteRepository:
    reference = Reference.parse(f"127.0.0.1:{sim.port}/team/churn:1")
    return RemoteRepository(reference, credentials=anonymous, policy=policy, **options)  # type: ignore[arg-type]


def hold(sim: Simulator, data: bytes = BLOB) -> Descriptor:
    sim.blobs[digest_of(data)] = data
    return blob(data)


# Downloads


def test_a_dropped_download_goes_on_where_it_broke(sim: Simulator, store: Store) -> None:
    wanted = hold(sim)
    sim.drops = [1_000_000, 0, 1_500_000]
    store.put(wanted, client(sim))
    assert store.path(wanted.digest).read_bytes() == BLOB
    ranges = [one.headers.get("Range") for one in sim.seen]
    assert ranges[0] is None
    assert ranges[1:] == ["bytes=1000000-", "bytes=1000000-", "bytes=2500000-"]


def test_a_download_that_keeps_breaking_ends_and_keeps_what_came(sim: Simulator, store: Store) -> None:
    wanted = hold(sim)
    sim.drops = [2_000_000, *[0] * 20]
    with pytest.raises(RegistryUnavailableError):
        store.put(wanted, client(sim))
    assert len(sim.seen) == QUICK.attempts
    sim.drops, sim.seen[:] = [], []
    store.put(wanted, client(sim))
    assert store.path(wanted.digest).read_bytes() == BLOB
    assert int(sim.seen[0].headers["Range"].removeprefix("bytes=").removesuffix("-")) >= 1 << 20


def test_a_registry_without_range_is_read_past_what_is_here(sim: Simulator, store: Store) -> None:
    wanted = hold(sim)
    sim.ignore_range, sim.drops = True, [1_000_000]
    store.put(wanted, client(sim))
    assert store.path(wanted.digest).read_bytes() == BLOB
    with client(sim).open(wanted, 2_999_990) as stream:
        assert stream.read() == BLOB[2_999_990:]


def test_the_end_of_a_blob_is_no_request(sim: Simulator) -> None:
    with client(sim).open(blob(), len(BLOB)) as stream:
        assert stream.read() == b""
    assert sim.seen == []


def test_an_altered_blob_is_refused_and_not_stored(sim: Simulator, store: Store) -> None:
    wanted = hold(sim)
    sim.altered = {str(wanted.digest)}
    with pytest.raises(DigestMismatchError):
        store.put(wanted, client(sim))
    assert not store.has(wanted)


def test_a_blob_of_another_length_is_refused_before_it_is_read(sim: Simulator, store: Store) -> None:
    wanted = hold(sim)
    sim.wrong_length = 7
    assert not client(sim).has(wanted)
    with pytest.raises(SizeMismatchError, match=r"3072007 bytes and the descriptor says 3072000"):
        store.put(wanted, client(sim))
    with pytest.raises(SizeMismatchError), client(sim).open(wanted, 5) as stream:
        stream.read(1)


@pytest.mark.parametrize("status", [400, 403, 405, 412, 416, 500, 501])
def test_a_registry_that_refuses_a_range_is_asked_for_the_whole(sim: Simulator, store: Store, status: int) -> None:
    wanted = hold(sim)
    sim.range_refused, sim.drops = status, [1_000_000, 2_500_000]
    store.put(wanted, client(sim))
    assert store.path(wanted.digest).read_bytes() == BLOB
    with client(sim).open(wanted, 2_999_990) as stream:
        assert stream.read() == BLOB[2_999_990:]


def test_another_range_than_was_asked_for_is_not_taken(sim: Simulator, store: Store) -> None:
    wanted = hold(sim)
    sim.shift_range, sim.drops = 1, [1_000_000]
    store.put(wanted, client(sim))
    assert store.path(wanted.digest).read_bytes() == BLOB
    assert [one.headers.get("Range") for one in sim.seen] == [None, "bytes=1000000-", None]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_cut_body_without_a_length_is_a_broken_connection(
    sim: Simulator, store: Store, framing: str, ranges: bool
) -> None:
    wanted = hold(sim)
    sim.framing, sim.drops, sim.range_refused = framing, [1_000_000, 0, 1_500_000, 10], None if ranges else 416
    store.put(wanted, client(sim, replace(QUICK, attempts=6)))
    assert store.path(wanted.digest).read_bytes() == BLOB
    sim.drops = [100] * 50
    with pytest.raises(RegistryUnavailableError, match="the connection broke"):
        Store.create(store.root / "other").put(wanted, client(sim))


def test_a_registry_that_is_away_for_a_moment_is_waited_for(sim: Simulator, store: Store) -> None:
    wanted = hold(sim)
    sim.drops = [2_000_000]
    with client(sim).open(wanted) as stream:
        first = stream.read(1_500_000)
        sim.busy = [(503, None)] * (QUICK.attempts + 1)
        assert first + stream.read() == BLOB


def test_a_break_before_what_is_here_already_is_tried_again(sim: Simulator, store: Store) -> None:
    wanted = hold(sim)
    sim.range_refused, sim.drops = 416, [2_000_000, 1_000, 1_000_000]
    store.put(wanted, client(sim, replace(QUICK, attempts=4)))
    assert store.path(wanted.digest).read_bytes() == BLOB


def test_a_blob_that_is_not_there_is_named(sim: Simulator, store: Store) -> None:
    with pytest.raises(NotFoundError, match=str(blob().digest)):
        store.put(blob(), client(sim))
    assert not client(sim).has(blob())


# Busy registries


def test_a_busy_registry_is_asked_again_after_the_time_it_names(sim: Simulator) -> None:
    wanted = hold(sim)
    sim.busy = [(429, "1"), (503, None)]
    started = time.monotonic()
    assert client(sim, Policy(attempts=3, backoff=0.01)).has(wanted)
    assert time.monotonic() - started >= 1
    assert len(sim.seen) == 3


def test_a_registry_cannot_make_us_wait_for_an_hour(sim: Simulator) -> None:
    wanted = hold(sim)
    sim.busy = [(429, "3600")]
    started = time.monotonic()
    assert client(sim).has(wanted)
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_registry_that_stays_busy_is_unavailable(sim: Simulator, status: int) -> None:
    sim.busy = [(status, None)] * 10
    with pytest.raises(RegistryUnavailableError, match=rf"{status} TOOMANYREQUESTS .*try again later"):
        client(sim).resolve()
    assert len(sim.seen) == QUICK.attempts


def test_what_retry_after_may_say() -> None:
    assert seconds_to_wait("7") == 7
    assert seconds_to_wait("Fri, 31 Dec 1999 23:59:59 GMT", lambda: 946684790.0) == 9
    assert seconds_to_wait("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    assert [seconds_to_wait(text) for text in (None, "", "soon", "-1", "٣")] == [None] * 5


def test_nobody_listening_is_one_sentence(free_port: Callable[[], int]) -> None:
    port = free_port()
    with pytest.raises(RegistryUnavailableError, match=f"http://127.0.0.1:{port}: cannot be reached"):
        client(Simulator(port=port)).resolve()


# Manifests


def test_a_manifest_that_is_not_what_was_announced_is_refused(sim: Simulator, store: Store) -> None:
    root = image(store, (write_layer(entries(), store, NoCompression(), kind="code"),))
    digest = sim.put_manifest("team/churn", "1", store.read(root), root.media_type)
    assert client(sim).resolve() == Descriptor(root.media_type, root.digest, root.size)
    sim.altered = {digest}
    for target in ("1", digest):
        with pytest.raises(DigestMismatchError):
            client(sim).resolve(target)


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"{}", "application/json"),
        (b"<html>", "text/html"),
        (b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}',
         mediatypes.MANIFEST),
        (b'{"schemaVersion":2,"manifests":[],"layers":[]}', mediatypes.INDEX),
        (b'{"schemaVersion":1,"fsLayers":[]}', "application/vnd.docker.distribution.manifest.v1+json"),
    ],
)  # fmt: skip
def test_what_is_no_manifest_or_could_be_two_things_is_refused(sim: Simulator, data: bytes, media_type: str) -> None:
    sim.put_manifest("team/churn", "1", data, media_type)
    with pytest.raises(InvalidDocumentError):
        client(sim).resolve()


def test_a_manifest_without_end_is_not_read(sim: Simulator) -> None:
    sim.put_manifest("team/churn", "1", b" " * ((4 << 20) + 1), mediatypes.MANIFEST)
    with pytest.raises(TooLargeError):
        client(sim).resolve()


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_manifest_that_was_cut_is_asked_for_again(sim: Simulator, store: Store, framing: str) -> None:
    root = image(store, (write_layer(entries(), store, NoCompression(), kind="code"),))
    digest = sim.put_manifest("team/churn", "1", store.read(root), root.media_type)
    sim.framing, sim.manifest_drops = framing, [100, 0]
    assert client(sim).resolve().digest == root.digest
    sim.no_digest_header, sim.manifest_drops = True, [100, 0]
    assert client(sim).resolve().digest == root.digest
    sim.manifest_drops = [100] * 50
    with pytest.raises(EdgepackError):
        client(sim).resolve(digest)
    assert len(sim.seen) == 6 + QUICK.attempts


def test_a_manifest_that_another_client_is_just_writing_is_asked_for_again(sim: Simulator, store: Store) -> None:
    root = image(store, (write_layer(entries(), store, NoCompression(), kind="code"),))
    sim.manifest_invalid = 2
    copy(store, client(sim), root)
    sim.manifest_invalid = 2
    client(sim).tag("1", root)
    sim.manifest_invalid = 2
    assert client(sim).resolve().digest == root.digest
    sim.manifest_invalid = 50
    with pytest.raises(RegistryError, match="400 DIGEST_INVALID for manifest 1"):
        client(sim).resolve()


def test_a_manifest_of_dockers_first_schema_is_refused_by_name(sim: Simulator) -> None:
    for media_type in ("application/vnd.docker.distribution.manifest.v1+prettyjws", mediatypes.DOCKER_MANIFEST):
        sim.put_manifest("team/churn", "1", b'{"schemaVersion":1,"name":"x","tag":"1","fsLayers":[]}', media_type)
        with pytest.raises(InvalidDocumentError, match="Docker's schema 1, which is not supported; pull the image"):
            client(sim).resolve()


@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=utf-8", "application/octet-stream"])
def test_a_manifest_is_taken_whatever_a_registry_calls_it(sim: Simulator, store: Store, content_type: str) -> None:
    root = image(store, (write_layer(entries(), store, NoCompression(), kind="code"),))
    sim.put_manifest("team/churn", "1", store.read(root), root.media_type)
    sim.content_type, sim.no_digest_header = content_type, True
    assert client(sim).resolve() == Descriptor(root.media_type, root.digest, root.size)


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_a_registry_without_head_is_asked_by_get(sim: Simulator, store: Store, status: int) -> None:
    sim.head_status = status
    root = image(store, (write_layer(entries(), store, NoCompression(), kind="code"),))
    assert not client(sim).has(root)
    assert copy(store, client(sim), root).moved_blobs == 3
    assert copy(store, client(sim), root).moved_blobs == 0


# Uploads


@pytest.mark.parametrize("location", ["path", "absolute", "sibling"])
@pytest.mark.parametrize("chunk", [64 << 20, 1_000_000, 1_024_000, len(BLOB)])
def test_a_blob_is_pushed_whole_or_in_chunks_and_only_once(sim: Simulator, location: str, chunk: int) -> None:
    sim.absolute_location, sim.sibling_location = location == "absolute", location == "sibling"
    remote = client(sim, Policy(chunk=chunk))
    assert not remote.has(blob())
    remote.put(blob(), Bytes())
    assert sim.blobs[str(blob().digest)] == BLOB
    assert sim.count("PATCH") == (0 if chunk >= len(BLOB) else -(-len(BLOB) // chunk))
    assert remote.has(blob())


def test_an_empty_blob_can_be_pushed(sim: Simulator) -> None:
    client(sim).put(blob(b""), Bytes(b""))
    assert sim.blobs[str(Digest.of(b""))] == b""


def test_a_lost_upload_starts_again(sim: Simulator) -> None:
    sim.lose_session_after = [2_000_000]
    source = Bytes()
    client(sim, Policy(chunk=1_000_000, backoff=0.01)).put(blob(), source)
    assert sim.blobs[str(blob().digest)] == BLOB
    assert sim.count("POST") == 2
    assert source.opened[:3] == [0, 1_000_000, 0]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_registry_gets_the_same_chunk_again(sim: Simulator, status: int) -> None:
    sim.busy_at = {2_000_000: status}
    source = Bytes()
    client(sim, Policy(chunk=1_000_000, backoff=0.01)).put(blob(), source)
    assert sim.blobs[str(blob().digest)] == BLOB
    assert sim.count("POST") == 1
    assert source.opened[:4] == [0, 1_000_000, 2_000_000, 2_000_000]


@pytest.mark.parametrize("chunk", [64 << 20, 1_000_000])
def test_a_connection_that_breaks_while_pushing_starts_the_blob_again(sim: Simulator, chunk: int) -> None:
    sim.drop_upload = [500_000]
    client(sim, Policy(chunk=chunk, backoff=0.01)).put(blob(), Bytes())
    assert sim.blobs[str(blob().digest)] == BLOB
    assert sim.count("POST") == 2


def patches(sim: Simulator) -> list[int]:
    """Where the chunks began that were sent."""
    return [int(one.headers["Content-Range"].partition("-")[0]) for one in sim.seen if one.method == "PATCH"]


def test_a_registry_that_kept_part_of_a_chunk_gets_the_rest_as_often_as_it_breaks(sim: Simulator) -> None:
    sim.drop_upload, sim.keep_dropped = [-1, 500_000, 300_000, -1, 200_000], True
    source = Bytes()
    client(sim, Policy(chunk=1_000_000, backoff=0.01)).put(blob(), source)
    assert sim.blobs[str(blob().digest)] == BLOB
    assert sim.count("POST") == 1
    assert patches(sim)[:4] == [0, 1_000_000, 1_500_000, 1_800_000]


def test_a_registry_that_kept_other_bytes_than_it_was_sent_gets_the_blob_again_from_the_start(sim: Simulator) -> None:
    sim.drop_upload, sim.keep_dropped, sim.garble_dropped = [-1, 500_000], True, True
    client(sim, Policy(chunk=1_000_000, backoff=0.01)).put(blob(), Bytes())
    assert sim.blobs[str(blob().digest)] == BLOB
    assert sim.count("POST") == 2


def test_after_a_break_less_is_sent_at_once_in_a_connection_of_its_own(sim: Simulator) -> None:
    sim.drop_upload = [2_000_000]
    remote = client(sim)
    remote.put(blob(), Bytes())
    assert sim.blobs[str(blob().digest)] == BLOB
    sizes = [(one.size, one.headers.get("Connection")) for one in sim.seen if one.method == "PATCH"]
    assert sizes
    assert all(256 << 10 <= size < 2_000_000 and kind == "close" for size, kind in sizes[:-1])
    sim.seen.clear()
    other = bytes(3_000_000)
    remote.put(blob(other), Bytes(other))  # the next blob begins with what was learnt
    assert len(patches(sim)) > 1


def test_a_registry_that_is_away_in_the_middle_of_an_upload_is_waited_for(sim: Simulator) -> None:
    sim.drop_upload = [-1, 500_000]
    sim.busy_after_drop = [(503, None)] * (QUICK.attempts + 1)
    client(sim, replace(QUICK, chunk=1_000_000)).put(blob(), Bytes())
    assert sim.blobs[str(blob().digest)] == BLOB
    assert sim.busy == []


def test_an_upload_that_is_always_lost_ends(sim: Simulator) -> None:
    sim.lose_session_after = [1] * 100
    with pytest.raises(RegistryUnavailableError, match=r"lost the upload .* push it again"):
        client(sim).put(blob(), Bytes())
    assert sim.count("PUT") == QUICK.attempts
    sim.lose_session_after = [2_000_000] * 100
    with pytest.raises(RegistryUnavailableError):
        client(sim, Policy(attempts=3, chunk=1_000_000, backoff=0.01)).put(blob(), Bytes())
    assert sim.blobs == {}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (BLOB[:-1] + b"!", DigestMismatchError),
        (BLOB[:-1], SizeMismatchError),
        (BLOB + b"!", SizeMismatchError),
    ],
)
@pytest.mark.parametrize("chunk", [64 << 20, 1_000_000, 1_024_000])
def test_a_source_that_lies_never_ends_up_in_the_registry(
    sim: Simulator, chunk: int, data: bytes, error: type[EdgepackError]
) -> None:
    sim.gullible = True
    with pytest.raises(error):
        client(sim, Policy(chunk=chunk)).put(blob(), Bytes(data))
    assert sim.blobs == {}


def test_a_blob_of_another_repository_is_mounted_without_moving(sim: Simulator) -> None:
    sim.mountable = {"team/base": {str(blob().digest)}}
    source = Bytes()
    client(sim, mount_from=["team/base"]).put(blob(), source)
    assert source.opened == []
    assert sim.count("POST", "from=team%2Fbase") == 1


def test_a_blob_that_cannot_be_mounted_is_pushed_into_the_session_that_was_opened(sim: Simulator) -> None:
    client(sim, mount_from=["team/base"]).put(blob(), Bytes())
    assert sim.blobs[str(blob().digest)] == BLOB
    assert sim.count("POST") == 1


# Referrers


@pytest.mark.parametrize("api", [False, True])
def test_an_artifact_is_listed_with_and_without_the_referrers_api(sim: Simulator, store: Store, api: bool) -> None:
    sim.referrers_api = api
    root = image(store, (write_layer(entries(), store, NoCompression(), kind="code"),))
    remote = client(sim)
    copy(store, remote, root)
    empty = store.put_bytes(b"{}", mediatypes.EMPTY)
    artifacts = []
    for number in (1, 2):
        layer = store.put_bytes(b"statement %d" % number, mediatypes.DSSE)
        manifest = Manifest(
            empty, (layer,), subject=root, artifact_type=f"application/x-{number}", annotations={"n": str(number)}
        )
        artifacts.append(store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST))
        remote.attach(artifacts[-1], store)
        remote.attach(artifacts[-1], store)
    found = client(sim).referrers(root.digest)
    assert {one.digest for one in found} == {one.digest for one in artifacts}
    assert [one.annotations["n"] for one in client(sim).referrers(root.digest, "application/x-2")] == ["2"]
    tag = f"team/churn:sha256-{root.digest.hex}"
    assert (tag in sim.manifests) is not api
    if not api:
        assert len(Index.from_bytes(sim.manifests[tag][1]).manifests) == 2
    assert client(sim).referrers(Digest.of(b"nothing")) == ()
    assert Manifest.from_bytes(read_verified(client(sim), found[0])).subject is not None


NO_LISTS: list[tuple[int, bytes, dict[str, str]]] = [
    *((status, b"", {}) for status in (400, 401, 403, 405, 406, 410, 429, 500, 501, 503)),
    (401, b"", {"WWW_Authenticate": 'Basic realm="x"'}),
    (401, b"", {"WWW_Authenticate": 'Bearer realm="/token",service="x"'}),
    (401, b"", {"WWW_Authenticate": "Negotiate"}),
    (302, b"", {"Location": "http://registry.invalid/login"}),
    (302, b"", {"Location": "ftp://x"}),
    (307, b"", {"Location": "/v2/team/churn/referrers/sha256:" + "0" * 64}),
    (200, b"", {}),
    (200, b"null", {}),
    (200, b'{"errors":[{"code":"UNSUPPORTED"}]}', {}),
    (200, b'{"schemaVersion":2,"manifests":[{"digest":"md5:1"}]}', {}),
    (200, b" " * ((4 << 20) + 1), {}),
    (200, b"<html>log in</html>", {"Content_Type": "text/html"}),
]


def test_a_registry_that_lists_no_referrers_is_gone_on_without(
    sim: Simulator, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    root = image(store, (write_layer(entries(), store, NoCompression(), kind="code"),))
    statement = Manifest(store.put_bytes(b"{}", mediatypes.EMPTY), (), subject=root, artifact_type="application/x")
    copy(store, client(sim), root)
    client(sim).attach(store.put_bytes(statement.to_bytes(), mediatypes.MANIFEST), store)
    for answer in NO_LISTS:
        remote = client(sim, replace(QUICK, attempts=2))
        caplog.clear()
        sim.referrers_answer, sim.fallback_answer = answer, None
        assert [one.artifact_type for one in remote.referrers(root.digest)] == ["application/x"], answer
        assert "signatures may be missing" not in caplog.text
        sim.fallback_answer = answer
        assert remote.referrers(root.digest) == ()
        assert f"does not list what is attached to {root.digest}" in caplog.text
        assert "signatures may be missing" in caplog.text
        # No access was spoilt by what was refused.
        assert remote.resolve(root.digest) == Descriptor(root.media_type, root.digest, root.size)


def test_no_referrer_is_lost_when_many_are_attached_at_once(sim: Simulator, store: Store) -> None:
    root = image(store, (write_layer(entries(), store, NoCompression(), kind="code"),))
    copy(store, client(sim), root)
    empty, artifacts = store.put_bytes(b"{}", mediatypes.EMPTY), []
    for number in range(6):
        manifest = Manifest(empty, (), subject=root, artifact_type="application/x", annotations={"n": str(number)})
        artifacts.append(store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST))
    with ThreadPoolExecutor(len(artifacts)) as pool:
        list(pool.map(lambda one: client(sim, replace(QUICK, backoff=0.2)).attach(one, store), artifacts))
    assert {one.digest for one in client(sim).referrers(root.digest)} == {one.digest for one in artifacts}


def test_what_has_no_subject_cannot_be_attached(sim: Simulator, store: Store) -> None:
    root = image(store, (write_layer(entries(), store, NoCompression(), kind="code"),))
    with pytest.raises(InvalidDocumentError, match="no subject"):
        client(sim).attach(root, store)


# Whole images


def test_an_image_moves_there_and_back_through_faults(sim: Simulator, store: Store, tmp_path: Path) -> None:
    big = write_layer([LayerEntry.of_bytes("big", os.urandom(3_000_000))], store, NoCompression(), kind="model")
    root = image(store, (big,))
    sim.drop_upload, sim.busy = [100_000], [(503, None)]
    remote = client(sim)
    copy(store, remote, root)
    remote.tag("1", root)
    sim.drops, sim.busy = [1_000_000], [(429, "0")]
    other = Store.create(tmp_path / "other")
    found = client(sim).resolve()
    report = copy(client(sim), other, found)
    assert found.digest == root.digest
    assert report.moved_blobs == 3
    assert copy(client(sim), other, found).moved_bytes == 0


def test_a_refusal_is_one_sentence_with_the_code_only(sim: Simulator) -> None:
    sim.busy = [(418, None)]
    with pytest.raises(RegistryError, match="answered 418 TOOMANYREQUESTS for manifest 1") as refused:
        client(sim).resolve()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "what", "hint"),
    [
        (413, "answered 413 TOOMANYREQUESTS", "let it, or the proxy before it, take larger requests"),
        (405, "answered 405 TOOMANYREQUESTS", "check that the address is that of an image registry"),
        (501, "answered 501 TOOMANYREQUESTS", "check that the address is that of an image registry"),
        (418, "answered 418 TOOMANYREQUESTS", "see the registry's log"),
        (404, "has no repository team/churn (404 TOOMANYREQUESTS)", "create it there, or check its name"),
    ],
)
def test_a_push_that_is_refused_says_what_to_do(sim: Simulator, status: int, what: str, hint: str) -> None:
    sim.busy = [(404, None), (status, None)]  # the blob is not there; then the upload is refused
    with pytest.raises(EdgepackError, match=re.escape(what)) as refused:
        copy(Bytes(), client(sim), blob())
    assert f"; {hint}" in str(refused.value)


@pytest.mark.parametrize("data", [b"<html>log in</html>", b"", b"null", b'{"errors": []}'])
def test_what_answers_like_no_registry_is_said_to_be_none(sim: Simulator, data: bytes) -> None:
    sim.put_manifest("team/churn", "1", data, "text/html")
    with pytest.raises(InvalidDocumentError, match="; check that the address is that of an image registry"):
        client(sim).resolve()


@pytest.mark.parametrize("location", ["ftp://x/y", "http://[", "http://"])
def test_an_address_that_leads_nowhere_names_who_gave_it(location: str) -> None:
    with pytest.raises(RegistryError, match=r"^https://r\.example:443: gave an address .*; check that"):
        joined("https://r.example/v2/", location)


@pytest.mark.parametrize(
    ("link", "following"),
    [
        ('</v2/x?n=2>; rel="next"', "/v2/x?n=2"),
        ("</v2/x>;rel=next", "/v2/x"),
        ('</first>; rel="first", </second?a=1,2;b>; title="a, b"; rel="NEXT"', "/second?a=1,2;b"),
        ('</a>; rel="prev next"', "/a"),
        ('</a>; rel="previous"; title="next"', None),
        ('</a>; rel="nextone"', None),
        ('</next>; rel="first"', None),
        ("", None),
    ],
)
def test_the_next_page_of_a_list_is_found_among_links(link: str, following: str | None) -> None:
    found = _NEXT.search(link)
    assert (found and found[1]) == following


def test_an_upload_to_the_simulator_ends_with_its_client(sim: Simulator) -> None:
    # A thread that asks for the rest for ever takes a processor from all tests after it.
    sim.uploads["1"] = bytearray()
    theirs, ours = socket.socketpair()
    handler = threading.Thread(target=handler_of(sim), args=(theirs, ("client", 0), None), daemon=True)
    handler.start()
    ours.sendall(b"PATCH /v2/x/blobs/uploads/1?_state=a%3Db%2Bc HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
    ours.close()
    handler.join(60)
    assert not handler.is_alive()
    assert bytes(sim.uploads["1"]) == b"half"
    theirs.close()


def test_tokens_that_live_two_seconds_and_end_between_two_chunks_do_not_stop_a_push(sim: Simulator) -> None:
    sim.auth, sim.expires_in, sim.withdraws = "bearer", 2, True
    data = bytes(2_000_000)
    remote = RemoteRepository(
        Reference.parse(f"127.0.0.1:{sim.port}/churn:1"),
        credentials=lambda _: Credentials("ann", "open sesame"), policy=replace(QUICK, chunk=500_000),
    )  # fmt: skip
    remote.put(blob(data), Bytes(data))
    assert sim.blobs[digest_of(data)] == data
    assert sorted(set(patches(sim))) == [0, 500_000, 1_000_000, 1_500_000]
    assert sim.count("GET", "/token") > 1


def test_a_token_service_with_another_clock_is_believed_its_seconds_only(sim: Simulator) -> None:
    sim.auth, sim.token_more = "bearer", {"issued_at": "1999-01-01T00:00:00Z"}
    remote = RemoteRepository(
        Reference.parse(f"127.0.0.1:{sim.port}/churn:1"), credentials=lambda _: Credentials("ann", "open sesame"),
        policy=QUICK,
    )  # fmt: skip
    hold(sim)
    assert remote.has(blob())
    assert remote.has(blob())
    assert sim.count("GET", "/token") == 1
