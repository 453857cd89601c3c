"""What every test may use: real parts that are found or required, and free ports; and how tests are spread."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.support import late_grammar, ports, spread
from tests.support.required import REQUIRED, skip_or_fail
from tests.support.sampling import QUICK, WHOLE

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

# Numeric libraries read these when they are imported. Their threads wait in loops, on small models for longer than they
# calculate, and several processes run tests already.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# A shell starts what runs in the background with this signal ignored, and every program that a test starts would too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

late_grammar.install()

# Until all tests are known: what is made of them stays.
gc.disable()

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import modules of which nothing is to be run: many train models when they are imported."""
    if not QUICK:
        return None
    place = collection_path.relative_to(config.rootpath).as_posix()
    return spread.takes_long(f"{place}/" if collection_path.is_dir() else place) or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not to be run this time; with several processes, begin with the longest."""
    left_out = [] if WHOLE else [item for item in items if item.get_closest_marker("whole")]
    if QUICK:
        left_out += [item for item in items if item.get_closest_marker("real") or spread.takes_long(item.nodeid)]
    if left_out:
        config.hook.pytest_deselected(items=list(dict.fromkeys(left_out)))
        without = set(left_out)
        items[:] = [item for item in items if item not in without]
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: spread.place(item.nodeid))


def pytest_collection_finish() -> None:
    """Leave what is here now out of every later search for garbage, each of which takes a third of a second else."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """What shares fixtures of a module or a folder is run by one process."""
    return spread.scheduler(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a part that is not installed; with ``EDGEPACK_REQUIRE_REAL=1`` let it fail instead.

    Before any fixture, since one of a wider scope could skip the test first.
    """
    missing = [part for mark in item.iter_markers("real") for part in mark.args if shutil.which(part) is None]
    if missing:
        skip_or_fail(f"{'a real part is missing' if REQUIRED else 'not installed'}: {', '.join(missing)}")


@pytest.fixture(autouse=True)
def no_login_of_another_test() -> Iterator[None]:
    """A process searches what it writes for every password that it was given."""
    yield
    if (logins := sys.modules.get("packager.registries.logins")) is not None:
        logins._held.clear()


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives loopback ports that nobody listens on."""
    return ports.free_port
