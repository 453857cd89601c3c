"""Several models in one process: found, loaded when asked for, let go for others, and never in each other's way."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_server.config.values import MIB, ModelPlace, Runtime, ServiceConfig
from edge_server.errors import BadRequest, ScoringError
from edge_server.models import catalog as catalog_module
from edge_server.models.catalog import LOADS_AT_ONCE, Catalog
from edge_server.models.loading import Opened, open_model
from edge_server.models.running.memory import own_bytes
from edge_server.models.running.onnx_model import OnnxModel
from edge_server.telemetry.metrics import Metrics
from tests.support.running import python
from tests.support.waiting import happens

WIDTH = 8


def _place(folder: Path, name: str, version: int = 1, *, mib: float = 0.01, pinned: bool = False) -> ModelPlace:
    """A model that multiplies rows by a matrix of so many MiB and sums up what comes out."""
    place = ModelPlace(name, version, folder / name / str(version), "model.onnx", pinned)
    place.folder.mkdir(parents=True)
    columns = max(1, int(mib * MIB / 4 / WIDTH))
    weights = np.random.default_rng(0).normal(size=(WIDTH, columns)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("ReduceSum", ["p", "axes"], ["y"], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([1]), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), place.path)
    return place


def _promise(place: ModelPlace, expected: float | None = None, **changes: Any) -> None:
    """Write a manifest, and golden vectors of one row of zeros, which a right model answers with 0."""
    golden = json.dumps({"inputs": {"x": [[0.0] * WIDTH]}, "outputs": {"y": [[expected or 0.0]]}}).encode()
    (place.folder / "golden.json").write_bytes(golden)
    manifest = {
        "schema": "edgepack.model/v1",
        "file": "model.onnx",
        "inputs": [{"name": "x", "graph_name": "x", "dtype": "float32", "shape": [None, WIDTH]}],
        "outputs": [{"name": "y", "graph_name": "y", "role": "values", "dtype": "float32", "shape": [None, 1]}],
        "methods": {"default": "predict", "predict": ["y"]},
        "rejects": {"nan": True, "infinity": True},
        "row_wise": True,
        "parity": {"passed": True},
        "golden": {
            "file": "golden.json",
            "digest": "sha256:" + hashlib.sha256(golden).hexdigest(),
            "rtol": 1e-4,
            "atol": 1e-5,
        },
    }
    (place.folder / "model.manifest.json").write_text(json.dumps({**manifest, **changes}))


class Counts(Metrics):
    """Metrics that also remember loads and evictions."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[tuple[str, bool]] = []
        self.evictions: list[str] = []

    def observe_load(self, model: str, seconds: float, failed: bool) -> None:
        """Remember it."""
        self.loads.append((model, failed))

    def count_eviction(self, model: str) -> None:
        """Remember it."""
        self.evictions.append(model)


def _catalog(*places: ModelPlace, budget: float | None = None, threads: int = 1) -> tuple[Catalog[str], Counts]:
    metrics = Counts()
    runtime = Runtime(threads=threads, memory_bytes=None if budget is None else int(budget * MIB))
    config = ServiceConfig(places, "127.0.0.1", runtime=runtime)
    return Catalog(config, metrics, lambda model, place: f"runs {place.id}"), metrics


def _names(catalog: Catalog[str]) -> list[str]:
    return sorted(loaded.place.name for loaded in catalog.all_loaded())


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


