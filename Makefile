PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-whole check bench matrix lock setup-demo setup-test clean

demo: setup-demo  ## set up, then do the main job once, on real input
	$(BIN)/edgepack demo

test: setup-test check  ## set up, then run every check and test
	$(BIN)/python -m pytest

test-whole: setup-test check  ## as test, with every repetition of what takes long
	EDGEPACK_WHOLE=1 $(BIN)/python -m pytest

check: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup-test  ## measure sizes and times, as ratios to a yardstick
	$(BIN)/python -m benchmarks

matrix: setup-test  ## convert and judge every kind of model, and write docs/reference/converters.md
	$(BIN)/python scripts/matrix.py --write

lock: setup-test  ## pin the newest versions of everything: requirements/, wheels of images, base images
	$(BIN)/python scripts/lock.py

setup-demo:
	@$(PYTHON) scripts/setup.py demo

setup-test:
	@$(PYTHON) scripts/setup.py test

clean:
	rm -rf .venv .setup .mypy_cache .ruff_cache .pytest_cache
