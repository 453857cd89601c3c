"""Fetching images from sources that do what registries, networks, sticks and attackers do wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.config.configuration import FolderSource, NeighbourSource
from edge_agent.device import Device
from edge_agent.sources.base import SourceGoneError
from edgepack.errors import (
    AuthenticationError,
    DigestMismatchError,
    EdgepackError,
    NoSpaceError,
    NotFoundError,
    RegistryError,
    RegistryUnavailableError,
    SignatureError,
    UntrustedKeyError,
    VerificationError,
)
from edgepack.oci import mediatypes
from edgepack.oci.digest import Digest
from edgepack.signing.keys import create_key
from edgepack.signing.statement import attach
from tests.edge_agent.support.origins import SOON, Made, device, make, registry, sources, whole
from tests.edgepack.support.registry_simulator import Simulator, running

NAMES = ["churn"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made") / "store")


@pytest.fixture
def sim(made: Made) -> Iterator[Simulator]:
    with running(Simulator()) as simulator:
        made.into(simulator)
        yield simulator


@pytest.fixture
def second(made: Made) -> Iterator[Simulator]:
    with running(Simulator()) as simulator:
        made.into(simulator)
        yield simulator


@pytest.fixture
def dev(tmp_path: Path, made: Made) -> Device:
    return device(tmp_path / "dev", made)


@pytest.mark.parametrize("lists", [True, False])
def test_an_image_is_fetched_with_its_statement_by_the_list_or_the_fallback_tag(
    dev: Device, made: Made, lists: bool
) -> None:
    with running(Simulator()) as simulator:
        made.into(simulator, lists=lists)
        percent: list[int] = []
        sources(dev, registry(simulator)).fetch(
            made.digest, lambda done, total: percent.append(done * 100 // total), names=NAMES
        )
        assert whole(dev, made)
        assert percent[-1] == 100
        assert percent == sorted(percent)
        dev.check_signed(made.digest, allow_unsigned=False)
        simulator.seen.clear()
        sources(dev, registry(simulator)).fetch(made.digest, names=NAMES)
        assert simulator.seen == []  # what is here needs no network


def test_what_is_here_needs_no_source(dev: Device, made: Made, sim: Simulator) -> None:
    sources(dev, registry(sim)).fetch(made.digest, names=NAMES)
    sources(dev).fetch(made.digest)
    sources(dev, FolderSource(Path("/nowhere"))).fetch(made.digest)


def test_without_a_source_the_way_is_a_bundle(dev: Device, made: Made) -> None:
    with pytest.raises(NotFoundError, match="no sources are configured; import the bundle"):
        sources(dev).fetch(made.digest)


def test_a_missing_layer_alone_is_fetched(dev: Device, made: Made, sim: Simulator) -> None:
    sources(dev, registry(sim)).fetch(made.digest, names=NAMES)
    dev.store.path(made.layers[1].digest).unlink()
    before = sim.sent
    sources(dev, registry(sim)).fetch(made.digest, names=NAMES)
    assert whole(dev, made)
    assert sim.sent - before == made.layers[1].size


# Which repository


def test_the_repository_is_found_by_its_name_by_the_prefix_or_by_the_registrys_list(dev: Device, made: Made) -> None:
    with running(Simulator()) as simulator:
        made.into(simulator, "team/a/churn")
        for prefix, names in (("team/a", NAMES), ("team/a/churn", []), ("team", ["other"]), ("", [])):
            simulator.catalog = ["team/a/other", "team/a/churn", "else/churn"]
            on = device(dev.root.parent / f"dev{len(prefix)}", made)
            sources(on, registry(simulator, prefix=prefix)).fetch(made.digest, names=names)
            assert whole(on, made)


def test_an_image_that_no_repository_has_is_named_with_where_it_was_looked_for(dev: Device, sim: Simulator) -> None:
    absent = Digest.of(b"absent")
    with pytest.raises(NotFoundError, match=rf"does not have {absent} in churn; push it there"):
        sources(dev, registry(sim)).fetch(absent, names=NAMES)
    assert dev.store.digests() == frozenset()


# Faults of one source


def test_a_download_that_is_cut_again_and_again_goes_on_and_no_byte_comes_twice(
    dev: Device, made: Made, sim: Simulator
) -> None:
    sim.drop_every = 100_000
    sources(dev, registry(sim), caps=replace(SOON, stalled_seconds=60)).fetch(made.digest, names=NAMES)
    assert whole(dev, made)
    assert sum(layer.size for layer in made.layers) <= sim.sent <= sum(one.size for one in made.layers) + 5000


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_a_busy_registry_is_asked_again(dev: Device, made: Made, sim: Simulator, status: int) -> None:
    sim.busy = [(status, None)] * 8  # more than one request is tried again
    sources(dev, registry(sim), caps=replace(SOON, stalled_seconds=60)).fetch(made.digest, names=NAMES)
    assert whole(dev, made)


def test_a_registry_that_stays_busy_ends_when_nothing_has_come_for_the_time_that_is_given(
    dev: Device, made: Made, sim: Simulator
) -> None:
    sim.busy = [(503, None)] * 10_000
    now = [0.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    fetcher = sources(
        dev, registry(sim), caps=replace(SOON, stalled_seconds=100, first_wait=1, longest_wait=20),
        clock=lambda: now[0], sleep=sleep,
    )  # fmt: skip
    with pytest.raises(RegistryUnavailableError, match="503 TOOMANYREQUESTS"):
        fetcher.fetch(made.digest, names=NAMES)
    assert sum(slept) == pytest.approx(100)
    assert max(slept) <= 20
    assert slept[0] < 1.01 < slept[3]


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_a_refusal_ends_at_once(dev: Device, made: Made, sim: Simulator, status: int) -> None:
    sim.busy = [(status, None)] * 100
    with pytest.raises((RegistryError, NotFoundError)):
        sources(dev, registry(sim), caps=replace(SOON, stalled_seconds=1000)).fetch(made.digest, names=NAMES)
    assert len(sim.seen) <= 3


def test_a_blob_that_is_gone_ends_at_once_and_the_rest_stays(dev: Device, made: Made, sim: Simulator) -> None:
    del sim.blobs[str(made.layers[1].digest)]
    with pytest.raises(NotFoundError, match=str(made.layers[1].digest)):
        sources(dev, registry(sim), caps=replace(SOON, stalled_seconds=1000)).fetch(made.digest, names=NAMES)
    assert dev.store.has(made.layers[0])
    assert dev.store.has(made.layers[2])


def test_wrong_bytes_are_not_stored_and_the_source_is_named(
    dev: Device, made: Made, sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    sim.altered = {str(made.layers[0].digest)}
    with pytest.raises(DigestMismatchError):
        sources(dev, registry(sim), caps=replace(SOON, stalled_seconds=1000)).fetch(made.digest, names=NAMES)
    assert f"127.0.0.1:{sim.port} gave wrong bytes for {made.layers[0].digest}" in caplog.text
    assert not dev.store.has(made.layers[0])
    assert not dev.store.unfinished()


def test_a_registry_that_answers_nothing_is_left_after_its_time(dev: Device, made: Made, sim: Simulator) -> None:
    sim.silent = True
    with pytest.raises(RegistryUnavailableError, match="the connection broke or timed out"):
        sources(dev, registry(sim), caps=replace(SOON, read_timeout=0.2, attempts=2)).fetch(made.digest, names=NAMES)


def test_a_token_that_ends_in_the_middle_is_fetched_again_with_a_password_that_was_exchanged(
    sim: Simulator, tmp_path: Path
) -> None:
    made = make(tmp_path / "one", (700_000,))  # several at once would take each other's tokens
    made.into(sim)
    dev = device(tmp_path / "dev", made)
    sim.auth, sim.drop_every, sim.drop_ends_tokens = "bearer", 200_000, True
    logins = tmp_path / "logins.json"

    def write(password: str) -> None:
        import base64
        import json

        entry = {"auth": base64.b64encode(f"ann:{password}".encode()).decode()}
        logins.write_text(json.dumps({"auths": {f"127.0.0.1:{sim.port}": entry}}))
        logins.chmod(0o600)

    write(sim.password)
    exchanged = False

    def progress(done: int, total: int) -> None:
        nonlocal exchanged
        if done > 150_000 and not exchanged:
            exchanged = True
            sim.password = "another"
            write("another")

    source = registry(sim, credentials_file=logins)
    sources(dev, source, caps=replace(SOON, stalled_seconds=10)).fetch(made.digest, progress, names=NAMES)
    assert exchanged
    assert whole(dev, made)
    logins.chmod(0o644)
    on = device(tmp_path / "other", made)
    with pytest.raises(EdgepackError, match="others can read these credentials"):
        sources(on, source).fetch(made.digest, names=NAMES)
    write("wrong")
    with pytest.raises(AuthenticationError, match="refused the credentials"):
        sources(on, source, caps=replace(SOON, stalled_seconds=1000)).fetch(made.digest, names=NAMES)


def test_a_helper_is_asked_at_use_and_again_when_its_password_is_refused(
    dev: Device, made: Made, sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, secret = tmp_path / "docker-credential-site", tmp_path / "secret"
    program.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\ncat {secret}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    source = registry(sim, credential_helper="site")
    sources(dev, source).fetch(made.digest, names=NAMES)
    assert not (tmp_path / "asked").exists()  # nobody asked for a login
    sim.auth, sim.drop_every, sim.password = "basic", 200_000, "first"
    secret.write_text('{"Username": "ann", "Secret": "first"}')
    on = device(tmp_path / "other", made)

    def exchange(done: int, total: int) -> None:
        if done > total // 2:
            sim.password = "second"
            secret.write_text('{"Username": "ann", "Secret": "second"}')

    sources(on, source, caps=replace(SOON, stalled_seconds=10)).fetch(made.digest, exchange, names=NAMES)
    assert sim.password == "second"
    assert whole(on, made)
    secret.write_text("nonsense")
    with pytest.raises(AuthenticationError, match="docker-credential-site failed") as caught:
        sources(device(tmp_path / "third", made), source).fetch(made.digest, names=NAMES)
    assert "nonsense" not in str(caught.value)
    missing = replace(source, credential_helper="nowhere")
    with pytest.raises(EdgepackError, match="docker-credential-nowhere is not installed"):
        sources(device(tmp_path / "third", made), missing).fetch(made.digest, names=NAMES)


def test_a_source_that_sends_more_than_it_was_asked_for_is_left(dev: Device, made: Made, sim: Simulator) -> None:
    sim.ignore_range, sim.drop_every = True, 300_000
    caps = replace(SOON, stalled_seconds=1000, spare_bytes=100_000)
    with pytest.raises(RegistryError, match="more than twice what is missing"):
        sources(dev, registry(sim), caps=caps).fetch(made.digest, names=NAMES)


# Several sources


def test_the_next_source_gives_what_the_first_gives_wrongly_and_each_is_asked_once(
    dev: Device, made: Made, sim: Simulator, second: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    sim.altered = {str(made.layers[0].digest)}
    sources(dev, registry(sim), registry(second)).fetch(made.digest, names=NAMES)
    assert whole(dev, made)
    assert sim.count("GET", str(made.layers[0].digest)) == 1
    assert second.sent == made.layers[0].size
    assert f"127.0.0.1:{sim.port} gave wrong bytes" in caplog.text


@pytest.mark.parametrize("fault", ["away", "busy", "empty", "forbid", "cut"])
def test_the_next_source_is_tried(dev: Device, made: Made, second: Simulator, fault: str) -> None:
    with running(Simulator()) as simulator:
        made.into(simulator)
        if fault == "busy":
            simulator.busy = [(503, None)] * 1000
        elif fault == "empty":
            simulator.manifests.clear()
        elif fault == "forbid":
            simulator.forbid = True
        elif fault == "cut":
            simulator.drop_every = 0
        first = registry(simulator)
        if fault == "away":
            first = replace(first, registry="127.0.0.1:1")
        sources(dev, first, registry(second)).fetch(made.digest, names=NAMES)
    assert whole(dev, made)


def test_a_slow_source_is_left_for_another_which_goes_on_where_it_was(
    dev: Device, made: Made, sim: Simulator, second: Simulator
) -> None:
    sim.piece_seconds = 0.15
    caps = replace(SOON, slow_seconds=0.4, slow_bytes=10 << 20)
    sources(dev, registry(sim), registry(second), caps=caps).fetch(made.digest, names=NAMES)
    assert whole(dev, made)
    assert 0 < second.sent < made.layers[0].size


def test_when_no_source_gives_it_the_error_says_why_of_each(dev: Device, made: Made, sim: Simulator) -> None:
    sim.altered = {str(made.layers[0].digest)}
    with pytest.raises(VerificationError) as caught, running(Simulator()) as empty:
        sources(dev, registry(sim), registry(empty), FolderSource(dev.root.parent)).fetch(made.digest, names=NAMES)
    text = str(caught.value)
    assert f"127.0.0.1:{sim.port}: " in text
    assert f"127.0.0.1:{empty.port}: does not have {made.digest}" in text
    assert f"{dev.root.parent}: has no bundle with {made.digest}" in text


# Signatures


def test_an_unsigned_image_is_refused_before_its_layers_move_unless_allowed(tmp_path: Path) -> None:
    unsigned = make(tmp_path / "unsigned", signed=False)
    on = device(tmp_path / "dev")
    with running(Simulator()) as simulator:
        unsigned.into(simulator)
        with pytest.raises(SignatureError, match="has no statement attached"):
            sources(on, registry(simulator)).fetch(unsigned.digest, names=NAMES)
        assert simulator.count("GET", str(unsigned.layers[0].digest)) == 0
        sources(on, registry(simulator), allow_unsigned=True).fetch(unsigned.digest, names=NAMES)
    assert whole(on, unsigned)


def test_a_strangers_statement_is_refused_also_where_unsigned_images_are_allowed(tmp_path: Path, made: Made) -> None:
    on = device(tmp_path / "dev")
    with running(Simulator()) as simulator:
        made.into(simulator)
        for allowed in (False, True):
            with pytest.raises(UntrustedKeyError, match=made.key.id):
                sources(on, registry(simulator), allow_unsigned=allowed).fetch(made.digest, names=NAMES)
        assert simulator.sent < 10_000
    assert on.store.digests() == frozenset()


def test_a_good_statement_among_those_of_strangers_is_found_and_the_others_are_not_stored(tmp_path: Path) -> None:
    image = make(tmp_path / "store")
    for _ in range(5):
        attach(image.store, image.root, "churn:1", create_key())
    on = device(tmp_path / "dev", image)
    with running(Simulator()) as simulator:
        image.into(simulator)
        sources(on, registry(simulator)).fetch(image.digest, names=NAMES)
    assert len(image.store.referrers(image.digest)) == 6
    assert len(on.store.referrers(image.digest, mediatypes.STATEMENT_ARTIFACT)) == 1
    on.check_signed(image.digest, allow_unsigned=False)


def test_the_statement_may_come_from_another_source_than_the_image(
    dev: Device, made: Made, sim: Simulator, second: Simulator
) -> None:
    sim.referrers_api = False
    sources(dev, registry(sim), registry(second)).fetch(made.digest, names=NAMES)
    dev.check_signed(made.digest, allow_unsigned=False)
    assert second.count("GET", str(made.layers[0].digest)) == 0


def test_a_statement_that_came_later_is_fetched_alone(dev: Device, made: Made, sim: Simulator, tmp_path: Path) -> None:
    sim.referrers_api = False
    with pytest.raises(SignatureError):
        sources(dev, registry(sim)).fetch(made.digest, names=NAMES)
    sources(dev, registry(sim), allow_unsigned=True).fetch(made.digest, names=NAMES)
    sim.referrers_api, before = True, sim.sent
    sources(dev, registry(sim)).fetch(made.digest, names=NAMES)
    dev.check_signed(made.digest, allow_unsigned=False)
    assert sim.sent - before < 10_000


@pytest.mark.parametrize("status", [500, 503])
def test_a_list_of_statements_that_cannot_be_had_now_is_asked_for_again(
    dev: Device, made: Made, sim: Simulator, status: int
) -> None:
    sim.referrers_answer = (status, b"", {})
    with pytest.raises(RegistryUnavailableError):
        sources(dev, registry(sim)).fetch(made.digest, names=NAMES)
    sim.referrers_answer = None
    sources(dev, registry(sim)).fetch(made.digest, names=NAMES)


# Disk


def test_too_small_a_disk_is_told_with_the_figures_before_the_first_byte(
    dev: Device, made: Made, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.sources.room.free", lambda folder: 2_000_000)
    asked: list[int] = []
    fetcher = sources(dev, registry(sim), floor_bytes=1_000_000, make_room=asked.append)
    with pytest.raises(NoSpaceError, match=r"to download, \d+ to unpack.* 1000000 that stay free\) and 2000000 are"):
        fetcher.fetch(made.digest, names=NAMES)
    assert asked[0] > 0
    assert sim.count("GET", str(made.layers[0].digest)) == 0
    assert dev.store.digests() == frozenset()


def test_nothing_to_write_needs_no_room(
    dev: Device, made: Made, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources(dev, registry(sim)).fetch(made.digest, names=NAMES)
    monkeypatch.setattr("edge_agent.sources.room.free", lambda folder: 0)
    sources(dev, registry(sim), floor_bytes=1 << 30).fetch(made.digest, names=NAMES)


# Folders


def test_a_folder_of_bundles_gives_the_image_and_one_that_is_half_copied_gives_what_it_has(
    tmp_path: Path, made: Made, sim: Simulator
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "notes.txt").write_text("not a bundle")
    bundle = made.bundle(stick / "churn-1.bundle")
    on = device(tmp_path / "dev", made)
    sources(on, FolderSource(stick)).fetch(made.digest)
    assert whole(on, made)

    data = bundle.read_bytes()
    bundle.write_bytes(data[: len(data) - 2000])
    on = device(tmp_path / "half", made)
    with pytest.raises(VerificationError, match=r"churn-1.bundle: is cut short before the end of sha256:"):
        sources(on, FolderSource(stick)).fetch(made.digest)
    before = sim.sent
    sources(on, FolderSource(stick), registry(sim)).fetch(made.digest, names=NAMES)
    assert whole(on, made)
    assert sim.sent - before < sum(layer.size for layer in made.layers)


def test_a_stick_that_is_not_there_is_waited_for(tmp_path: Path, made: Made, dev: Device) -> None:
    with pytest.raises(SourceGoneError, match="put the stick in"):
        sources(dev, FolderSource(tmp_path / "stick")).fetch(made.digest)
    put = []

    def sleep(seconds: float) -> None:
        put.append(seconds)
        (tmp_path / "stick").mkdir(exist_ok=True)
        made.bundle(tmp_path / "stick" / "b")

    sources(dev, FolderSource(tmp_path / "stick"), caps=replace(SOON, stalled_seconds=60), sleep=sleep).fetch(
        made.digest
    )
    assert whole(dev, made)
    assert len(put) == 1


def test_a_folder_with_an_oci_layout_is_read_and_nothing_in_it_is_removed(tmp_path: Path, made: Made) -> None:
    import shutil

    layout = tmp_path / "stick" / "layout"
    shutil.copytree(made.store.root, layout)
    blob = layout / "blobs" / "sha256" / made.layers[0].digest.hex
    good = blob.read_bytes()
    blob.write_bytes(b"\0" * len(good))
    on = device(tmp_path / "dev", made)
    with pytest.raises(DigestMismatchError):
        sources(on, FolderSource(tmp_path / "stick")).fetch(made.digest)
    assert blob.read_bytes() == b"\0" * len(good)
    blob.write_bytes(good)
    sources(on, FolderSource(layout)).fetch(made.digest)
    assert whole(on, made)


# Neighbours


def test_a_neighbour_gives_by_digest_what_it_has(tmp_path: Path, made: Made, dev: Device, sim: Simulator) -> None:
    from edgepack.oci.serve import serve

    with serve(made.store) as port:
        sources(dev, NeighbourSource(f"http://127.0.0.1:{port}"), registry(sim)).fetch(made.digest)
    assert whole(dev, made)
    assert sim.seen == []


# Tags


def test_a_tag_is_looked_up_here_then_at_the_first_source_that_knows_it(
    tmp_path: Path, made: Made, dev: Device, sim: Simulator
) -> None:
    from edgepack.oci.serve import serve

    stick = tmp_path / "stick"
    stick.mkdir()
    made.bundle(stick / "b")
    assert sources(dev, registry(sim)).find("churn:1") == made.digest
    assert sources(dev, FolderSource(stick)).find("churn:1") == made.digest
    with serve(made.store) as port:
        assert sources(dev, NeighbourSource(f"http://127.0.0.1:{port}")).find("churn:1") == made.digest
    with pytest.raises(NotFoundError, match="churn:2"):
        sources(dev, registry(sim), FolderSource(stick)).find("churn:2")
