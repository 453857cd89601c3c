"""The service that ``edge-agent deploy`` is to run: from a reference and what is recorded of the service; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edge_agent.state.records import ServiceRecord
from edgepack.errors import UsageError
from edgepack.names import SERVICE_NAME_RULE, check_service_name
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService


def deployment(
    reference: str,
    image: Digest,
    services: Mapping[str, ServiceRecord],
    name: str | None,
    port: int | None,
    env: Mapping[str, str],
    memory_bytes: int | None,
) -> DesiredService:
    """The service that runs ``image``; what is not given is as it is recorded of the service.

    Raises ``UsageError`` for a service that needs a name or a port.
    """
    name = service_name(reference) if name is None else check_service_name(name)
    record = services.get(name)
    if record is None:
        if port is None:
            raise UsageError("a new service needs a port", where=f"service {name}", hint="give one with --port")
        return DesiredService(name, image, port, env=dict(env), memory_bytes=memory_bytes)
    spec = record.current.spec
    return replace(
        spec, image=image, status="running", port=spec.port if port is None else port, env=dict(env) or spec.env,
        memory_bytes=spec.memory_bytes if memory_bytes is None else memory_bytes,
    )  # fmt: skip


def service_name(reference: str) -> str:
    """The name of a service after its image: the last part of the repository; raises ``UsageError`` if it is none."""
    if reference.startswith("sha256:"):
        raise UsageError("a digest says no name", where=reference, hint="give the service one with --name")
    last = reference.partition("@")[0].rpartition("/")[2].partition(":")[0]
    name = last.replace("_", "-").replace(".", "-")
    try:
        return check_service_name(name)
    except UsageError:
        raise UsageError(
            f"a service cannot be called {name!r} after it", where=reference,
            hint=f"give it a name with --name: {SERVICE_NAME_RULE}",
        ) from None  # fmt: skip
