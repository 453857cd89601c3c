"""Which runtime a device uses."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from edge_agent.runtimes.base import Runtime
from edgepack.errors import MissingPartError
from edgepack.oci.store import Store

RuntimeName = Literal["auto", "docker", "crun", "process"]
_log = logging.getLogger(__name__)


def choose(name: RuntimeName, state_dir: Path, store: Store) -> Runtime:
    """The runtime of that name, keeping what it needs below ``state_dir``; ``auto`` takes the first that works here.

    Raises ``MissingPartError``, saying why and what to do, when the named one cannot work.
    """
    if name == "process":
        return _process(state_dir, store)
    if name == "docker":
        return _docker(state_dir, store)
    if name == "crun":
        return _crun(state_dir, store)
    for attempt in (_docker, _crun):
        try:
            return attempt(state_dir, store)
        except MissingPartError as error:
            _log.debug("not used: %s", error)
    return _process(state_dir, store)


def _docker(state_dir: Path, store: Store) -> Runtime:
    from edge_agent.runtimes.engine.runtime import DockerRuntime

    return DockerRuntime(store)


def _crun(state_dir: Path, store: Store) -> Runtime:
    """``crun``, or ``runc`` where ``crun`` is not there."""
    import shutil

    from edge_agent.runtimes.crun import CrunRuntime

    if shutil.which("crun") is None and shutil.which("runc") is not None:
        return CrunRuntime(state_dir, store, "runc")
    return CrunRuntime(state_dir, store, "crun")


def _process(state_dir: Path, store: Store) -> Runtime:
    from edge_agent.runtimes.process import ProcessRuntime

    return ProcessRuntime(state_dir, store)
