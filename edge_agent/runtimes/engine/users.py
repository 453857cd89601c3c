"""The user of a service's container: the image's, or nobody's where that is root. An engine would run it as root."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace

from edge_agent.runtimes.engine.api import Engine
from edge_agent.runtimes.engine.errors import NOT_FOUND, CallError
from edge_agent.runtimes.runtime_spec import NOBODY, service_user
from edge_agent.runtimes.unpacked.users import entry_of
from edgepack.errors import RuntimeFailedError
from edgepack.limits import LIMITS
from edgepack.oci.config import ImageConfig

AS_NOBODY = "{}:{}".format(*NOBODY)


def replacing_user(config: ImageConfig) -> str:
    """The user to run as in place of the image's, which is root by its number or name; empty to keep the image's."""
    user = config.user.partition(":")[0]
    return AS_NOBODY if user in ("", "root") or (user.isdecimal() and int(user) == 0) else ""


def is_root_in(engine: Engine, container: str, config: ImageConfig) -> bool:
    """Whether the image gives its user by a name that its ``/etc/passwd`` has as root's.

    ``container`` need not have been started. Raises ``RuntimeFailedError`` where that cannot be read.
    """
    name = config.user.partition(":")[0]
    if name.isdecimal():
        return False
    entry = entry_of(name, _text_in(engine, container, "/etc/passwd", name))
    return bool(entry) and int(entry[2]) == 0


def user_in(engine: Engine, container: str, config: ImageConfig) -> tuple[int, int]:
    """The uid and gid that a service of the image runs as, by the files of ``container``.

    Raises ``IncompatibleError`` for a name that they do not have.
    """
    name, _, group = config.user.partition(":")
    named = [part for part in (name, group) if part and not part.isdecimal() and part != "root"]
    passwd = entry_of(name, _text_in(engine, container, "/etc/passwd", name)) if name in named else []
    groups = entry_of(group, _text_in(engine, container, "/etc/group", name)) if group in named else []
    user = passwd[2] if passwd else name
    gid = groups[2] if groups else group or (passwd[3] if len(passwd) > 3 else "")
    return service_user(replace(config, user=f"{user}:{gid}" if gid else user))


def _text_in(engine: Engine, container: str, path: str, name: str) -> str:
    try:
        with engine.archive(container, path) as answer:
            data = answer.read()
    except CallError as error:
        if error.status == NOT_FOUND:
            return ""  # the engine will not find the name either
        raise RuntimeFailedError(
            f"whether its user {name!r} is root cannot be said ({error.what})",
            hint="give the image a user by number, such as 10001:10001",
        ) from error
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        file = next((tar.extractfile(member) for member in tar if member.isreg()), None)
        return "" if file is None else file.read(LIMITS.error_bytes).decode("utf-8", "replace")
