"""Put what a service is started from in order, from the device's own store, and start it."""

from __future__ import annotations

import logging
from dataclasses import replace

from edge_agent.jobs.task import Task
from edge_agent.reconcile.probe import alive
from edgepack.state.reported import ServiceState

_log = logging.getLogger(__name__)


def run(task: Task) -> None:
    """Prepare the image of the service again, read everything that is unpacked of it, and start the service."""
    (name,) = task.words
    device = task.device
    with device.using(name):
        record = device.state.services().get(name)
        if record is None or record.state is not ServiceState.HEALTHY:
            return  # another command has changed it meanwhile
        runtime = device.runtime_named(record.runtime)
        if alive(runtime.inspect(name)).healthy:
            return
        image = device.manifest_of(record.current.spec.image)
        runtime.prepare(image)
        if runtime.mend(image):
            _log.warning("service %s: its image was damaged on the disk and is mended", name)
        runtime.start(replace(record.current.spec, image=image))
