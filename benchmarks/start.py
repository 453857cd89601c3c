"""How long ``edgepack --help`` takes, beside a Python that imports click and nothing else. Limit: 0.3 s."""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.lab import BIN, median, seconds

ROUNDS = 11


def main() -> None:
    """Run it and print it."""
    ours, bare = [], []
    for _ in range(ROUNDS):
        ours.append(seconds(lambda: subprocess.run([str(BIN / "edgepack"), "--help"], capture_output=True, check=True)))
        bare.append(seconds(lambda: subprocess.run([sys.executable, "-c", "import click"], check=True)))
    ratio = statistics.median(one / two for one, two in zip(ours, bare, strict=True))
    print(
        f"edgepack --help                       {median(ours)}   {statistics.median(ours) / 0.3:.2f} of 0.3 s, "
        f"{ratio:.2f} times a Python that imports click"
    )


if __name__ == "__main__":
    main()
