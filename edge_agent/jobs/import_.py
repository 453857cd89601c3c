"""Import a bundle, or a part of one, that was found in an inbox folder."""

from __future__ import annotations

import logging
from pathlib import Path

from edge_agent.jobs.bring import make_runner
from edge_agent.jobs.task import Task
from edgepack.bundle.media import beside
from edgepack.bundle.receive import import_media
from edgepack.oci.descriptor import Platform
from edgepack.text import human

_log = logging.getLogger(__name__)


def run(task: Task) -> None:
    """Verify it and import its images; nothing is started. What fails, a stick that is pulled out, changes nothing.

    With a part the others in its folder are taken too; until all have come, what is missing is told as a failure.
    """
    path, device = Path(task.given["path"]), task.device
    with device.receiving():
        report = import_media(
            beside(path), device.store, device.trust.keys(),
            allow_unsigned=task.configuration.allow_unsigned_images, platform=Platform.host(),
        )  # fmt: skip
    make_runner(task).look_again([one.digest for one in report.images])
    names = ", ".join(one.name for one in report.images)
    if report.moved_bytes:
        _log.info("%s: imported %s (%s)", path, names, human(report.moved_bytes))
    else:
        _log.info("%s: %s %s here already", path, names, "is" if len(report.images) == 1 else "are")
    task.tell(status=200)
