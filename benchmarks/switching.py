"""A service that changes its version under load: what fails, and how long requests take meanwhile.

200 requests a second, half of them on kept connections, half on new ones, while the version is changed by
``edge-agent apply`` and back by ``edge-agent rollback``, 50 times each. Limits: no failed request; the 99th percentile
while a command runs is printed beside that of the time before. ``stale`` are requests that a client has to send again,
as HTTP allows, because its kept connection was closed just then.

With ``docker`` there is an engine for it alone, and HAProxy in front, whose memory is printed.

``python -m benchmarks.switching [RUNTIME…] [--times N]``, by default process, crun and docker
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.lab import BIN, edgepack, write_model
from tests.support.parts import docker_engine
from tests.support.steady_load import steady_load

RATE = 200.0
QUIET_SECONDS = 10.0
PAUSE_SECONDS = 1.0
BODY = json.dumps({"data": [[0.5] * 100]})


def main() -> None:
    """Measure the runtimes that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runtimes", nargs="*", default=["process", "crun", "docker"])
    parser.add_argument("--times", type=int, default=50)
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    folder = Path(tempfile.mkdtemp(prefix="edw-"))
    folder.chmod(0o755)
    try:
        for version in (1, 2):
            write_model(folder / "m.onnx", version, 40_000)
            edgepack(folder / "w", "model", "register", "-n", "m", "-p", str(folder / "m.onnx"))
        for runtime in options.runtimes:
            os.environ["EDGEPACK_RUNTIME"] = runtime
            with ExitStack() as parts:
                if runtime == "docker":
                    (folder / "engine").mkdir()
                    os.environ["DOCKER_HOST"] = parts.enter_context(docker_engine(folder / "engine"))
                measure(folder, runtime, options.times)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, runtime: str, times: int) -> None:
    """Deploy one version, change it to the other and back under load, and print what came of it."""
    workspace, name = folder / "w", f"bench-{runtime}"
    first = edgepack(workspace, "service", "deploy", "-n", name, "-m", "m:1")
    second = edgepack(workspace, "service", "deploy", "-n", name, "-m", "m:2", "--overwrite")
    desired = [folder / f"{runtime}-{number}.json" for number in (1, 2)]
    for path, image in zip(desired, (first["image"], second["image"]), strict=True):
        one = {"name": name, "image": image, "port": second["port"]}
        path.write_text(json.dumps({"schema": "edgepack.desired/v1", "services": [one]}))
    agent = [str(BIN / "edge-agent"), "--state-dir", str(workspace / "device"), "--runtime", runtime]
    try:
        _run([*agent, "apply", str(desired[0]), "--allow-unsigned"])
        spans: list[tuple[float, float]] = []
        with steady_load(second["port"], RATE, "/score", BODY) as load:
            time.sleep(QUIET_SECONDS)
            for _ in range(times):
                for words in (["apply", str(desired[1]), "--allow-unsigned"], ["rollback", name, "--allow-unsigned"]):
                    begun = time.time()
                    _run([*agent, *words])
                    spans.append((begun, time.time()))
                    time.sleep(PAUSE_SECONDS)
        router = _router_bytes(workspace / "device")
    finally:
        edgepack(workspace, "service", "delete", name)
    before = load.p99(spans[0][0] - QUIET_SECONDS + 1, spans[0][0])
    seen = sorted(one.seconds for one in load.rows if any(begun <= one.due < end for begun, end in spans))
    during = seen[min(len(seen) - 1, int(len(seen) * 0.99))]
    took = statistics.median(end - begun for begun, end in spans)
    print(
        f"{runtime:<8} {len(spans)} switches of {took:.1f} s, {len(load.rows)} requests: {len(load.failed)} failed, "
        f"{load.stale} stale; p99 before {before * 1000:.0f} ms, during {during * 1000:.0f} ms, "
        f"ratio {during / before:.1f}; slowest {seen[-1] * 1000:.0f} ms"
        + ("" if router is None else f"; router {router / 1e6:.1f} MB (PSS)"),
        flush=True,
    )
    for what in sorted(set(load.failed)):
        print(f"         {load.failed.count(what)} times {what}")


def _router_bytes(device: Path) -> int | None:
    """The memory of the router that the device's services are behind, if there is one."""
    try:
        pid = json.loads((device / "router" / "router.json").read_bytes())["pid"]
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    except OSError:
        return None
    return int(text.partition("\nPss:")[2].split()[0]) * 1024


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")


if __name__ == "__main__":
    main()
