"""The user of a service's container: the image's, or nobody's where that is root. An engine would run it as root."""

from __future__ import annotations

import io
import tarfile
from typing import Any

from edge_agent.runtimes.engine.errors import message
from edge_agent.runtimes.runtime_spec import NOBODY
from edge_agent.runtimes.unpacked.users import entry_of
from edgepack.errors import RuntimeFailedError
from edgepack.limits import LIMITS
from edgepack.oci.config import ImageConfig

AS_NOBODY = "{}:{}".format(*NOBODY)


def replacing_user(config: ImageConfig) -> str:
    """The user to run as in place of the image's, which is root by its number or name; empty to keep the image's."""
    user = config.user.partition(":")[0]
    return AS_NOBODY if user in ("", "root") or (user.isdecimal() and int(user) == 0) else ""


def is_root_in(container: Any, config: ImageConfig) -> bool:
    """Whether the image gives its user by a name that its ``/etc/passwd`` has as root's.

    ``container`` need not have been started. Raises ``RuntimeFailedError`` where that cannot be read.
    """
    import docker

    name = config.user.partition(":")[0]
    if name.isdecimal():
        return False
    try:
        stream, _ = container.get_archive("/etc/passwd")
        data = b"".join(stream)
    except docker.errors.NotFound:
        return False  # the engine will not find the name either
    except docker.errors.APIError as error:
        raise RuntimeFailedError(
            f"whether its user {name!r} is root cannot be said ({message(error)})",
            hint="give the image a user by number, such as 10001:10001",
        ) from error
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        file = next((tar.extractfile(member) for member in tar if member.isreg()), None)
        text = b"" if file is None else file.read(LIMITS.error_bytes)
    entry = entry_of(name, text.decode("utf-8", "replace"))
    return bool(entry) and int(entry[2]) == 0
