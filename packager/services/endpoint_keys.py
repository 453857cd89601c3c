"""The keys of an endpoint: those of its versions, which are the same, for callers do not see which one answers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from edgepack.errors import EdgepackError
from edgepack.hidden import HiddenText
from packager.fleet.reach import UnseenError
from packager.services.credentials.callers import keys_of
from packager.services.credentials.keys import ServiceKeys, Which
from packager.services.deploying import Services
from packager.services.endpoints.endpoint import Endpoint


def keys_of_versions(root: Path, services: Services, one: Endpoint) -> dict[str, ServiceKeys]:
    """The keys of each version of ``one``, the default one first; raises ``UsageError`` where callers show none."""
    versions = sorted(one.weights, key=lambda version: version != one.default)
    return {version: keys_of(root, services.get(one.service(version))) for version in versions}


def regenerate(root: Path, services: Services, one: Endpoint, which: Which, key: HiddenText) -> None:
    """Put ``key`` in place of one of the two of each version of ``one``.

    Raises as ``Services.regenerate``; no version has the key then, unless its target was told.
    """
    before = {version: getattr(keys, which) for version, keys in keys_of_versions(root, services, one).items()}
    done: list[str] = []
    unseen: UnseenError | None = None
    for version, former in before.items():
        if former == key:  # by an attempt that was cut short
            continue
        try:
            services.regenerate(one.service(version), which, key)
        except UnseenError as error:  # what it was told stands
            unseen = error
        except EdgepackError:
            for each in done:
                with suppress(EdgepackError):  # the first reason says more
                    services.regenerate(one.service(each), which, before[each])
            raise
        done.append(version)
    if unseen is not None:
        raise unseen
