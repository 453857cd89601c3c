"""Bring another version of the agent here, and let it be tried."""

from __future__ import annotations

import logging

from edge_agent.jobs.task import Task
from edge_agent.sources.sources import Sources
from edge_agent.upgrade.install import check_room, install
from edge_agent.upgrade.versions import Versions
from edgepack.oci.digest import Digest

_log = logging.getLogger(__name__)


def run(task: Task) -> None:
    """Take the image that is named, for the document with the number that is named."""
    image, document = Digest.parse(task.words[0]), int(task.words[1])
    device, one = task.device, task.configuration
    versions = Versions.of(device.root)
    version = versions.of_image(image)
    if version is None:
        Sources.of(device, one).fetch(image)
        with device.using():
            version = install(device, image, allow_unsigned=one.allow_unsigned_images)
    if version == versions.current:
        return
    reason = versions.refused(version, document)
    if reason is not None:
        _log.warning("agent %s stays out until it is asked for anew: %s", image, reason)
        task.tell(refused=f"it was tried and given up: {reason}")
        return
    check_room(device.root, version)
    versions.propose(version, document=document)
    versions.sweep()
