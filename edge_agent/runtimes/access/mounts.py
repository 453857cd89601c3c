"""Files and folders of the device that a service sees: what may be shared, and where it may appear in the image."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgepack.errors import RuntimeFailedError
from edgepack.state.desired import DesiredService
from edgepack.state.host_access import overlap

# Who may write to one of these starts what he likes as root.
_ENGINES = (
    "/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/docker.sock", "/run/podman/podman.sock",
)  # fmt: skip
# What an image has at a path, in words: ``None`` for nothing or an empty folder.
Content = Callable[[str], str | None]


@dataclass(frozen=True)
class Bind:
    """A file or folder, its links followed, and where the service sees it."""

    source: Path
    target: str
    read_only: bool

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, so that a folder must be there to mount it on."""
        return self.source.is_dir()


def check_mounts(spec: DesiredService, state: Path, content: Content) -> tuple[Bind, ...]:
    """The mounts of ``spec``; ``state`` is the agent's folder and ``content`` tells what the image has.

    Raises ``RuntimeFailedError`` for what is not there, what must not be shared, and what would hide some of the image.
    """
    return tuple(Bind(_source(spec, one.source, state), _target(spec, one.target, content), one.read_only)
                 for one in spec.mounts)  # fmt: skip


def _source(spec: DesiredService, text: str, state: Path) -> Path:
    where = f"service {spec.name}"
    try:
        found = Path(text).resolve(strict=True)
        mode = found.stat().st_mode
    except (OSError, RuntimeError) as error:  # a circle of links
        said = error.strerror if isinstance(error, OSError) else "its links lead in a circle"
        raise RuntimeFailedError(
            f"{text}, which its mounts name, cannot be used ({said})", where=where,
            hint="make it on the device, or take the mount out of the desired state",
        ) from error  # fmt: skip
    if overlap(str(found), str(state.resolve())):
        raise RuntimeFailedError(
            f"{text} holds what the agent keeps, or is in it ({state})", where=where,
            hint="put what the service needs in a folder of its own, such as /srv, and mount that",
        )  # fmt: skip
    if any(overlap(str(found), one) and Path(one).exists() for one in _ENGINES):
        raise RuntimeFailedError(
            f"{text} leads to a container engine, and so to the rights of root", where=where,
            hint="mount only the files that the service needs",
        )  # fmt: skip
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)):
        raise RuntimeFailedError(
            f"{text} is a device, not a file or folder", where=where, hint="name it in devices, not in mounts"
        )
    return found


def _target(spec: DesiredService, text: str, content: Content) -> str:
    found = content(text)
    if found is not None:
        raise RuntimeFailedError(
            f"its image has {found}, which a mount at {text} would hide", where=f"service {spec.name}",
            hint="give the mount another target, such as /data",
        )  # fmt: skip
    return text


def content_of(layers: Sequence[Path]) -> Content:
    """What the unpacked ``layers`` have at a path. What one of them hides of another counts as well."""

    def content(path: str) -> str | None:
        for at in _ways(path):
            for layer in layers:
                found = layer / str(at).lstrip("/")
                try:
                    mode = found.lstat().st_mode
                except OSError:
                    continue
                if stat.S_ISLNK(mode):
                    return f"a link at {at}"
                if stat.S_ISCHR(mode):  # it hides what is below it
                    continue
                if not stat.S_ISDIR(mode):
                    return f"a file at {at}"
                if str(at) == path and any(found.iterdir()):
                    return f"files in {at}"
        return None

    return content


def _ways(path: str) -> Iterator[PurePosixPath]:
    """The folders on the way to ``path``, the uppermost first, and ``path`` itself."""
    at = PurePosixPath(path)
    yield from reversed([one for one in (at, *at.parents) if str(one) != "/"])
