"""What the places of one fetch did not give, and why; none is asked again for what it gave wrongly or does not have."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence

from edge_agent.sources.base import PausedError, Place, SourceGoneError
from edge_agent.sources.meter import OverTimeError
from edgepack.errors import (
    AuthenticationError,
    CutShortError,
    EdgepackError,
    NotFoundError,
    RegistryError,
    RegistryUnavailableError,
    VerificationError,
)
from edgepack.oci.digest import Digest

_log = logging.getLogger(__name__)
# What may be otherwise a moment later: 429, 5xx, no connection, a stick that is out.
PASSING = (RegistryUnavailableError, SourceGoneError)
# What ends a fetch, whoever else could be asked.
ENDS = (PausedError, OverTimeError)


class Refusals:
    """For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._barred: dict[tuple[str, Digest | None], EdgepackError] = {}
        self._last: dict[str, EdgepackError] = {}

    def usable(self, places: Iterable[Place], digest: Digest) -> list[Place]:
        """The places that may still be asked for ``digest``."""
        with self._lock:
            return [one for one in places if not self._barred.keys() & {(one.name, digest), (one.name, None)}]

    def add(self, place: Place, digest: Digest, error: EdgepackError) -> None:
        """``place`` failed to give ``digest``; unless that passes it is not asked for it again."""
        with self._lock:
            self._last[place.name] = error
            if isinstance(error, PASSING):
                _log.debug("%s does not give %s now: %s", place.name, digest, error)
                return
            # A login that is refused, or a cap that is reached, is so for everything.
            everything = not isinstance(error, (NotFoundError, VerificationError))
            self._barred[place.name, None if everything else digest] = error
        if isinstance(error, VerificationError):
            what = "has not all of" if isinstance(error, CutShortError) else "gave wrong bytes for"
            _log.warning("%s %s %s, and is not asked for it again: %s", place.name, what, digest, error)

    def passes(self, places: Sequence[Place], digests: Iterable[Digest]) -> bool:
        """Whether each of ``digests`` may still come from one of ``places`` later."""
        return all(self.usable(places, digest) for digest in digests)

    def error(self, what: str, places: Sequence[Place]) -> EdgepackError:
        """The one error for ``what`` that no place gave: that of the only place, or of each in one sentence."""
        with self._lock:
            found = {place.name: self._last[place.name] for place in places if place.name in self._last}
        if len(found) == 1:
            return next(iter(found.values()))
        kinds = [type(error) for error in found.values()]
        text = "; ".join(
            str(error) if (error.where or "").startswith(name) else f"{name}: {error}" for name, error in found.items()
        )
        kind: type[EdgepackError] = NotFoundError
        for one in (VerificationError, AuthenticationError, RegistryUnavailableError, RegistryError, SourceGoneError):
            if any(issubclass(each, one) for each in kinds):
                kind = one
                break
        return kind(f"no source gave it: {text}", where=what)
