"""What to do when a connection has ended: which MQTT to speak next, how long to wait before, and what to say."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from edge_agent.link.backoff import Backoff

# How long a broker that took MQTT 3.1.1 only is not asked for MQTT 5 again; it may have been updated since.
_SETTLED_SECONDS = 3600.0
# A connection that another session ended is not made again at once: the other one would lose its own.
_TAKEN_OVER_PAUSE = 10.0
_TAKEN_OVER_WINDOW = 3600.0
# A broker that closes so soon does not like something about this device, or has another one of its name.
_SOON_SECONDS = 30.0
_SOON_TIMES = 3


class Version(StrEnum):
    """The protocols, as people call them."""

    MQTT5 = "MQTT 5"
    MQTT311 = "MQTT 3.1.1"

    @property
    def other(self) -> Version:
        """The other one."""
        return Version.MQTT311 if self is Version.MQTT5 else Version.MQTT5


class Kind(StrEnum):
    """How a connection ends. All but ``LOST``, ``TAKEN_OVER`` and ``STOPPED`` are before it was ready."""

    UNREACHABLE = "unreachable"
    UNANSWERED = "unanswered"
    OTHER_VERSION = "other version"
    NO_RETAIN = "no retain"
    NO_QOS = "no quality of service"
    REFUSED = "refused"
    TAKEN_OVER = "taken over"
    LOST = "lost"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Ended:
    """How a connection ended, why in a sentence, and how many seconds it was ready."""

    kind: Kind
    reason: str
    lasted_seconds: float = 0.0


@dataclass(frozen=True)
class Attempt:
    """What to ask a broker for. It may keep no messages for topics, or confirm none."""

    version: Version = Version.MQTT5
    retain: bool = True
    qos: int = 1


@dataclass
class Course:
    """The attempts at one broker for a device, whose name is ``device``."""

    device: str
    backoff: Backoff = field(default_factory=Backoff)
    attempt: Attempt = field(default_factory=Attempt)
    _settled_until: float | None = None
    _taken_over: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    _soon: int = 0

    def after(self, ended: Ended, now: float) -> tuple[float, str]:
        """Seconds to wait before the next attempt, and why there is no connection; ``now`` is a monotonic clock's."""
        version, kind = self.attempt.version, ended.kind
        was_ready = kind in (Kind.LOST, Kind.TAKEN_OVER)
        if kind is Kind.TAKEN_OVER:
            return max(_TAKEN_OVER_PAUSE, self.backoff.pause()), self._said_of_the_other(now)
        self.backoff.lasted(ended.lasted_seconds)
        self._soon = self._soon + 1 if was_ready and ended.lasted_seconds < _SOON_SECONDS else 0
        if was_ready:
            self._keep_version(now)
        elif kind is Kind.OTHER_VERSION and version is Version.MQTT5:
            self._ask(version=Version.MQTT311)
            return 0.0, "it does not take MQTT 5; trying MQTT 3.1.1"
        elif kind in (Kind.OTHER_VERSION, Kind.UNANSWERED) and self._settled_until is None:
            self._ask(version=version.other)
        elif kind is Kind.NO_RETAIN and self.attempt.retain:
            self._ask(retain=False)
            return 0.0, ended.reason
        elif kind is Kind.NO_QOS and self.attempt.qos:
            self._ask(qos=0)
            return 0.0, ended.reason
        reason = ended.reason
        if self._soon >= _SOON_TIMES:
            reason += (
                f", {self._soon} times soon after the connection was made: another client may connect with the name "
                f"{self.device}, or the broker refuses what the device does; its log says which"
            )
        return self.backoff.pause(), reason

    def _said_of_the_other(self, now: float) -> str:
        self._taken_over.append(now)
        times = sum(moment > now - _TAKEN_OVER_WINDOW for moment in self._taken_over)
        if times == 1:
            return f"another client has connected with the name {self.device}, which ended this connection"
        return (
            f"another client connects with the name {self.device} again and again, which ended {times} connections "
            "within an hour: give each device a name of its own"
        )

    def _keep_version(self, now: float) -> None:
        """Stay with what worked; ask for the newer one again after some time."""
        if self.attempt.version is Version.MQTT5:
            self._settled_until = None
        elif self._settled_until is None:
            self._settled_until = now + _SETTLED_SECONDS
        elif now >= self._settled_until:
            self._settled_until = None
            self._ask(version=Version.MQTT5)

    def _ask(self, version: Version | None = None, *, retain: bool | None = None, qos: int | None = None) -> None:
        one = self.attempt
        self.attempt = Attempt(
            one.version if version is None else version,
            one.retain if retain is None else retain,
            one.qos if qos is None else qos,
        )
