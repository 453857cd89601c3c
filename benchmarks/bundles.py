"""Bundles beside ``cp`` and ``sha256sum`` of the same bytes: how fast they are written and imported, and their memory.

An image of layers of random bytes, one of them larger than a part, is written as one file and in parts, and imported
from each into an empty store; each is a process of its own. Beside it stands what the same bytes take by ``cp`` and
then ``sha256sum`` of the copy, with the copy on the disk (``sync``), as it is with a bundle. Goals: 70 percent of that
speed or more, memory under 100 MB, and a second import in under a second.

``python -m benchmarks.bundles [--megabytes N] [--folder DIR] [--times N]``
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from edgepack.bundle.receive import import_media
from edgepack.bundle.write_parts import write_to_folder
from edgepack.oci.store import Store
from edgepack.signing.keys import create_key
from tests.edgepack.support.bundles import add_image, add_layer


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="edw-", dir=options.folder))
    try:
        measure(folder, options.megabytes, options.times)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, megabytes: int, times: int) -> None:
    """Write and import an image of ``megabytes``, and copy and hash as many."""
    store = Store.create(folder / "store")
    sizes = [megabytes * 500_000, *[megabytes * 100_000] * 4, megabytes * 100_000]
    store.tag("bench:1", add_image(store, [add_layer(store, size, n) for n, size in enumerate(sizes)]))
    key, part = create_key(), megabytes * 300_000
    (folder / "plain").write_bytes(b"")
    with (folder / "plain").open("wb") as file:
        for path in sorted(store.root.rglob("*")):
            if path.is_file():
                with path.open("rb") as blob:
                    shutil.copyfileobj(blob, file, 1 << 20)

    def create(size: int | None) -> None:
        write_to_folder(store, ["bench:1"], folder / f"usb-{size}", key=key, part_size=size)

    def bring(size: int | None) -> None:
        import_media([folder / f"usb-{size}"], Store.create(folder / f"device-{size}"), [key.public])

    seconds: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    for _ in range(times):
        for name in ("copy", "usb-None", f"usb-{part}", "device-None", f"device-{part}"):
            shutil.rmtree(folder / name, ignore_errors=True)
        seconds.setdefault("cp + sha256sum", []).append(_copied(folder))
        for size, words in ((None, "one file"), (part, "in parts")):
            for job, name in ((create, "create"), (bring, "import"), (bring, "import again")):
                title = f"{name}, {words}"
                took, used = _forked(lambda job=job, size=size: job(size))  # type: ignore[misc]
                seconds.setdefault(title, []).append(took)
                memory[title] = max(memory.get(title, 0), used)
    base = statistics.median(seconds["cp + sha256sum"])
    print(f"{megabytes} MB; median of {times}")
    for title, found in seconds.items():
        took = statistics.median(found)
        speed = f"{100 * base / took:5.0f} %" if "again" not in title else "       "
        print(f"{title:24} {took:7.2f} s  {speed}  {memory.get(title, 0) / 1e6:6.0f} MB")


def _copied(folder: Path) -> float:
    started = time.monotonic()
    (folder / "copy").mkdir()
    subprocess.run(["cp", folder / "plain", folder / "copy" / "plain"], check=True)
    subprocess.run(["sync", folder / "copy" / "plain"], check=True)
    subprocess.run(["sha256sum", folder / "copy" / "plain"], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def _forked(job: Callable[[], None]) -> tuple[float, int]:
    """How long ``job`` takes, and the memory of the process that does it, with the interpreter, in bytes."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            job()
            code = 0
        finally:
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    if status:
        sys.exit("a job failed")
    return time.monotonic() - started, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
