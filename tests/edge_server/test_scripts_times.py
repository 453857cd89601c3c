"""Calls that take too long, that wait too long, and that others wait for."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from edge_server.config.values import Limits
from edge_server.scripts.slots import ScriptCall, Slot
from tests.edge_server.support.scripts import EVAL, failed, json_of, pid_of, serve

ONE_SECOND = Limits(scoring_seconds=0.5)


def timed_out(response: object, text: str = "Scoring timeout after 500 ms") -> bool:
    """Whether it is the answer of a call whose time was over."""
    return (response.status, response.failed, json_of(response)) == (500, True, {"message": text, "status_code": 500})  # type: ignore


@pytest.mark.parametrize(
    "code",
    [
        "time.sleep(60)",
        "while True: pass",
        "try:\n    time.sleep(60)\nexcept Exception:\n    pass",
        "threading.Event().wait()",
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_call_over_its_time_is_answered_and_stopped(tmp_path: Path, code: str, threads: int) -> None:
    with serve(tmp_path, EVAL, ONE_SECOND, threads=threads) as service:
        before = pid_of(service)
        begun = time.monotonic()
        response = service.ask(code)
        assert timed_out(response)
        assert 0.5 <= time.monotonic() - begun < 50  # of 60 s, or of ever
        assert response.exec_ms is not None
        assert response.exec_ms >= 500
        after = json_of(service.ask("pass"))
        if threads == 1:
            assert after == before
        assert ("timeout",) in service.metrics.told


def test_a_native_hang_costs_one_worker_and_the_calls_behind_it_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Holds the interpreter's lock, and no signal comes through.
    code = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); ctypes.PyDLL(None).sleep(60)"
    with serve(tmp_path, EVAL, ONE_SECOND) as service:
        before = pid_of(service)
        for _ in range(20):
            service.ask("pass")
        answers = service.ask_all(["pass", code, *["pass"] * 10])
        assert timed_out(answers[1])
        assert json_of(answers[0]) == before
        assert {json_of(answer) for answer in answers[2:]} == {pid_of(service)} != {before}
    assert ("exit", "timeout") in service.metrics.told
    assert any("its call ran too long" in record.getMessage() for record in caplog.records)
    with serve(tmp_path, EVAL, ONE_SECOND) as service:
        for headers in ({}, {"content-type": "text/plain"}):
            assert timed_out(service.ask("time.sleep(60)", request_id="the-id", headers=headers))
    found = [record for record in caplog.records if "ran longer than" in record.getMessage()]
    assert [record.__dict__["request_id"] for record in found[-2:]] == ["the-id"] * 2


def test_answers_before_a_long_call_do_not_wait_for_it(tmp_path: Path) -> None:
    with serve(tmp_path, EVAL) as service:
        for _ in range(50):
            service.ask("pass")

        async def both() -> None:
            codes = ["pass", "pass", "pass", "ctypes.PyDLL(None).sleep(1)", "pass"]
            replies = [service.send(code) for code in codes]
            for reply in replies[:3]:
                await service.answer(reply)
            assert not replies[3].resolved
            for reply in replies[3:]:
                await service.answer(reply)

        service.runner.run(both())


def test_calls_behind_a_long_one_move_to_a_free_slot(tmp_path: Path) -> None:
    with serve(tmp_path, EVAL, workers=2) as service:
        for _ in range(50):
            service.ask_all(["pass", "pass"])

        async def both() -> None:
            gate = tmp_path / "gate"
            long = f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)"
            replies = [service.send(code) for code in [long, *["pass"] * 9]]
            for reply in replies[1:]:
                await service.answer(reply)
            assert not replies[0].resolved
            gate.touch()
            await service.answer(replies[0])

        service.runner.run(both())


def test_calls_go_round_a_lane_with_a_long_one_while_others_are_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside_long: list[int] = []
    send = Slot.send

    def watched(slot: Slot, call: ScriptCall, now: float) -> None:
        if any(b"sleep" in other.body for other in slot.calls.values()):
            beside_long.append(len(slot.calls))
        send(slot, call, now)

    monkeypatch.setattr(Slot, "send", watched)
    with serve(tmp_path, EVAL, workers=2) as service:
        for _ in range(50):
            service.ask_all(["pass", "pass"])

        async def both() -> int:
            """How many short calls, four at a time, are answered while the long one runs."""
            long = service.send("time.sleep(1.5)")
            answered = 0

            async def client() -> None:
                nonlocal answered
                while not long.resolved:
                    await service.answer(service.send("pass"))
                    answered += 1

            await asyncio.gather(*[client() for _ in range(4)])
            return answered

        assert service.runner.run(both()) > 10
    # They would have to be taken back before another slot can have them.
    assert 0 < len(beside_long) < 25


def test_too_many_waiting_calls_are_refused(tmp_path: Path) -> None:
    with serve(tmp_path, EVAL, Limits(queue=3)) as service:
        answers = service.ask_all(["time.sleep(0.2)"] * 6)
        assert [answer.status for answer in answers] == [200] * 4 + [503] * 2
        assert (b"retry-after", b"1") in (answers[-1].headers or [])
        assert service.metrics.told.count(("rejection", "queue_full")) == 2


@pytest.mark.parametrize("warm", [0, 50])
def test_a_call_that_waits_too_long_is_refused_and_not_run(tmp_path: Path, warm: int) -> None:
    with serve(tmp_path, EVAL, Limits(queue_seconds=0.2)) as service:
        for _ in range(warm):
            service.ask("pass")
        mark = tmp_path / "mark"
        answers = service.ask_all(["time.sleep(1)", f"open({str(mark)!r}, 'w')"])
        assert [answer.status for answer in answers] == [200, 503]
        assert service.ask("pass").status == 200
        assert not mark.exists()
        assert ("rejection", "queue_timeout") in service.metrics.told


@pytest.mark.parametrize("warm", [0, 50])
def test_a_call_whose_client_has_gone_is_not_run(tmp_path: Path, warm: int) -> None:
    with serve(tmp_path, EVAL) as service:
        for _ in range(warm):
            service.ask("pass")
        mark = tmp_path / "mark"

        async def leave() -> None:
            long = service.send("time.sleep(0.5)")
            gone = service.send(f"open({str(mark)!r}, 'w')")
            gone.abandoned = True
            await service.answer(long)

        service.runner.run(leave())
        assert service.ask("pass").status == 200
        assert not mark.exists()


ASYNC = """
    import asyncio, os, time
    async def init(): pass
    async def run(data):
        if data == "swallow":
            for _ in range(100):
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass
        if data == "block":
            time.sleep(60)
        if data == "die":
            os._exit(1)
        await asyncio.sleep(float(data))
        return os.getpid()
