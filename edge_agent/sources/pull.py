"""What a user's word for an image means: a reference of a registry, or a name at the configured sources."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_agent.config.configuration import Configuration, RegistrySource, Source
from edge_agent.config.place import default_file
from edge_agent.device import Device
from edge_agent.sources.base import OnProgress, unseen
from edge_agent.sources.meter import Caps
from edge_agent.sources.sources import Sources
from edgepack.errors import UsageError
from edgepack.nearness import tag_meant
from edgepack.oci.digest import Digest
from edgepack.oci.reference import Reference, image_tag, names_registry

_DOCKER = "docker://"


@dataclass(frozen=True)
class Asked:
    """An image that a user named: from ``sources``, by ``digest`` or else by the tag ``name`` there.

    ``tag`` is what it is called here then, ``None`` for one that was named by its digest alone; ``repository`` is where
    a registry has it.
    """

    sources: tuple[Source, ...]
    digest: Digest | None
    name: str
    tag: str | None
    repository: str


@dataclass(frozen=True)
class Named:
    """An image that was found, and the ``Fetcher`` that brings it and gives it its ``tag``."""

    device: Device
    sources: Sources
    image: Digest
    tag: str | None
    repository: str

    def fetch(self, image: Digest, on_progress: OnProgress = unseen, *, names: Sequence[str] = ()) -> None:
        """See ``Fetcher``."""
        self.sources.fetch(image, on_progress, names=[self.repository, *names])
        if self.tag is not None and image == self.image:
            with self.device.using():
                self.device.store.tag(self.tag, self.device.store.describe(image))


def find(
    device: Device,
    text: str,
    configuration: Configuration,
    given: RegistrySource | None = None,
    *,
    tag: str | None = None,
    here: bool = False,
) -> Named:
    """What ``text`` means at its registry or the configured sources; with ``here`` on the device, where it knows it.

    ``given`` has what a command says of its registry, ``tag`` what the image is to be called. For a command, which
    does not wait for a source that is away. Raises ``UsageError``, ``InvalidReferenceError``, ``NotFoundError``, and
    what the sources raise.
    """
    local = Sources(device).find_here(text) if here else None
    if local is not None:
        return Named(device, _of(device, configuration, configuration.sources), local, tag, "")
    wanted = asked(text, configuration, given, tags=device.store.tags() if here and device.store.root.is_dir() else ())
    sources = _of(device, configuration, wanted.sources)
    image = wanted.digest or sources.look_up(wanted.name)
    return Named(device, sources, image, tag or wanted.tag, wanted.repository)


def _of(device: Device, configuration: Configuration, sources: tuple[Source, ...]) -> Sources:
    return Sources.of(device, replace(configuration, sources=sources), caps=Caps(stalled_seconds=0))


def asked(
    text: str, configuration: Configuration, given: RegistrySource | None = None, *, tags: Collection[str] = ()
) -> Asked:
    """Read a reference; ``given`` has what the command says of its registry.

    One that names no registry is for the configured sources. Without any, one of ``tags``, which the device has, may
    have been meant. Raises ``UsageError``, ``InvalidReferenceError``.
    """
    _check_written(text)
    text = text.removeprefix(_DOCKER)
    if names_registry(text):
        found = Reference.parse(text)
        folder, _, last = found.repository.rpartition("/")
        known = given or next(
            (
                one
                for one in configuration.sources
                if isinstance(one, RegistrySource) and one.registry == found.registry
            ),
            RegistrySource(found.registry),
        )
        tag = f"{found.repository}:{found.tag}" if found.tag is not None else None
        source = replace(known, registry=found.registry, prefix=folder)
        return Asked((source,), found.digest, f"{last}:{found.tag}", tag, last)
    if not configuration.sources:
        file = default_file(configuration.state_dir)
        whole = f"registry.example/{'churn@' if text.startswith('sha256:') else ''}{text}"
        raise UsageError(
            "does not name a registry, and this device has no sources", where=text,
            hint=tag_meant(text, tags, f"write it as {whole}, or name sources in {file}"),
        )  # fmt: skip
    if text.startswith("sha256:"):
        return Asked(configuration.sources, Digest.parse(text), "", None, "")
    name, at, digest = text.partition("@")
    tag = image_tag(name)
    return Asked(configuration.sources, Digest.parse(digest) if at else None, tag, tag, tag.partition(":")[0])


def _check_written(text: str) -> None:
    scheme, slashes, rest = text.partition("://")
    if "/" in text.partition("@")[2]:
        raise UsageError(
            "a reference has no user name and password in it", where=f"…@{text.rpartition('@')[2]}",
            hint="give them in a file with --registry-credentials FILE, or by docker login",
        )  # fmt: skip
    if slashes and scheme.lower() in ("http", "https"):
        hint = f"write {rest}" if scheme.lower() == "https" else f"write {rest}, and --plain-http where it has no TLS"
        raise UsageError("a registry's reference has no http:// or https:// before it", where=text, hint=hint)
    path = Path(text)
    if path.exists() and (path.is_file() or "/" in text):
        raise UsageError("is a file, not in a registry", where=path, hint=f"import it with: edge-agent import {text}")
