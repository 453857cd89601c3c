"""What a job is given, how it tells, and how it ends when it is asked to."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_agent.config.configuration import Configuration
from edge_agent.device import Device
from edgepack.state.reported import Stage

_PARENT_DEATH = 1  # prctl(2), PR_SET_PDEATHSIG
# To end now would leave a service stopped that is to run, until the agent comes again.
_EXCHANGING = frozenset({Stage.SWITCHING, Stage.RETURNING})
_ENDED = 128 + signal.SIGTERM


@dataclass
class Task:
    """A job: the configuration, the words of its command line, and what else it was ``given``."""

    configuration: Configuration
    words: tuple[str, ...]
    given: Mapping[str, Any]
    _stages: dict[str, Stage] = field(default_factory=dict)
    _is_ending: bool = False

    @property
    def device(self) -> Device:
        """The device."""
        return Device(self.configuration.state_dir, self.configuration.runtime)

    def tell(self, **told: Any) -> None:
        """Tell the agent something, which may be gone."""
        data = json.dumps(told).encode() + b"\n"
        try:
            os.write(1, data)
        except OSError:
            return

    def stage(self, service: str, stage: Stage, number: int, **more: Any) -> None:
        """Tell how far a service is; ends here when that was asked for in a stage where it could not be."""
        self._stages[service] = stage
        if self._is_ending:
            self._end()
        self.tell(service=service, stage=stage.value, number=number, **more)

    def end_with_the_agent(self) -> None:
        """End when the agent asks for it, or is gone: at once, or when a service is not being exchanged any more."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which sends it to the agent too
        signal.signal(signal.SIGTERM, lambda *_: self._asked_to_end())
        ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGTERM, 0, 0, 0)
        # A job that was forked has looked by itself: its parent is another one.
        if (agent := self.given.get("agent")) is not None and os.getppid() != agent:
            self._asked_to_end()

    def _asked_to_end(self) -> None:
        self._is_ending = True
        self._end()

    def _end(self) -> None:
        if not any(stage in _EXCHANGING for stage in self._stages.values()):
            os._exit(_ENDED)
