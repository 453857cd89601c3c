"""Scripts that hang, crash, fork, flood and exit: each ends one call or one worker, and nothing else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_server.config.values import Limits
from tests.edge_server.support.scripts import EVAL, INIT, Scripted, failed, json_of, pid_of, serve
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def evaluating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    """One service for tests that leave its worker as it was."""
    with serve(tmp_path_factory.mktemp("evaluating"), EVAL) as service:
        yield service


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError('x')",
        "raise BaseException",
        "raise KeyboardInterrupt",
        "raise GeneratorExit",
        "raise MemoryError",
        "sys.exit(3)",
        "exit()",
        "def deep(): deep()\ndeep()",
        "class E(Exception):\n    def __str__(self): raise RuntimeError\nraise E",
        "class E(Exception):\n    def __str__(self): sys.exit()\n    __repr__ = __str__\nraise E('a')",
        "class E(Exception):\n    __cause__ = property(lambda self: 1 / 0)\nraise E",
    ],
)
def test_an_exception_fails_the_call_and_not_the_worker(
    evaluating: Scripted, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    service = evaluating
    before = pid_of(service)
    assert failed(service.ask(code, request_id="r-9"))
    assert json_of(service.ask("pass")) == before
    service.wait(lambda: any(getattr(record, "request_id", "") == "r-9" for record in caplog.records))
    assert any("run() failed with" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("os._exit(3)", "exit code 3"),
        ("os._exit(0)", "exit code 0"),
        ("ctypes.string_at(0)", "signal SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal SIGKILL"),
        ("os.abort()", "signal SIGABRT"),
    ],
)
def test_the_end_of_a_worker_fails_its_call_and_is_repaired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, code: str, how: str
) -> None:
    with serve(tmp_path, EVAL) as service:
        before = pid_of(service)
        answers = service.ask_all(["pass", code, "pass", "pass"])
        assert failed(answers[1])
        assert json_of(answers[0]) == before
        after = {json_of(answer) for answer in answers[2:]}
        assert len(after) == 1
        assert before not in after
        assert service.service.ready()
    (record,) = (record for record in caplog.records if how in record.getMessage())
    assert record.__dict__["request_id"] == ""
    assert [told for told in service.metrics.told if told[0] == "exit"] == [
        ("exit", "exit" if code == "os._exit(0)" else "crash")
    ]


@pytest.mark.parametrize(
    "code",
    [
        "os.close(0); os.close(1); os.close(2)",
        "os.chdir('/'); sys.path.clear()",
        "sys.stdout = sys.stderr = None; print('x')",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.kill(os.getpid(), signal.SIGTERM)",
        "os.kill(os.getpid(), signal.SIGINT)",
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "threading.Thread(target=lambda: sys.exit(1)).start()",
        "sys.stdout.buffer.write(bytes(range(256)) * 40); sys.stdout.flush()",
        "globals().clear(); __builtins__.clear()",
    ],
)
def test_what_a_script_does_to_its_process_stays_there(tmp_path: Path, code: str) -> None:
    with serve(tmp_path, EVAL.replace("dict(globals())", "globals()")) as service:
        service.ask(code)
        assert service.ask("pass").status in (200, 500)
        assert service.service.ready()


def test_the_end_of_a_worker_is_logged_with_the_request_that_it_was_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(tmp_path, EVAL) as service:
        assert failed(service.ask("os._exit(3)", request_id="the-id"))
    (record,) = (record for record in caplog.records if "exit code 3" in record.getMessage())
    assert record.__dict__["request_id"] == "the-id"


def test_a_run_that_takes_its_text_for_a_request_is_told_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(tmp_path, "def init(): ...\ndef run(data):\n    return data.headers\n") as service:
        assert failed(service.ask("x"))
        service.wait(lambda: any("put @rawhttp on run()" in record.getMessage() for record in caplog.records))


def test_a_worker_that_closes_its_own_socket_is_replaced(tmp_path: Path) -> None:
    with serve(tmp_path, EVAL) as service:
        before = pid_of(service)
        service.ask("os.closerange(3, 100)")
        service.wait(lambda: bool(service.service._workers) and pid_of(service) != before)
        assert json_of(service.ask("pass")) == pid_of(service)


def test_a_fork_that_comes_back_from_run_never_answers(tmp_path: Path) -> None:
    with serve(tmp_path, EVAL) as service:
        before = pid_of(service)
        for code in ("os.fork()", "os.fork() or sys.exit()", "ctypes.CDLL(None).fork()"):
            service.ask(code)
        for _ in range(5):
            assert json_of(service.ask("pass")) == before
        # A child that lives on does not keep the socket, and goes with its worker.
        child = json_of(service.ask("answer = os.fork() or time.sleep(60)"))
        assert failed(service.ask("os._exit(1)"))
        service.wait(lambda: not _alive(child))
        assert service.ask("pass").status == 200


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_fork_has_not_the_socket_of_its_parent(tmp_path: Path) -> None:
    code = """
