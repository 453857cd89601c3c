"""``python -m benchmarks``: all of them."""

from benchmarks import build, start

start.main()
build.main()
