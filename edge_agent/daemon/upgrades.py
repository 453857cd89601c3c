"""When the agent brings another version of itself, and when it makes way for one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_agent.reconcile.acceptance import AcceptedDocument, WantedAgent, agent_of
from edge_agent.upgrade.versions import LAUNCHED, TRIED, Versions
from edgepack.state.reported import Answer, ReportedProblem

_log = logging.getLogger(__name__)
_RETRY_SECONDS, _MOST_RETRY_SECONDS = 30.0, 3600.0


class Upgrades:
    """Brings the version that is wanted by ``start``, a job that is given an image and a document's number.

    An agent that was not installed as one file, by ``environment``, does nothing but say so.
    """

    def __init__(
        self,
        root: Path,
        start: Callable[[WantedAgent], bool],
        clock: Callable[[], float],
        environment: Mapping[str, str],
    ) -> None:
        self._versions = Versions.of(root)
        self._start = start
        self._clock = clock
        self.launcher = environment.get(LAUNCHED) if self._versions.launcher is not None else None
        """What starts the version that is to be tried; ``None`` where the agent cannot be exchanged."""
        self._is_tried = TRIED in environment
        self._wanted: WantedAgent | None = None
        self._is_done = True
        self._is_running = False
        self._tries = 0
        self._due_at = 0.0
        self._seen: object = None
        self.reason: str | None = None
        """Why the version that is desired does not run."""

    def look(self, documents: Mapping[str, AcceptedDocument], groups: Sequence[str]) -> None:
        """Find out which agent ``documents`` want; they are read only when they have changed."""
        seen = ({scope: one.sequence for scope, one in documents.items()}, tuple(groups))
        if seen != self._seen:
            self._seen = seen
            self.want(agent_of(documents, groups))

    def want(self, wanted: WantedAgent | None) -> None:
        """Bring ``wanted``; without one the agent stays as it is."""
        if wanted == self._wanted:
            return
        self._wanted, self._is_done, self._tries, self._due_at = wanted, wanted is None, 0, self._clock()
        self.reason = None
        if wanted is not None and self.launcher is None:
            self.reason = "the agent was not installed as one file, so it cannot be exchanged"
            _log.warning("agent %s is desired: %s", wanted.image, self.reason)
            self._is_done = True

    def go_on(self) -> None:
        """Start the job when it is due. A version that is itself being tried brings no other one."""
        if self._wanted is None or self._is_done or self._is_running or self._is_tried or self._clock() < self._due_at:
            return
        self._is_running = self._start(self._wanted)
        if not self._is_running:
            self._failed()

    def ended(self, code: int, told: Mapping[str, Any]) -> None:
        """Take the end of the job, and what it ``told``."""
        self._is_running = False
        if code == 0:
            self._is_done = True
            self.reason = told.get("refused")
        else:
            self.reason = str(told.get("error") or f"the job that brings it ended with {code}")
            self._failed()

    def _failed(self) -> None:
        most = min(_RETRY_SECONDS * 2.0 ** min(self._tries, 16), _MOST_RETRY_SECONDS)
        # Not all devices of a group at once, which were told to at the same time.
        self._due_at = self._clock() + most * (1.0 + os.urandom(1)[0] / 255) / 2.0
        self._tries += 1

    @property
    def problems(self) -> tuple[ReportedProblem, ...]:
        """Why the version that is desired does not run, as it is reported."""
        if self.reason is None or self._wanted is None:
            return ()
        return (ReportedProblem(f"agent {self._wanted.image}", Answer.FAILED, self.reason),)

    @property
    def due(self) -> bool:
        """Whether the agent is to end, so that another version is tried."""
        return self.launcher is not None and not self._is_tried and self._versions.trial is not None