class Gate:
    """Holds the loads of some models until it is opened; counts all loads by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *held: str) -> None:
        self.open = threading.Event()
        self.loads: list[str] = []
        self.most = 0
        self._busy = 0
        self._lock = threading.Lock()

        def load(path: Path, threads: int, *, measured: bool = True) -> Opened:
            name = path.parent.parent.name
            with self._lock:
                self.loads.append(name)
                self._busy += 1
                self.most = max(self.most, self._busy)
            try:
                if name in held:
                    assert self.open.wait(60)
                return open_model(path, threads, measured=measured)
            finally:
                with self._lock:
                    self._busy -= 1

        monkeypatch.setattr(catalog_module, "open_model", load)


def test_models_are_found_by_name_and_version_and_the_only_one_without(tmp_path: Path) -> None:
    one = [ModelPlace("a", version, tmp_path, "m.onnx") for version in (1, 10, 2)]
    two = [*one, ModelPlace("b", 3, tmp_path, "m.onnx")]
    catalog, _ = _catalog(*one)
    assert catalog.find(None, None).version == 10
    assert catalog.find("a", None).version == 10
    assert catalog.find("a", 2).version == 2
    assert catalog.find(None, 1).version == 1
    assert catalog.directory.versions("a") == (1, 2, 10)
    assert catalog.directory.versions("x") == ()
    catalog, _ = _catalog(*two)
    for name, version, status, told in (
        (None, None, 400, "?model=NAME; there are 'a', 'b'"),
        ("c", None, 404, "no model 'c'; there are 'a', 'b'"),
        ("a", 7, 404, "no version 7; it has 1, 2, 10"),
    ):
        with pytest.raises(BadRequest, match=r".*") as refusal:
            catalog.find(name, version)
        assert refusal.value.status == status
        assert told in refusal.value.message


def test_without_a_budget_everything_is_loaded_checked_and_warm_at_the_start(tmp_path: Path) -> None:
    places = [_place(tmp_path, name) for name in ("a", "b")]
    _promise(places[0])

    async def work() -> None:
        catalog, metrics = _catalog(*places)
        await catalog.start()
        a, b = (catalog.loaded(place) for place in places)
        assert a is not None
        assert b is not None
        assert (a.golden_values, b.golden_values) == (1, 0)
        assert a.model.joinable
        assert b.model.joinable
        assert a.attached == "runs a:1"
        assert metrics.loads == [("a:1", False), ("b:1", False)]
        assert await catalog.load(places[0]) is a
        await catalog.stop()
        assert not catalog.all_loaded()

    _run(work())


def test_golden_vectors_that_differ_stop_the_start_with_numbers(tmp_path: Path) -> None:
    place = _place(tmp_path, "a")
    _promise(place, 2.5)

    async def work() -> None:
        catalog, metrics = _catalog(place)
        with pytest.raises(ScoringError, match=r"differs in 1 of 1 values, at most 2\.5 apart"):
            await catalog.start()
        assert metrics.loads == [("a:1", True)]

    _run(work())


def test_what_does_not_fit_at_the_start_is_looked_at_all_the_same(tmp_path: Path) -> None:
    first, later = _place(tmp_path, "a", mib=8), _place(tmp_path, "b", mib=8)

    async def start() -> None:
        catalog, _ = _catalog(first, later, budget=15.9)
        await catalog.start()
        assert _names(catalog) == ["a"]
        assert (await catalog.load(later)).place is later

    _run(start())
    _promise(later, methods={"default": "none"})
    with pytest.raises(ScoringError, match=r"names the method 'none'"):
        _run(start())
    later.path.write_bytes(b"broken")
    _promise(later)
    with pytest.raises(ScoringError, match=r"is not an ONNX file"):
        _run(start())
    later.path.unlink()
    with pytest.raises(ScoringError, match=r"there is no model file"):
        _run(start())


def test_models_leave_by_least_recent_use_and_pinned_ones_stay(tmp_path: Path) -> None:
    pinned = _place(tmp_path, "pinned", mib=8, pinned=True)
    a, b, c, d = (_place(tmp_path, name, mib=8) for name in "abcd")

    async def work() -> None:
        catalog, metrics = _catalog(a, b, c, d, pinned, budget=30)
        await catalog.start()
        assert _names(catalog) == ["a", "b", "pinned"]
        catalog.loaded(a)
        await catalog.load(c)
        assert _names(catalog) == ["a", "c", "pinned"]
        await catalog.load(a)
        await catalog.load(d)
        assert _names(catalog) == ["a", "d", "pinned"]
        assert metrics.evictions == ["b:1", "c:1"]
        held = sum(loaded.bytes for loaded in catalog.all_loaded())
        assert 24 * MIB < held <= 30 * MIB
        await catalog.stop()

    _run(work())


def test_a_model_larger_than_the_budget_is_refused_and_takes_nobodys_place(tmp_path: Path) -> None:
    small, large = _place(tmp_path, "small"), _place(tmp_path, "large", mib=6)

    async def work() -> None:
        catalog, metrics = _catalog(small, large, budget=4)
        await catalog.start()
        with pytest.raises(BadRequest, match=r"'large:1' takes 6\.0 MiB, more than is left of the 4\.0 MiB") as refusal:
            await catalog.load(large)
        assert refusal.value.status == 507
        assert _names(catalog) == ["small"]
        assert metrics.loads == [("small:1", False)]

    _run(work())
    pinned = _place(tmp_path, "pinned", mib=6, pinned=True)
    with pytest.raises(ScoringError, match=r"pinned models up to pinned:1 take 6\.\d MiB.* allows 4\.0"):
        _run(_catalog(pinned, budget=4)[0].start())


def test_what_a_model_really_takes_counts_and_not_only_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestRegressor

    rows = np.random.default_rng(0).normal(size=(2000, WIDTH)).astype(np.float32)
    forest = RandomForestRegressor(30, n_jobs=2, random_state=0).fit(rows, rows.sum(axis=1))
    place = _place(tmp_path, "forest")
    place.path.write_bytes(to_onnx(forest, rows[:1], target_opset=18).SerializeToString())
    size = place.path.stat().st_size
    other = _place(tmp_path, "other", mib=1)

    async def work() -> None:
        # Between what the file and what the loaded forest takes.
        catalog, metrics = _catalog(other, place, budget=1.5 + 1.5 * size / MIB)
        await catalog.load(other)
        # At first nothing is known but the file; afterwards what it took, even when another attempt is due.
        monkeypatch.setattr(catalog_module, "RETRY_SECONDS", 0)
        for _ in range(3):
            with pytest.raises(BadRequest, match=r"more than is left") as refusal:
                await catalog.load(place)
            assert refusal.value.status == 507
            assert gate.loads.count("forest") == 1
        assert _names(catalog) == ["other"]
        assert not metrics.evictions
        await catalog.stop()

    gate = Gate(monkeypatch)
    _run(work())


def test_a_model_that_left_gives_its_memory_back(tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestRegressor

    rows = np.random.default_rng(0).normal(size=(2000, WIDTH)).astype(np.float32)
    forest = RandomForestRegressor(60, n_jobs=2, random_state=0).fit(rows, rows.sum(axis=1))
    place = _place(tmp_path, "forest")
    place.path.write_bytes(to_onnx(forest, rows[:1], target_opset=18).SerializeToString())
    for name in "ab":
        _place(tmp_path, name, mib=16)
    # In a process of its own, without what training left in this one's heaps, and that begins as the server does: with
    # one heap for all threads. A thread that has not ended yet, on a busy machine, would keep the end of its own one,
    # and what the load of the forest had freed there would be taken for the forest's.
    script = f"""
