PYTHON ?= python3
BIN := .venv/bin
# How many processes run tests at once; with 0, none but pytest itself. One more than two cores: a quarter of the time, a
# test waits for a server, an engine or the end of a time limit.
PROCESSES ?= 3
PYTEST := $(BIN)/python -m pytest -n $(PROCESSES)
# A repetition of hundreds of kills is one test.
WHOLE := EDGEPACK_WHOLE=1 $(PYTEST) --timeout 7200

.DEFAULT_GOAL := help
.PHONY: help demo test test-whole quick check bench matrix peers lock check-locks fresh storms matrix-agent setup-demo setup-test clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "Another Python: make PYTHON=/path/to/python3 demo"

demo: setup-demo  ## set up, then do the main job once, on real input
	$(BIN)/edgepack demo

# Tests start hundreds of Python programs, and without bytecode each of them compiles its modules again.
test test-whole quick: export PYTHONDONTWRITEBYTECODE =

test: setup-test check  ## set up, then run every check and test
	$(PYTEST)

test-whole: setup-test check  ## as test, with every repetition of what takes long
	$(WHOLE)

quick: setup-test check  ## set up, then run every check, and the tests that are done at once
	EDGEPACK_QUICK=1 $(PYTEST)

check: setup-test  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup-test  ## measure sizes and times, as ratios to a yardstick
	$(BIN)/python -m benchmarks

matrix: setup-test  ## convert and judge every kind of model, and write docs/reference/converters.md
	$(BIN)/python scripts/matrix.py --write

peers: setup-test  ## run other projects' tests on our parts: make peers INFERENCE_SCHEMA=DIR INFERENCE_SERVER=DIR (checkouts)
	INFERENCE_SCHEMA="$(INFERENCE_SCHEMA)" INFERENCE_SERVER="$(INFERENCE_SERVER)" $(BIN)/python scripts/peers.py

lock: setup-test  ## pin the newest versions of everything: requirements/, wheels of images, base images
	$(BIN)/python scripts/lock.py
	$(BIN)/python scripts/check_locks.py

check-locks: setup-test  ## ask for every lock whether each Python and processor finds all its wheels
	$(BIN)/python scripts/check_locks.py

fresh: setup-test  ## run `make demo` on minimal systems of Debian 11, 12, 13 and testing, as root and as a user
	$(BIN)/python scripts/fresh.py

storms: setup-test  ## kill edge-agent hundreds of times and alter thousands of its files
	$(WHOLE) tests/edge_agent/test_storms.py

matrix-agent: setup-test  ## kill edge-agent at every record, on every runtime, with every fault, and print what came of it
	$(WHOLE) -v tests/edge_agent/test_crash_matrix.py

setup-demo:
	@$(PYTHON) scripts/setup.py demo

setup-test:
	@$(PYTHON) scripts/setup.py test

clean:  ## remove the virtual environment and the caches of tools
	rm -rf .venv .setup .mypy_cache .ruff_cache .pytest_cache
