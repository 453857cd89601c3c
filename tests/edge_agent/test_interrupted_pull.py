"""Pulls that are killed, and power cuts: what came is not fetched again, and what may be lost is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent.device import Device
from edge_agent.reconcile.acceptance import COMMAND
from edge_agent.reconcile.space import collect, relieve
from edgepack.errors import RegistryUnavailableError
from edgepack.oci import checkpoint
from edgepack.oci.serve import serve
from edgepack.state.desired import DesiredService
from tests.edge_agent.support.origins import Made, device, make, registry, sources, whole
from tests.edgepack.support.registry_simulator import Simulator, running
from tests.support.sampling import times
from tests.support.waiting import wait_until

CHUNK = 1 << 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made") / "store", (9_000_000, 2_000_000, 1000))


def test_a_pull_that_is_killed_fetches_at_most_a_chunk_of_each_layer_again(made: Made, tmp_path: Path) -> None:
    on = device(tmp_path / "dev", made)
    kills = times(12, 3)
    with running(Simulator(piece_seconds=0.01)) as simulator:
        made.into(simulator)
        words = [sys.executable, "-m", "edge_agent", "--state-dir", str(on.root), "pull"]
        words.append(f"127.0.0.1:{simulator.port}/churn:1")
        for number in range(kills):
            mark = simulator.sent + 11_000_000 // (kills + 2)
            agent = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(lambda mark=mark, agent=agent: simulator.sent >= mark or agent.poll() is not None)  # type: ignore[misc]
            assert agent.poll() is None, f"it ended before kill {number}"
            os.kill(agent.pid, signal.SIGKILL)
            agent.wait()
        assert subprocess.run(words, capture_output=True, check=False).returncode == 0
        total = sum(layer.size for layer in made.layers)
        # Of two layers a chunk, and what was on its way to a process that was gone.
        assert total <= simulator.sent <= total + kills * 2 * (CHUNK + (256 << 10)) + 20_000
    assert whole(on, made)


def test_a_pull_that_is_killed_leaves_no_lock_and_another_goes_on(made: Made, tmp_path: Path) -> None:
    on = device(tmp_path / "dev", made)
    with running(Simulator(silent=True)) as simulator:
        made.into(simulator)
        words = [sys.executable, "-m", "edge_agent", "--state-dir", str(on.root), "pull"]
        words.append(f"127.0.0.1:{simulator.port}/churn:1")
        agent = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: simulator.count("GET", "blobs") > 0)
        agent.terminate()
        agent.wait()
        simulator.silent = False
        sources(on, registry(simulator)).fetch(made.digest, names=["churn"])
    assert whole(on, made)


def test_after_a_power_cut_only_what_was_not_written_through_is_fetched_again(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "STEP_BYTES", 2_000_000)
    on = device(tmp_path / "dev", made)
    layer = made.layers[0]
    with running(Simulator(drops_of=str(layer.digest), drops=[7_500_000, *[0] * 50])) as simulator:
        made.into(simulator)
        with pytest.raises(RegistryUnavailableError):
            sources(on, registry(simulator)).fetch(made.digest, names=["churn"])
        simulator.drops = []
        [unfinished] = [path for path in on.store.unfinished() if path.name.startswith(layer.digest.hex)]
        length = unfinished.stat().st_size
        assert length > 6_500_000
        with unfinished.open("r+b") as file:  # what the kernel had not written
            file.truncate(6_500_000)
            file.truncate(length)
        monkeypatch.setattr(checkpoint, "boot_id", lambda: "another")
        simulator.seen.clear()
        sources(on, registry(simulator)).fetch(made.digest, names=["churn"])
        asked = [one.headers.get("Range") for one in simulator.seen if str(layer.digest) in one.path]
    assert whole(on, made)
    assert len(asked) == 1  # it was not begun anew
    assert 2_000_000 < int(str(asked[0]).removeprefix("bytes=").removesuffix("-")) <= 6_500_000
    assert not list((on.root / "store" / "ingest").iterdir())


def test_what_is_unfinished_stays_however_long_and_whatever_is_imported_meanwhile(made: Made, tmp_path: Path) -> None:
    on = device(tmp_path / "dev", made)
    other = make(tmp_path / "other")
    on.trust.add(other.key.public.to_pem())
    with running(Simulator(drops_of=str(made.layers[0].digest), drops=[5_000_000, *[0] * 50])) as simulator:
        made.into(simulator)
        with pytest.raises(RegistryUnavailableError):
            sources(on, registry(simulator)).fetch(made.digest, names=["churn"])
        for path in on.store.unfinished():
            os.utime(path, (time.time() - 10**7,) * 2)
        from edgepack.bundle.read import import_bundle

        with on.receiving():
            import_bundle(other.bundle(tmp_path / "other.bundle"), on.store, on.trust.keys())
        simulator.drops, simulator.sent = [], 0
        sources(on, registry(simulator)).fetch(made.digest, names=["churn"])
        assert 0 < simulator.sent < 5_000_000
    assert whole(on, made)
    assert whole(on, other)


def test_a_half_download_stays_while_it_is_coming_and_goes_when_room_is_needed_and_nobody_wants_it(
    made: Made, tmp_path: Path
) -> None:
    on = device(tmp_path / "dev", made)
    layer = str(made.layers[0].digest)
    with running(Simulator(drops_of=layer, drops=[5_000_000, *[0] * 50])) as simulator:
        made.into(simulator)
        with pytest.raises(RegistryUnavailableError):
            sources(on, registry(simulator)).fetch(made.digest, names=["churn"])
    on.state.set_goal(DesiredService("churn", made.digest, 6789), COMMAND, None)
    there = on.store.digests()
    for collected in (lambda: relieve(on), lambda: collect_now(on)):
        collected()
        assert on.store.digests() == there
        assert sum(path.stat().st_size for path in on.store.unfinished()) > 3_000_000
    on.state.set_goal(DesiredService("churn", made.digest, 6789, status="removed"), COMMAND, None)
    relieve(on)
    assert on.store.unfinished() == ()
    assert not on.store.has(made.layers[1])


def collect_now(on: Device) -> None:
    with on.changing():
        collect(on, dry_run=False)


FETCH = """
import resource, sys
from pathlib import Path
from edge_agent.config.configuration import FolderSource, NeighbourSource
from edge_agent.device import Device
from edge_agent.sources.sources import Sources
from edgepack.oci.digest import Digest
source = FolderSource(Path(sys.argv[2])) if sys.argv[2].startswith("/") else NeighbourSource(sys.argv[2])
Sources(Device(Path(sys.argv[1])), [source]).fetch(Digest.parse(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_is_flat_whatever_the_size_of_a_layer(tmp_path: Path) -> None:
    peaks = []
    for name, size in (("small", 1000), ("large", times(2 << 30, 60 << 20))):
        large = tmp_path / f"{name}.bin"
        with large.open("wb") as file:
            file.truncate(size)
        image = make(tmp_path / name, (1000, 2000), large=large)
        bundle = image.bundle(tmp_path / f"{name}.bundle")
        with serve(image.store) as port:
            for number, source in enumerate((f"http://127.0.0.1:{port}", str(bundle))):
                on = device(tmp_path / f"{name}{number}", image)
                words = [sys.executable, "-c", FETCH, str(on.root), source, str(image.digest)]
                peaks.append(int(subprocess.run(words, capture_output=True, check=True, text=True).stdout))
                shutil.rmtree(on.root)
    assert peaks[2] - peaks[0] < 12, peaks
    assert peaks[3] - peaks[1] < 12, peaks
