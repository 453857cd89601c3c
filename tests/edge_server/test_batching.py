"""Concurrent requests of one model: joined where that changes no answer, bounded, and ended when their time is over."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_server.config.service_file import single_model
from edge_server.config.values import Batching, Limits, ServiceConfig
from edge_server.errors import BadRequest
from edge_server.http.messages import Reply, Request, Response
from edge_server.models.running import batching
from edge_server.models.running.run_times import RunTimes
from edge_server.models.service import ModelService
from edge_server.telemetry.metrics import Metrics


class Recording(Metrics):
    """Remembers the runs."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[tuple[int, int]] = []

    def observe_run(self, model: str, seconds: float, rows: int, requests: int) -> None:
        self.runs.append((rows, requests))


def request(document: Any) -> Request:
    return Request("POST", "/score", "/score", "", [], json.dumps(document).encode())


async def ask(service: ModelService, *documents: Any) -> list[Response]:
    """Send all in one turn of the loop; return their answers."""
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.Future[Response]] = []

    def send(document: Any, future: asyncio.Future[Response]) -> None:
        try:
            reply = service.score(request(document))
        except BadRequest as error:
            future.set_result(Response(error.status, error.message.encode(), headers=list(error.headers)))
            return
        assert isinstance(reply, Reply)
        reply.then(future.set_result)

    for document in documents:
        waiting.append(loop.create_future())
        # As connections do: each reads in a step of its own.
        loop.call_soon(send, document, waiting[-1])
    return list(await asyncio.gather(*waiting))


def with_service(config: ServiceConfig, test: Callable[[ModelService, Recording], Awaitable[None]]) -> None:
    async def run() -> None:
        metrics = Recording()
        service = ModelService(config, metrics)
        await service.start()
        metrics.runs.clear()
        try:
            await test(service, metrics)
        finally:
            await service.stop()

    asyncio.run(run())


def batched(config: ServiceConfig, **changes: Any) -> ServiceConfig:
    return replace(config, runtime=replace(config.runtime, batching=Batching(**changes)))


@pytest.fixture
def config(rewrite: Callable[..., Path]) -> ServiceConfig:
    return single_model(rewrite(row_wise=True) / "model.onnx")


def test_requests_of_one_turn_are_one_run_and_each_gets_its_own_rows(config: ServiceConfig, iris: Any) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        parts = [iris.rows[:1], iris.rows[1:4], iris.rows[4:5]]
        answers = await ask(service, *({"data": rows} for rows in parts))
        for rows, answer in zip(parts, answers, strict=True):
            assert np.allclose(json.loads(answer.body), iris.model.predict_proba(rows), atol=1e-5)
        assert metrics.runs == [(5, 3)]

    with_service(config, test)


def test_requests_that_want_other_outputs_run_apart(config: ServiceConfig, iris: Any) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        rows = iris.rows[:1]
        documents = [{"data": rows, "method": method} for method in ("predict", "both", "predict", "predict_proba")]
        answers = await ask(service, *documents)
        assert [answer.status for answer in answers] == [200] * 4
        assert answers[0].body == answers[2].body != answers[3].body
        assert sorted(metrics.runs) == [(1, 1), (1, 1), (2, 2)]

    with_service(config, test)


def test_a_request_that_is_refused_takes_no_other_with_it(config: ServiceConfig, iris: Any) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        answers = await ask(service, {"data": iris.rows[:1]}, {"data": [[1, 2]]}, {"data": iris.rows[:2]})
        assert [answer.status for answer in answers] == [200, 400, 200]

    with_service(config, test)


def test_a_joined_run_has_no_more_rows_than_configured(config: ServiceConfig, iris: Any) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        await ask(service, *({"data": iris.rows[:2]} for _ in range(5)))
        assert sorted(metrics.runs) == [(2, 1), (4, 2), (4, 2)]  # the first ones are in threads, and may end later

    with_service(batched(config, rows=5), test)


def test_batching_can_be_switched_off(config: ServiceConfig, iris: Any) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        await ask(service, *({"data": iris.rows[:1]} for _ in range(3)))
        assert metrics.runs == [(1, 1)] * 3

    with_service(batched(config, enabled=False), test)


