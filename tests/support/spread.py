"""How tests are spread over processes with ``pytest -n``: what shares its costly fixtures stays together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest
    from xdist.scheduler import LoadScopeScheduling

# Folders whose fixtures are made once for all of their tests.
TOGETHER = ("tests/integration/",)
# What starts programs, trains models or draws many examples, and is not a part of `make quick`.
LONG: tuple[str, ...] = ("tests/integration/",)
# What takes longest, so that no process begins with it when the others are done.
FIRST: tuple[str, ...] = ("tests/integration/",)


def group(nodeid: str) -> str:
    """The tests that are run by one process: a module's, or a whole folder's."""
    path = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if path.startswith(folder)), path)


def takes_long(nodeid: str) -> bool:
    """Whether a test is left out of the quick run."""
    return nodeid.startswith(LONG)


def place(nodeid: str) -> int:
    """Where a test comes in the order: what takes longest first."""
    return next((number for number, start in enumerate(FIRST) if nodeid.startswith(start)), len(FIRST))


def scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Gives each process that is idle the next group."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    config.option.loadscopereorder = False
    return ByGroup(config, log)