"""


def test_async_calls_over_their_time_are_cancelled_alone(tmp_path: Path) -> None:
    with serve(tmp_path, ASYNC, Limits(scoring_seconds=0.5)) as service:
        before = pid_of(service)
        answers = service.ask_all(["0.1", "60", "0.2"])
        assert [answer.status for answer in answers] == [200, 500, 200]
        assert timed_out(answers[1])
        assert timed_out(service.ask("block"))
        assert json_of(service.ask("0")) == before


def test_an_async_call_that_cannot_be_stopped_costs_its_worker(tmp_path: Path) -> None:
    with serve(tmp_path, ASYNC, Limits(scoring_seconds=0.5)) as service:
        before = pid_of(service)
        assert timed_out(service.ask("swallow"))
        service.wait(lambda: bool(service.service._workers) and pid_of(service) != before)
        assert json_of(service.ask("0")) == pid_of(service)
        answers = service.ask_all(["0.3", "die"])
        assert all(failed(answer) for answer in answers)


def test_a_sibling_thread_finishes_its_call_before_a_stuck_worker_ends(tmp_path: Path) -> None:
    code = "ctypes.CDLL(None).sleep(60)"
    with serve(tmp_path, EVAL, Limits(scoring_seconds=0.8), threads=2) as service:
        before = pid_of(service)

        async def both() -> tuple[int, int]:
            stuck = service.send(code)
            await asyncio.sleep(1.3)
            sibling = service.send("time.sleep(0.7)")
            return (await service.answer(stuck)).status, json_of(await service.answer(sibling))

        assert service.runner.run(both()) == (500, before)
        service.wait(lambda: bool(service.service._workers) and pid_of(service) != before)