ends = os.pipe()
if os.fork() == 0:
    found = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if int(name) > 2]
    os.write(ends[1], " ".join(found).encode())
    os._exit(0)
os.close(ends[1])
answer = os.read(ends[0], 10_000).decode()
"""
    with serve(tmp_path, EVAL) as service:
        found = json_of(service.ask(code))
    assert "pipe:" in found
    assert "socket:" not in found


def test_a_worker_that_ends_without_being_asked_is_replaced(tmp_path: Path) -> None:
    with serve(tmp_path, EVAL) as service:
        before = pid_of(service)
        service.ask("threading.Timer(0.05, os._exit, [0]).start()")
        service.wait(lambda: not service.service.ready())
        assert json_of(service.ask("pass")) != before


def test_a_flood_of_output_neither_stops_the_server_nor_grows_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = "for _ in range(200_000): print('x' * 100)"
    with serve(tmp_path, EVAL) as service:
        assert service.ask(code).status == 200
    lines = [record for record in caplog.records if record.name == "script"]
    assert len(lines) < 100_000
    assert any("logs too much" in record.getMessage() for record in lines)


def test_large_bodies_and_answers_go_through(tmp_path: Path) -> None:
    with serve(tmp_path, INIT + "def run(data):\n    return data * 2\n") as service:
        large = "x" * 30_000_000
        answers = service.ask_all([large, "y", "z" * 100_000, large])
        assert [len(answer.body) for answer in answers] == [60_000_002, 4, 200_002, 60_000_002]


def test_no_call_runs_twice_or_is_lost_when_workers_die(tmp_path: Path) -> None:
    code = f"""
        import os
        def init(): pass
        def run(data):
            fd = os.open({str(tmp_path / "runs")!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(fd, data.encode() + b"\\n")
            os.close(fd)
            if data.endswith("7"):
                os._exit(9)
            return data
    """
    with serve(tmp_path, code, workers=2) as service:
        names = [f"call {number}" for number in range(80)]
        answers = service.ask_all(names)
    assert [failed(answer) for answer in answers] == [name.endswith("7") for name in names]
    assert all(failed(answer) or json_of(answer) == name for name, answer in zip(names, answers, strict=True))
    assert sorted((tmp_path / "runs").read_text().splitlines()) == sorted(names)


def test_a_worker_is_replaced_on_kernels_without_process_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(process: int) -> int:
        raise OSError(errno.ENOSYS, "no")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with serve(tmp_path, EVAL) as service:
        assert failed(service.ask("os._exit(1)"))
        assert service.ask("pass").status == 200


def test_workers_that_cannot_start_again_are_tried_with_patience(tmp_path: Path) -> None:
    with serve(tmp_path, EVAL, Limits(queue_seconds=0.3)) as service:
        script = tmp_path / "source" / "score.py"
        good = script.read_text()
        script.write_text("raise RuntimeError('broken')\n")
        assert failed(service.ask("os._exit(1)"))
        assert not service.service.ready()
        assert service.ask("pass").status == 503
        service.wait(lambda: service.service._failures >= 1)
        script.write_text(good)
        service.wait(service.service.ready)
        assert service.ask("pass").status == 200


ROOT = Path(__file__).parents[2]
SERVER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.edge_server.support.scripts import INIT, configure
from edge_server.http.messages import Request
from edge_server.scripts.service import ScriptService
from edge_server.telemetry.metrics import Metrics

async def main():
    code = INIT + "import time\\ndef run(data): time.sleep(60)"
    service = ScriptService(configure(Path(sys.argv[2]), code), Metrics())
    await service.start()
    service.score(Request("POST", "/score", "/score", "", [], b""))
    await asyncio.sleep(0.1)
    print([worker.pid for worker in service._workers.values()][0], flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_worker_dies_with_the_server_in_the_middle_of_a_call(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", SERVER, str(ROOT), str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        worker = int(server.stdout.readline())
        assert _alive(worker)
        server.kill()
    wait_until(lambda: not _alive(worker))
