"""The scoring server beside its peers: the same ONNX files, one server core, ``wrk`` on another, ratios and limits.

``python -m benchmarks.serve [--quick] [--rounds N] [--seconds S] [--only NAME,…] [--peers azure,mlserver,…]``. The
servers of one model run side by side, idle but for the one that is loaded; rounds take turns, and each ratio is the
median of the rounds' ratios. "By CPU" is the ratio of requests by the servers' processor time, which says more than
the rest on a machine that others use too. One answer of each server is compared with the original model's before it
is loaded; wrong answers, and others than 2xx under load, make a line invalid.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from benchmarks.peers import inprocess
from benchmarks.peers.environments import MissingError
from benchmarks.peers.servers import APPS, KINDS, ROOT, Server

MIB = 1024 * 1024
OWN = ("own", "script", "binary", "server-echo", "echo", "echo-uvloop", "uvicorn", "uvicorn-uvloop", "alone")
PEERS = ("azure", "mlserver", "bentoml", "litserve")
STARTS = 5


@dataclass(frozen=True)
class Load:
    """A server under load: the model, how many rows a request has, over how many connections."""

    server: str
    model: str
    rows: int = 1
    connections: int = 16


@dataclass(frozen=True)
class Line:
    """One line of the table: a figure of ``ours`` divided by one of ``other``; the limit is what must be reached."""

    name: str
    title: str
    ours: Load
    other: Load
    limit: float | None = None
    at_most: bool = False
    figures: tuple[str, str] = ("rate", "rate")


@dataclass
class Figures:
    """The figures of the rounds of one load, or what is wrong.

    Requests a second, requests a second of the server's processor time, seconds at the middle and at 99 of 100.
    """

    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    wrong: str = ""


def _lines() -> list[Line]:
    one, hundred = Load("own", "logistic"), Load("own", "logistic", 100)
    single, echo = Load("own", "logistic", 1, 1), Load("server-echo", "logistic", 1, 1)
    found = [
        Line("logistic", "logistic, 1 row: ours / Azure", one, Load("azure", "logistic"), 20),
        Line("logistic", "logistic, 1 row: ours / MLServer", one, Load("mlserver", "logistic"), 40),
        Line("logistic", "logistic, 1 row: ours / BentoML", one, Load("bentoml", "logistic")),
        Line("logistic", "logistic, 1 row: ours / LitServe", one, Load("litserve", "logistic")),
        Line("logistic", "logistic, 1 row: ours / our server's echo", one, Load("server-echo", "logistic"), 0.65),
        Line("logistic", "logistic, 1 row: ours / our protocol's echo", one, Load("echo", "logistic")),
        Line("hundred", "logistic, 100 rows: ours / Azure", hundred, Load("azure", "logistic", 100), 12),
        Line("hundred", "logistic, 100 rows: ours / MLServer", hundred, Load("mlserver", "logistic", 100)),
        Line("hundred", "logistic, 100 rows: ours / BentoML", hundred, Load("bentoml", "logistic", 100)),
        Line("hundred", "logistic, 100 rows: ours / LitServe", hundred, Load("litserve", "logistic", 100)),
        Line("v2", "100 rows: V2 binary / our JSON", Load("binary", "logistic", 100), hundred, 2),
        Line("script", "one script, 1 row: ours / Azure", Load("script", "logistic"), Load("azure", "logistic"), 8),
        Line("latency", "1 connection, p50: ours / server's echo", single, echo, 2, True, ("p50", "p50")),
        Line("latency", "1 connection, ours: p99 / p50", single, single, 4, True, ("p99", "p50")),
        Line("mlp", "MLP of 4 MB, 1 row: ours / Azure", Load("own", "mlp"), Load("azure", "mlp"), 15),
        Line("mlp", "MLP of 4 MB, 1 row: ours / MLServer", Load("own", "mlp"), Load("mlserver", "mlp")),
        Line("forest", "forest, 100 rows: ours / alone", Load("own", "forest", 100), Load("alone", "forest", 100), 0.9),
        Line("forest", "forest, 100 rows: ours / Azure", Load("own", "forest", 100), Load("azure", "forest", 100)),
    ]
    plain, fast = Load("uvicorn", "logistic"), Load("uvicorn-uvloop", "logistic")
    own, looped = Load("echo", "logistic"), Load("echo-uvloop", "logistic")
    return [
        *found,
        Line("protocol", "echo: our protocol / uvicorn", own, plain, 1.6),
        Line("protocol", "echo, uvloop: our protocol / uvicorn", looped, fast),
        Line("protocol", "echo: our protocol, uvloop / asyncio", looped, own),
        Line("protocol", "echo: ours, asyncio / uvicorn, uvloop", own, fast),
    ]


def main() -> None:
    """Run the chosen measurements and print them."""
    options = _options()
    cores = sorted(os.sched_getaffinity(0))
    for program, package in (("wrk", "wrk"), ("taskset", "util-linux")):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed: it comes with Debian's package {package}")
    if len(cores) < 2:
        sys.exit("this needs two cores: one for the server, one for wrk")
    wanted = {*OWN, *options.peers}
    lines = [
        line for line in _lines() if {line.ours.server, line.other.server} <= wanted and _chosen(options, line.name)
    ]
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as name:
        bench = Bench(Path(name), cores[0], cores[1], options.seconds)
        facts = [fact for fact in ("start", "memory", "size") if _chosen(options, fact)]
        bench.make_models({line.ours.model for line in lines} | ({"logistic"} if facts else set()))
        load = os.getloadavg()[0]
        print(f"{options.rounds} rounds of {options.seconds} s; load of the machine before: {load:.2f}")
        print(f"{'':<40} {'this':>11} {'that':>11} {'ratio':>7} {'of rounds':>14} {'by CPU':>7}  limit")
        for model in dict.fromkeys(line.ours.model for line in lines):
            chosen = [line for line in lines if line.ours.model == model]
            found = bench.measure(model, chosen, options.rounds)
            for line in chosen:
                print_line(line, found)
        for fact in facts:
            getattr(bench, fact)([peer for peer in options.peers if peer in PEERS], 1 if options.quick else STARTS)


def _chosen(options: argparse.Namespace, name: str) -> bool:
    return not options.only or name in options.only


def print_line(line: Line, found: dict[Load, Figures]) -> None:
    """One line of the table; a line with wrong answers says which."""
    ours, other = found[line.ours], found[line.other]
    for load, figures in ((line.ours, ours), (line.other, other)):
        if figures.wrong:
            print(f"{line.title:<40} invalid: {_title(load.server)}: {figures.wrong}", flush=True)
            return
    over, under = getattr(ours, line.figures[0]), getattr(other, line.figures[1])
    ratios = [one / two for one, two in zip(over, under, strict=True)]
    middle = statistics.median(ratios)
    spread = f"{_short(min(ratios))} to {_short(max(ratios))}"
    work = ""
    if line.figures == ("rate", "rate"):
        work = _short(statistics.median(one / two for one, two in zip(ours.cpu, other.cpu, strict=True)))
    this, that = (_figure(line.figures[0], statistics.median(over)), _figure(line.figures[1], statistics.median(under)))
    print(
        f"{line.title:<40} {this:>11} {that:>11} {_short(middle):>7} {spread:>14} {work:>7}  "
        f"{_verdict(middle, line.limit, at_most=line.at_most)}",
        flush=True,
    )


def _title(server: str) -> str:
    return "the model alone" if server == "alone" else KINDS[server].title


def _short(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.2f}"


def _figure(kind: str, value: float) -> str:
    return f"{value:,.0f}/s" if kind == "rate" else f"{value * 1000:.3f} ms"


def _verdict(value: float, limit: float | None, *, at_most: bool) -> str:
    if limit is None:
        return ""
    reached = value <= limit if at_most else value >= limit
    return f"{'<=' if at_most else '>='} {limit:<5g} {'reached' if reached else 'NOT REACHED'}"


class Bench:
    """Shared by the measurements: a folder, the server's core, the load's core, the length of a round."""

    def __init__(self, folder: Path, core: int, load_core: int, seconds: int) -> None:
        self._folder = folder
        self._core = core
        self._load_core = load_core
        self._seconds = seconds

    def make_models(self, names: set[str]) -> None:
        """Train and convert, in another process: what it maps would be counted as shared with the servers."""
        if names:
            command = [sys.executable, "-m", "benchmarks.peers.models", str(self._folder), *sorted(names)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                sys.exit(f"the models cannot be made: {done.stderr[-2000:]}")

    def measure(self, model: str, lines: list[Line], rounds: int) -> dict[Load, Figures]:
        """All loads of these lines, in turns."""
        found = {load: Figures() for line in lines for load in (line.ours, line.other)}
        servers: dict[str, Server] = {}
        try:
            for name in dict.fromkeys(load.server for load in found if load.server != "alone"):
                try:
                    servers[name] = Server(name, self._folder / model, self._folder, self._core)
                except MissingError as error:
                    for load in found:
                        if load.server == name:
                            found[load].wrong = str(error)
            for load, figures in found.items():
                if load.server != "alone" and not figures.wrong:
                    figures.wrong = servers[load.server].check(load.rows)
                    if not figures.wrong:
                        self._wrk(servers[load.server], load, Figures(), 1)  # warm
            for _ in range(rounds):
                for load, figures in found.items():
                    if load.server == "alone":
                        self._alone(load, figures)
                    elif not figures.wrong:
                        self._wrk(servers[load.server], load, figures, self._seconds)
        finally:
            for server in servers.values():
                server.stop()
        return found

    def _alone(self, load: Load, figures: Figures) -> None:
        model = self._folder / load.model
        words = [str(model / "model.onnx"), str(model / f"data-{load.rows}.json"), str(self._seconds)]
        command = ["taskset", "-c", str(self._core), sys.executable, inprocess.__file__, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            figures.wrong = done.stderr.strip()[-200:]
            return
        rate, cpu = map(float, done.stdout.split())
        figures.rate.append(rate)
        figures.cpu.append(cpu)

    def _wrk(self, server: Server, load: Load, figures: Figures, seconds: int) -> None:
        body, headers = server.body(load.rows)
        url = f"http://127.0.0.1:{server.port}{server.path}"
        command = [
            "taskset", "-c", str(self._load_core), "wrk", "--threads", "1", "--connections", str(load.connections),
            "--duration", f"{seconds}s", "--timeout", "10s", "--script", str(APPS / "post.lua"), url,
            "--", str(body), *(word for header in headers.items() for word in header),
        ]  # fmt: skip
        before = server.cpu()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        used = server.cpu() - before
        summary = next((line for line in done.stdout.splitlines() if line.startswith("figures ")), None)
        if summary is None:
            figures.wrong = f"wrk failed: {(done.stderr or done.stdout).strip()[-200:]}"
            return
        requests, duration, refused, failed, p50, p99 = map(int, summary.split()[1:])
        if refused or failed * 100 > requests or not requests:
            figures.wrong = f"of {requests} requests {refused} were refused and {failed} failed"
            return
        figures.rate.append(requests / duration * 1e6)
        figures.cpu.append(requests / max(used, 0.01))
        figures.p50.append(p50 / 1e6)
        figures.p99.append(p99 / 1e6)

    def start(self, peers: list[str], rounds: int) -> None:
        """Print the seconds from the start of the process to the first 200, and the processor time they took."""
        for name in ("own", *peers):
            taken, used = [], []
            try:
                for _ in range(rounds if name == "own" else 1):
                    server = Server(name, self._folder / "logistic", self._folder, self._core)
                    used.append(server.cpu())
                    server.stop()
                    taken.append(server.started)
            except MissingError as error:
                print(f"{'start to the first 200: ' + _title(name):<40} invalid: {error}")
                continue
            middle = statistics.median(taken)
            cpu = f"(processor time {statistics.median(used):.2f} s)"
            verdict = _verdict(middle, 0.4 if name == "own" else None, at_most=True)
            print(f"{'start to the first 200: ' + _title(name):<40} {middle:9.2f} s  {cpu:<34} {verdict}", flush=True)

    def memory(self, peers: list[str], rounds: int) -> None:
        """Print the memory of servers that have answered once and idle."""
        for name in ("own", *peers):
            try:
                server = Server(name, self._folder / "logistic", self._folder, self._core)
            except MissingError as error:
                print(f"{'idle memory, PSS: ' + _title(name):<40} invalid: {error}")
                continue
            try:
                server.check(1)
                size, whole = (part / MIB for part in server.memory())
            finally:
                server.stop()
            verdict = _verdict(size, 70 if name == "own" else None, at_most=True)
            print(
                f"{'idle memory, PSS: ' + _title(name):<40} {size:8.1f} MB  (RSS {whole:.1f} MB) {'':>16} {verdict}",
                flush=True,
            )

    def size(self, peers: list[str], rounds: int) -> None:
        """Print the bytes of the server's own layer: its package, and what it needs but numpy and onnxruntime."""
        size = sum(path.stat().st_size for path in (ROOT / "edge_server").rglob("*") if _shipped(path))
        for name in ("httptools", "orjson"):
            files = [found for found in metadata.files(name) or [] if _shipped(Path(str(found.locate())))]
            size += sum(Path(str(found.locate())).stat().st_size for found in files)
        verdict = _verdict(size / MIB, 6, at_most=True)
        print(f"{'own layer, httptools, orjson':<40} {size / MIB:8.2f} MB {'':>35} {verdict}")


def _shipped(path: Path) -> bool:
    return path.is_file() and path.suffix != ".pyc"


def _options() -> argparse.Namespace:
    def names(known: set[str]) -> object:
        def parse(text: str) -> list[str]:
            found = [word for word in text.split(",") if word]
            if unknown := sorted(set(found) - known):
                raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
            return found

        return parse

    lines = {line.name for line in _lines()} | {"start", "memory", "size"}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument("--rounds", type=int, default=3, help="how often each load takes its turn (default 3)")
    parser.add_argument("--seconds", type=int, default=3, help="how long each turn is (default 3)")
    parser.add_argument("--only", type=names(lines), default=[], help=f"some lines: {', '.join(sorted(lines))}")  # type: ignore[arg-type]
    parser.add_argument("--peers", type=names(set(PEERS)), default=list(PEERS), help=f"of {', '.join(PEERS)}")  # type: ignore[arg-type]
    options = parser.parse_args()
    if options.quick:
        options.rounds = options.seconds = 1
    return options


if __name__ == "__main__":
    main()