import asyncio, json
from pathlib import Path
from edge_server.config.values import MIB, ModelPlace, Runtime, ServiceConfig
from edge_server.models.catalog import Catalog
from edge_server.models.running.memory import own_bytes, settle_heap
from edge_server.telemetry.metrics import Metrics

async def work():
    folder = Path({str(tmp_path)!r})
    places = [ModelPlace(name, 1, folder / name / "1", "model.onnx") for name in ("a", "forest", "b", "forest")]
    config = ServiceConfig((places[0], places[1], places[2]), "", runtime=Runtime(memory_bytes=30 * MIB))
    catalog = Catalog(config, Metrics(), lambda model, place: None)
    costs, levels = [], []
    for place in places * 5:
        costs.append((await catalog.load(place)).bytes)
        levels.append(own_bytes())
    print(json.dumps([costs[1::2], levels[1::2]]))

settle_heap()
asyncio.run(work())
"""
    found = python(script)
    costs, levels = json.loads(found)
    assert min(costs) > 14 * MIB
    assert max(costs) < 1.2 * min(costs)
    assert max(levels[1:]) - levels[1] < 4 * MIB


def test_a_run_under_way_keeps_a_model_that_is_let_go(tmp_path: Path) -> None:
    a, b = _place(tmp_path, "a", mib=8), _place(tmp_path, "b", mib=8)

    async def work() -> None:
        catalog, _ = _catalog(a, b, budget=15.9)
        held = await catalog.load(a)
        await catalog.load(b)
        assert _names(catalog) == ["b"]
        assert held.model.run({"x": np.zeros((1, WIDTH), np.float32)}, ["y"])[0].tolist() == [[0.0]]
        again = await catalog.load(a)
        assert again is not held
        await catalog.stop()

    _run(work())


def test_a_slow_load_delays_no_other_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, quick, there = (_place(tmp_path, name) for name in ("slow", "quick", "there"))
    gate = Gate(monkeypatch, "slow")

    async def work() -> None:
        catalog, _ = _catalog(there, quick, slow, budget=10)
        await catalog.load(there)
        waiting = asyncio.create_task(catalog.load(slow))
        await happens(lambda: "slow" in gate.loads)
        assert catalog.loaded(there) is not None
        await catalog.load(quick)
        assert not waiting.done()
        gate.open.set()
        assert (await waiting).place is slow
        assert gate.loads == ["there", "slow", "quick"]
        await catalog.stop()

    _run(work())


def test_requests_for_one_model_share_its_load_and_one_that_leaves_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = _place(tmp_path, "a")
    gate = Gate(monkeypatch, "a")

    async def work() -> None:
        catalog, metrics = _catalog(place, budget=10)
        first, *others = (asyncio.create_task(catalog.load(place)) for _ in range(20))
        await happens(lambda: gate.loads)
        first.cancel()
        gate.open.set()
        loaded = await asyncio.gather(*others)
        assert first.cancelled()
        assert len(set(map(id, loaded))) == 1
        assert gate.loads == ["a"]
        assert metrics.loads == [("a:1", False)]
        await catalog.stop()

    _run(work())


def test_only_so_many_loads_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"m{number}" for number in range(LOADS_AT_ONCE + 3)]
    places = [_place(tmp_path, name) for name in names]
    gate = Gate(monkeypatch, *names)

    async def work() -> None:
        catalog, _ = _catalog(*places, budget=10)
        loads = [asyncio.create_task(catalog.load(place)) for place in places]
        await happens(lambda: len(gate.loads) >= LOADS_AT_ONCE)
        await asyncio.sleep(0.1)  # in which more would begin
        assert len(gate.loads) == LOADS_AT_ONCE
        gate.open.set()
        await asyncio.gather(*loads)
        assert gate.most == LOADS_AT_ONCE
        await catalog.stop()

    _run(work())


def test_two_models_that_fit_one_at_a_time_are_loaded_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What else the test process takes meanwhile is measured with them: they are large beside that.
    a, b = _place(tmp_path, "a", mib=8), _place(tmp_path, "b", mib=8)
    gate = Gate(monkeypatch)

    async def work() -> None:
        catalog, metrics = _catalog(a, b, budget=15.9)
        await asyncio.gather(catalog.load(a), catalog.load(b))
        assert gate.most == 1
        assert len(catalog.all_loaded()) == 1
        assert len(metrics.evictions) == 1
        await catalog.stop()

    _run(work())


@pytest.mark.parametrize("fault", ["broken", "differs"])
def test_a_model_that_cannot_be_loaded_is_refused_for_a_while_and_then_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    first, place = _place(tmp_path, "first", mib=8), _place(tmp_path, "bad", mib=8)
    right = place.path.read_bytes()
    if fault == "differs":
        _promise(place, 2.5)
    gate = Gate(monkeypatch)

    async def work() -> None:
        catalog, metrics = _catalog(first, place, budget=15.9)
        await catalog.start()
        if fault == "broken":
            place.path.write_bytes(right[:2000] + bytes(len(right)))
        for _ in range(3):
            with pytest.raises(BadRequest, match=r"'bad:1' cannot be loaded now; the server's log has more") as refusal:
                await catalog.load(place)
            assert refusal.value.status == 503
            assert refusal.value.headers == ((b"retry-after", b"30"),)
        assert gate.loads == ["first", "bad"]
        assert metrics.loads[-1] == ("bad:1", True)
        assert not catalog.available(place)
        reasons = [record.__dict__["reason"] for record in caplog.records if "could not be loaded" in record.message]
        assert len(reasons) == 1
        assert ("is not an ONNX file" if fault == "broken" else "at most 2.5 apart") in reasons[0]
        place.path.write_bytes(right)
        _promise(place)
        later = time.monotonic() + catalog_module.RETRY_SECONDS
        clocks = SimpleNamespace(monotonic=lambda: later, perf_counter=time.perf_counter)
        monkeypatch.setattr(catalog_module, "time", clocks)
        assert catalog.available(place)
        assert (await catalog.load(place)).golden_values == 1
        await catalog.stop()

    _run(work())


def test_a_hanging_file_holds_neither_the_loop_nor_the_end(tmp_path: Path) -> None:
    import os

    place = _place(tmp_path, "a")
    quick = _place(tmp_path, "b")
    place.path.unlink()
    place.path.symlink_to(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(place.folder / "model.manifest.json")

    async def work() -> None:
        catalog, _ = _catalog(place, quick, budget=10)
        waiting = asyncio.create_task(catalog.load(place))
        await catalog.load(quick)
        await catalog.stop()
        with pytest.raises((asyncio.CancelledError, BadRequest)):
            await waiting

    _run(work())
    # Let the thread go.
    for pipe in (tmp_path / "pipe", place.folder / "model.manifest.json"):
        os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


def _graph(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> OnnxModel:
    graph = helper.make_graph(nodes, "graph", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return open_model(path, 1).model


def _values(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def test_rows_are_joined_only_where_they_answer_alone_as_they_do_together(tmp_path: Path) -> None:
    by_row = [helper.make_node("Softmax", ["x"], ["y"], axis=1)]
    by_batch = [helper.make_node("Softmax", ["x"], ["y"], axis=0)]
    first_only = [helper.make_node("ReduceMax", ["x"], ["y"], keepdims=1)]
    x, y = _values("x", ["n", 3]), _values("y", ["n", 3])
    assert _graph(tmp_path / "rows.onnx", by_row, [x], [y]).joinable
    assert not _graph(tmp_path / "batch.onnx", by_batch, [x], [y]).joinable
    assert not _graph(tmp_path / "one.onnx", first_only, [x], [_values("y", ["n", 1])]).joinable
    fixed = _graph(tmp_path / "fixed.onnx", by_row, [_values("x", [4, 3])], [_values("y", [4, 3])])
    assert not fixed.joinable
    scalar = _graph(
        tmp_path / "scalar.onnx", [helper.make_node("Abs", ["x"], ["y"])], [_values("x", [])], [_values("y", [])]
    )
    assert not scalar.joinable
    text = [helper.make_node("Identity", ["x"], ["y"])]
    kinds = (TensorProto.STRING, TensorProto.INT64, TensorProto.BOOL)
    for kind in kinds:
        model = _graph(tmp_path / f"{kind}.onnx", text, [_values("x", ["n", 2], kind)], [_values("y", ["n", 2], kind)])
        assert model.joinable


def test_a_manifest_that_says_rows_depend_on_each_other_is_believed(tmp_path: Path) -> None:
    place = _place(tmp_path, "a")
    _promise(place, row_wise=False)
    assert not open_model(place.path, 1).model.joinable
    _promise(place)
    assert open_model(place.path, 1).model.joinable


def test_threads_are_kept_only_where_they_make_slow_runs_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_server.models import loading

    place = _place(tmp_path, "a")
    assert open_model(place.path, 4).model.threads == 1
    assert open_model(place.path, 4, measured=False).model.threads == 4
    seconds = {1: 0.5, 4: 0.2}
    monkeypatch.setattr(loading, "run_seconds", lambda model, arrays, rows: seconds[model.threads])
    assert open_model(place.path, 4).model.threads == 4
    seconds[4] = 0.45
    assert open_model(place.path, 4).model.threads == 1


def test_a_large_batch_leaves_no_memory_behind(tmp_path: Path) -> None:
    model = open_model(_place(tmp_path, "a", mib=0.1).path, 1).model
    small, large = np.zeros((1, WIDTH), np.float32), np.zeros((5000, WIDTH), np.float32)
    model.run({"x": small}, ["y"])
    before = own_bytes()
    model.run({"x": large}, ["y"])  # the product takes 60 MiB
    assert own_bytes() - before < 20 * MIB
