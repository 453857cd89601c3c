"""Real models on scikit-learn's own data, saved as a user would."""

from __future__ import annotations

import functools
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pytest

from converters import Conversion, Options, convert
from converters.package import cache
from converters.sandbox import launch
from converters.software import environments
from tests.support.unsandboxed import convert_here

Convert = Callable[..., Conversion]
_ORIGINAL: list[Callable[[Any], None]] = []


def _draw_from(name: str) -> None:
    """Let estimators without a ``random_state`` draw the same numbers whenever the test of this name is run."""
    np.random.seed(zlib.crc32(name.encode()))


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Models that a module of tests makes when it is imported."""
    if isinstance(collector, pytest.Module):
        _draw_from(collector.nodeid)


@pytest.fixture(scope="module", autouse=True)
def generators(request: pytest.FixtureRequest) -> list[tuple[np.random.Generator, Any]]:
    """The generators of a module, each with its state before the module's tests."""
    values = vars(request.module).values()
    return [(value, value.bit_generator.state) for value in values if isinstance(value, np.random.Generator)]


@pytest.fixture(autouse=True)
def same_draws(request: pytest.FixtureRequest, generators: list[tuple[np.random.Generator, Any]]) -> None:
    """Models that a test makes: one draw of thousands is a row on its own centre, a tie, or a class of one row.

    The same whichever tests were run before in this process.
    """
    _draw_from(request.node.nodeid)
    for generator, state in generators:
        generator.bit_generator.state = state


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], Path]:
    def save_model(model: Any, name: str = "model.joblib") -> Path:
        path = tmp_path / name
        joblib.dump(model, path)
        return path

    return save_model


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without a conversion in it; environments, which take long to make, are shared by all tests and runs."""
    shared = cache.default_cache() / environments.FOLDER
    shared.mkdir(parents=True, exist_ok=True)
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / environments.FOLDER).symlink_to(shared)
    monkeypatch.setenv("EDGEPACK_CACHE", str(folder))
    return folder


@pytest.fixture
def sklearn_to_onnx(tmp_path: Path) -> Convert:
    def run(path: Path, sample: Path | None = None, **arguments: Any) -> Conversion:
        options = Options(sample=sample)
        return convert(
            path, framework="ScikitLearn", **{"output_dir": tmp_path / "out", "options": options, **arguments}
        )

    return run


@pytest.fixture
def without_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """See ``convert_here``."""
    convert_here(monkeypatch)


@pytest.fixture
def namespaces() -> None:
    """Only where the kernel gives namespaces; where real parts are required, that it does not is a failure."""
    isolation = launch.available()
    if isolation.kind == "namespaces":
        return
    if os.environ.get("EDGEPACK_REQUIRE_REAL") == "1":
        pytest.fail(f"no namespaces: {isolation.reason}")
    pytest.skip(f"no namespaces: {isolation.reason}")


@pytest.fixture(autouse=True)
def operators_listed_once() -> None:
    """skl2onnx reads the thousands of schemas of onnx again for each model: a tenth of the time of these tests."""
    if (container := sys.modules.get("skl2onnx.common._container")) is None:
        return
    kind = container.ModelComponentContainer
    if kind._build_op_version is not _list_operators:
        _ORIGINAL.append(kind._build_op_version)
        kind._build_op_version = _list_operators


def _list_operators(container: Any) -> None:
    container._op_versions = _operators()


@functools.cache
def _operators() -> Any:
    holder = SimpleNamespace()
    _ORIGINAL[0](holder)
    return holder._op_versions
