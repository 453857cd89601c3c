"""``azureml.core.run`` without the cloud: scripts that share code with training import it, and log to it."""

from __future__ import annotations

import logging
from typing import Any

_log = logging.getLogger(__name__)


class Run:
    """A run outside of any experiment, as the original returns there: values that are logged to it go to the log."""

    id = "OfflineRun"
    experiment = None

    @classmethod
    def get_context(cls, allow_offline: bool = True, **unused: Any) -> Run:
        """The run; there is only this one, so RuntimeError is raised where an offline run is not allowed."""
        if not allow_offline:
            raise RuntimeError("there is no run of an experiment here: the script is served")
        return cls()

    def __getattr__(self, name: str) -> Any:
        if name != "log" and not name.startswith("log_"):
            raise AttributeError(f"edgepack's Run has no {name}, it offers id, get_context, log, log_list and the like")

        def tell(what: str, *values: Any, **named: Any) -> None:
            _log.info("%s of %s: %s", name, what, [*values, *named.values()])

        return tell
