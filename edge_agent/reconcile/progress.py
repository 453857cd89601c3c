"""How far each service is: every stage that is entered is recorded here, and nowhere else."""

from __future__ import annotations

import logging
import sys

from edge_agent.device import Device
from edge_agent.reconcile.stages import may_follow
from edge_agent.state.goals import Goal, Stage
from edgepack.errors import EdgepackError
from edgepack.state.reported import Answer

_log = logging.getLogger(__name__)
# An audit event (PEP 578) for each stage, once it is recorded and before its effect: (service, stage). Tests end the
# process there; nothing in the agent listens.
EVENT = "edgepack.stage"


class Progress:
    """The goals of ``device``, and the stages that they are in."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def goal(self, service: str) -> Goal | None:
        """The goal of ``service`` as it is recorded now."""
        return self._device.state.goals().get(service)

    def is_current(self, goal: Goal) -> bool:
        """Whether ``goal`` is still what is wanted of its service, however far it is."""
        found = self.goal(goal.service)
        return found is not None and found.number == goal.number

    def enter(
        self,
        goal: Goal,
        stage: Stage,
        reason: str | None = None,
        *,
        counted: bool = False,
        error: EdgepackError | None = None,
    ) -> Goal | None:
        """Record that ``goal`` is in ``stage`` now; returns it, or ``None`` when another goal has replaced it.

        ``counted``: as one more try that failed. The ``error`` is the reason, and says its number. Raises
        ``ValueError`` for a stage that may not follow.
        """
        if not may_follow(goal.stage, stage):
            raise ValueError(f"{stage} does not follow {goal.stage}")
        status = None if error is None else Answer.of(error)
        reason = reason if error is None else str(error)
        found = self._device.state.set_stage(
            goal.service, stage, reason, counted=counted, number=goal.number, status=status
        )
        if found is None:
            _log.info("service %s: something else is desired of it meanwhile", goal.service)
            return None
        sys.audit(EVENT, goal.service, stage.value)
        _log.debug("service %s: %s%s", goal.service, stage, "" if reason is None else f" ({reason})")
        return found
