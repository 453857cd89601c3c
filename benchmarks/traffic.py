"""An endpoint that shares requests out 80 to 20: how well it keeps the shares, and callers their version.

Limits: of 10,000 callers, the first version gets as many as 99.9 % of all binomial samples have; every caller's
requests go to one version. The memory of the router is shown (PSS), and what it adds to a request.

``python -m benchmarks.traffic``
"""

from __future__ import annotations

import http.client
import json
import math
import os
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import NormalDist, median
from typing import Any

from benchmarks.lab import edgepack, write_model

REQUESTS, SHARE = 10_000, 0.8
CALLERS, EACH = 200, 20


def main() -> None:
    """Run everything and print it."""
    os.environ["EDGEPACK_RUNTIME"] = "process"
    folder = Path(tempfile.mkdtemp(prefix="edb-"))
    folder.chmod(0o755)
    workspace = folder / "w"
    try:
        for version in (1, 2):
            write_model(folder / "m.onnx", version)
            edgepack(workspace, "model", "register", "-n", "m", "-p", str(folder / "m.onnx"))
        made = edgepack(workspace, "endpoint", "create", "bench", "--version", "v1", "-m", "m:1")
        edgepack(workspace, "endpoint", "create-version", "bench", "--version", "v2", "-m", "m:2", "--traffic", "20")
        shares(made["port"])
        callers(made["port"])
        service = edgepack(workspace, "service", "show", "bench-v1")
        print(f"added to a request                    {added(made['port'], service['port']):.2f} ms (median)")
        print(f"memory of the router                  {memory(workspace) / 1024:.1f} MB (PSS)")
    finally:
        for one in edgepack(workspace, "endpoint", "list"):
            edgepack(workspace, "endpoint", "delete", one["name"])
        shutil.rmtree(folder)


def shares(port: int) -> None:
    """As many callers as ``REQUESTS``, a request each."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    counts = Counter(ask(connection, f"caller-{number}") for number in range(REQUESTS))
    around = NormalDist().inv_cdf(0.9995) * math.sqrt(REQUESTS * SHARE * (1 - SHARE))
    least, most = math.floor(REQUESTS * SHARE - around), math.ceil(REQUESTS * SHARE + around)
    is_within = least <= counts["bench-v1"] <= most
    print(
        f"{REQUESTS} callers, 80 to 20             {counts['bench-v1']} to {counts['bench-v2']}   "
        f"{'within' if is_within else 'OUTSIDE OF'} {least} to {most}"
    )


def callers(port: int) -> None:
    """The requests of a few callers, in turns."""
    connection, seen = http.client.HTTPConnection("127.0.0.1", port), dict[str, set[str]]()
    for _ in range(EACH):
        for number in range(CALLERS):
            name = f"user-{number}"
            seen.setdefault(name, set()).add(ask(connection, name))
    moved = sum(len(one) != 1 for one in seen.values())
    print(f"callers of {EACH} requests on two versions  {moved} of {CALLERS}")


def added(endpoint: int, service: int) -> float:
    """What the router adds to a request, in milliseconds."""
    found: dict[int, list[float]] = {endpoint: [], service: []}
    connections = {port: http.client.HTTPConnection("127.0.0.1", port) for port in found}
    for number in range(1000):
        for port, connection in connections.items():
            began = time.perf_counter()
            ask(connection, f"caller-{number}")
            found[port].append(time.perf_counter() - began)
    return (median(found[endpoint]) - median(found[service])) * 1000


def ask(connection: http.client.HTTPConnection, caller: str) -> str:
    """Ask as ``caller``; the version that answers."""
    connection.request("GET", "/", headers={"x-request-id": caller})
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise SystemExit(f"a request failed: {answer.status}")
    return answer.headers.get("x-edgepack-version", "")


def memory(workspace: Path) -> int:
    """The memory of the router in kB: its own, and its part of what it shares."""
    record: dict[str, Any] = json.loads((workspace / "device" / "endpoints" / "bench" / "router.json").read_bytes())
    lines = Path(f"/proc/{record['pid']}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