def test_a_window_joins_what_comes_later_and_ends_when_it_is_full(config: ServiceConfig, iris: Any) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        one = asyncio.ensure_future(ask(service, {"data": iris.rows[:1]}))
        await asyncio.sleep(0.02)
        await asyncio.gather(one, ask(service, {"data": iris.rows[:1]}))
        assert metrics.runs == [(2, 2)]

    async def full(service: ModelService, metrics: Recording) -> None:
        await asyncio.wait_for(ask(service, *({"data": iris.rows[:2]} for _ in range(2))), 60)
        assert metrics.runs == [(4, 2)]

    with_service(batched(config, window_seconds=0.3, rows=4), test)
    with_service(batched(config, window_seconds=60, rows=4), full)


def test_a_model_whose_rows_depend_on_each_other_is_not_joined(rewrite: Callable[..., Path], iris: Any) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        await ask(service, *({"data": iris.rows[:1]} for _ in range(3)))
        assert metrics.runs == [(1, 1)] * 3

    with_service(single_model(rewrite(row_wise=False) / "model.onnx"), test)


def slow_graph(path: Path) -> None:
    """A loop of matrix products, as many as the input says."""
    float32, boolean = TensorProto.FLOAT, TensorProto.BOOL
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state_in", "weights"], ["state_out"]),
            helper.make_node("Identity", ["go_in"], ["go_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", boolean, []),
            helper.make_tensor_value_info("state_in", float32, [128, 128]),
        ],
        [
            helper.make_tensor_value_info("go_out", boolean, []),
            helper.make_tensor_value_info("state_out", float32, [128, 128]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Loop", ["turns", "", "start"], ["end"], body=body),
            helper.make_node("ReduceSum", ["end"], ["sum"], keepdims=0),
        ],
        "slow",
        [helper.make_tensor_value_info("turns", TensorProto.INT64, [])],
        [helper.make_tensor_value_info("sum", float32, [])],
        [
            onnx.numpy_helper.from_array(np.eye(128, dtype=np.float32), "weights"),
            onnx.numpy_helper.from_array(np.eye(128, dtype=np.float32), "start"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))


@pytest.fixture
def slow(tmp_path: Path) -> ServiceConfig:
    slow_graph(tmp_path / "slow.onnx")
    config = single_model(tmp_path / "slow.onnx")
    return replace(config, runtime=replace(config.runtime, threads=1))


def turns(number: int) -> dict[str, Any]:
    return {"inputs": {"turns": number}}


FOREVER = 10**9


def test_a_run_that_takes_too_long_is_ended_and_the_next_one_runs(slow: ServiceConfig) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        started = time.perf_counter()
        (late,) = await ask(service, turns(FOREVER))
        assert 0.2 < time.perf_counter() - started < 50  # of ever
        assert (late.status, late.failed, json.loads(late.body)) == (
            500, True, {"message": "Scoring timeout after 250 ms", "status_code": 500},
        )  # fmt: skip
        (good,) = await ask(service, turns(3))
        assert (good.status, json.loads(good.body)) == (200, 128.0)

    with_service(replace(slow, limits=Limits(scoring_seconds=0.25)), test)


def test_the_loop_goes_on_while_a_long_run_is_under_way(slow: ServiceConfig) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        running = asyncio.ensure_future(ask(service, turns(FOREVER)))
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert not running.done()
        assert (await running)[0].status == 500

    with_service(replace(slow, limits=Limits(scoring_seconds=1)), test)


def test_a_value_that_asks_for_a_long_run_does_not_hold_the_loop(slow: ServiceConfig) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        for _ in range(20):
            assert (await ask(service, turns(1)))[0].status == 200
        (late,) = await ask(service, turns(FOREVER))
        assert late.status == 500

    with_service(replace(slow, limits=Limits(scoring_seconds=0.25)), test)


def test_more_than_the_queue_holds_is_refused_and_so_is_what_waits_too_long(slow: ServiceConfig) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        running = asyncio.ensure_future(ask(service, turns(FOREVER)))
        await asyncio.sleep(0.05)
        answers = await ask(service, turns(1), turns(1), turns(1))
        assert [answer.status for answer in answers] == [503, 503, 503]
        assert all(answer.headers == [(b"retry-after", b"1")] for answer in answers)
        assert b"too many requests" in answers[2].body
        assert b"longer than 0.3 seconds" in answers[0].body
        await running
        assert (await ask(service, turns(1)))[0].status == 200

    limits = Limits(queue=2, queue_seconds=0.3, scoring_seconds=2)
    with_service(replace(slow, limits=limits), test)


def test_who_has_left_is_not_run(slow: ServiceConfig) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        running = asyncio.ensure_future(ask(service, turns(FOREVER)))
        await asyncio.sleep(0.05)
        gone = service.score(request(turns(2)))
        assert isinstance(gone, Reply)
        gone.abandoned = True
        await running
        await ask(service, turns(3))
        assert gone.resolved  # so that nothing waits for it for ever
        assert metrics.runs == [(0, 1)]

    with_service(replace(slow, limits=Limits(scoring_seconds=0.3)), test)


def test_a_burst_that_the_model_can_take_is_not_refused(
    config: ServiceConfig, iris: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Short, whatever else this machine does meanwhile.
    monkeypatch.setattr(batching, "INLINE_SECONDS", 60.0)

    async def test(service: ModelService, metrics: Recording) -> None:
        await ask(service, {"data": iris.rows[:1]})
        answers = await ask(service, *({"data": iris.rows[:1]} for _ in range(300)))
        assert {answer.status for answer in answers} == {200}

    with_service(replace(config, limits=Limits(queue=8)), test)


def test_answers_that_let_in_further_requests_do_not_nest(config: ServiceConfig, iris: Any) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        document = {"data": iris.rows[:1]}
        await ask(service, document)
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        left = 3000

        def again(response: Response) -> None:
            nonlocal left
            assert response.status == 200
            left -= 1
            if left == 0:
                ended.set_result(None)
            elif left > 0:
                service.score(request(document)).then(again)  # type: ignore[union-attr]

        # Something else is done in the same turn: the run comes after it, and the answers come out of the run.
        loop.call_soon(lambda: service.score(request(document)).then(again))  # type: ignore[union-attr]
        loop.call_soon(int)
        await ended

    with_service(batched(config, enabled=False), test)


def test_large_bodies_wait_in_the_same_queue(slow: ServiceConfig) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        running = asyncio.ensure_future(ask(service, turns(FOREVER)))
        await asyncio.sleep(0.05)
        large = Request("POST", "/score", "/score", "", [], json.dumps(turns(1)).encode() + b" " * 200_000)

        async def one() -> int:
            try:
                answer = service.score(large)
                assert not isinstance(answer, (Reply, Response))
                return (await answer).status
            except BadRequest as error:
                return error.status

        assert set(await asyncio.gather(*(one() for _ in range(20)))) == {503}
        await running
        assert (await ask(service, turns(1)))[0].status == 200

    with_service(replace(slow, limits=Limits(queue=4, queue_seconds=0.3, scoring_seconds=2)), test)


def test_collecting_data_that_fails_harms_no_answer(config: ServiceConfig, iris: Any) -> None:
    async def test(service: ModelService, metrics: Recording) -> None:
        loaded = service.catalog.all_loaded()[0]
        call = loaded.model.read(request({"data": iris.rows[:1]}))

        def fails(call: Any, values: Any) -> None:
            raise OSError("full")

        answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        loaded.attached.submit(call, fails).then(answered.set_result)
        assert (await answered).status == 200

    with_service(config, test)


def test_stopping_does_not_wait_for_a_run_without_end(slow: ServiceConfig) -> None:
    async def run() -> float:
        service = ModelService(slow, Metrics())
        await service.start()
        running = asyncio.ensure_future(ask(service, turns(FOREVER)))
        await asyncio.sleep(0.1)
        started = time.perf_counter()
        await service.stop()
        pool: ThreadPoolExecutor = service._pool
        await asyncio.to_thread(pool.shutdown, True)
        running.cancel()
        return time.perf_counter() - started

    assert asyncio.run(run()) < 50  # of ever


def test_what_runs_cost_is_known_from_runs_of_other_sizes() -> None:
    costs = RunTimes()
    assert costs.expect(10) is None
    costs.learn(100, 0.001)
    assert costs.expect(100) == 0.001
    assert costs.expect(5) == 0.001  # no dearer than more values
    assert costs.expect(1000) == pytest.approx(0.008)  # at most in proportion
    costs.learn(100, 0.002)
    assert costs.expect(100) == 0.002  # a slow one counts at once
    costs.learn(100, 0.001)
    assert 0.001 < (costs.expect(100) or 0) < 0.002
