"""``python -m benchmarks``: all of them."""

from benchmarks import build, convert, start

start.main()
build.main()
convert.main()
