"""The places that a user can name, by skopeo's words.

``oci:DIR[:TAG]`` an OCI layout, ``oci-archive:FILE[:TAG]`` and ``docker-archive:FILE[:TAG]`` an archive,
``docker-daemon:NAME`` an engine, ``docker://REFERENCE`` or a bare reference a registry. A tag of the workspace is
found first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import EdgepackError, NotFoundError, UsageError
from edgepack.names import image_tag
from edgepack.oci import mediatypes
from edgepack.oci.archive.write import Archive, write_archive
from edgepack.oci.copy import CopyReport, copy
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from packager.workspace import Workspace

if TYPE_CHECKING:
    from edgepack.oci.remote import RemoteRepository

_ARCHIVES = ("oci-archive", "docker-archive")
_TRANSPORTS = ("oci", *_ARCHIVES, "docker-daemon", "docker")


def _split(text: str) -> tuple[str, str]:
    transport, colon, rest = text.partition(":")
    if colon and transport in _TRANSPORTS and not (transport == "docker" and not rest.startswith("//")):
        if rest in ("", "//"):
            raise UsageError("names no place", where=text, hint=f"write what comes after {transport}:")
        return transport, rest.removeprefix("//") if transport == "docker" else rest
    return "", text


def _split_tag(text: str) -> tuple[Path, str | None]:
    """``PATH[:TAG]``, where the tag may be ``name:tag``, and the path may have colons too."""
    cuts = [at for at, letter in enumerate(text) if letter == ":" and at > 0]
    choices = [(text, None), *((text[:at], text[at + 1 :]) for at in reversed(cuts))]
    # The longest path that is there; else the one to be made in the deepest folder, with the longest tag.
    path, tag = next(
        (choice for choice in choices if Path(choice[0]).exists()),
        max(
            (choice for choice in choices if Path(choice[0]).parent.is_dir()),
            key=lambda choice: (len(Path(choice[0]).parent.parts), -len(choice[0])),
            default=choices[-1],
        ),
    )
    return Path(path), tag or None


def _pick(images: Mapping[str, Descriptor], tag: str | None, where: object) -> Descriptor:
    if tag is not None:
        for name in (tag, f"{tag}:latest"):
            if name in images:
                return images[name]
    elif len(images) == 1:
        return next(iter(images.values()))
    have = f"it has {', '.join(sorted(images))}" if images else "push an image there first"
    if tag is None and images:
        have += f"; write {where}:NAME for one of them"
    raise NotFoundError(f"there is no {tag!r}" if tag else f"holds {len(images)} images", where=where, hint=have)


def _online(what: str, offline: bool) -> None:
    if offline:
        raise EdgepackError(
            f"{what} is not in the workspace, and fetching it would need the network",
            where="--offline",
            hint=f"bring it here while there is one: edgepack package pull {what}",
        )


@contextmanager
def open_source(text: str, workspace: Workspace, *, offline: bool = False) -> Iterator[tuple[BlobSource, Descriptor]]:
    """Where ``text`` points, and the image there; raises ``NotFoundError`` and what the place raises."""
    transport, rest = _split(text)
    if transport == "oci":
        path, tag = _split_tag(rest)
        layout = Store.open_existing(path)
        yield layout, _pick(layout.tags() or _nameless(layout), tag, path)
    elif transport in _ARCHIVES:
        path, tag = _split_tag(rest)
        with Archive(path) as archive:
            yield archive, _pick(archive.images(), tag, path)
    elif transport == "docker-daemon":
        from packager.places.engine import is_remote, save_image

        if offline and is_remote():
            raise EdgepackError(
                "DOCKER_HOST names an engine on another machine", where="--offline", hint="unset one of the two"
            )

        with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
            exported = Path(folder) / "image.tar"
            save_image(rest, exported)
            with Archive(exported) as archive:
                yield archive, _pick(archive.images(), None, rest)
    elif not transport and (found := _tagged(workspace.store, rest)) is not None:
        yield workspace.store, found
    elif not transport and not _names_registry(rest):
        from edgepack.oci.reference import Reference

        Reference.parse(rest)  # what could not be a name anywhere is told so
        # A misspelt tag must not become a download of whatever the world's default registry has by that name.
        raise NotFoundError(
            f"there is no image {rest!r}",
            where=workspace.root,
            hint=f"see: edgepack package list, or write docker://{rest} for the one in Docker's registry",
        )
    else:
        from edgepack.oci.reference import Reference
        from edgepack.oci.remote import RemoteRepository

        _online(rest, offline)
        reference = Reference.parse(rest)
        repository = RemoteRepository(reference)
        yield repository, repository.resolve()


def _names_registry(text: str) -> bool:
    """Whether a reference says which registry: its first part has a dot or colon, or is localhost."""
    host, slash, _ = text.partition("/")
    return bool(slash) and (host == "localhost" or "." in host or ":" in host)


def _nameless(layout: Store) -> dict[str, Descriptor]:
    return {str(item.digest): item for item in layout.index().manifests}


def _tagged(store: Store, text: str) -> Descriptor | None:
    try:
        return store.tags().get(image_tag(text))
    except UsageError:
        return None


def send(store: Store, tag: str, root: Descriptor, text: str) -> CopyReport:
    """Bring the image ``root``, called ``tag`` here, to the place ``text``."""
    transport, rest = _split(text)
    if transport == "oci":
        path, name = _split_tag(rest)
        layout = Store.create(path)
        report = copy(store, layout, root)
        _attach(store, layout, root)
        layout.tag(name or tag, replace(root, annotations={}))
        return report
    if transport in _ARCHIVES:
        path, name = _split_tag(rest)
        write_archive(store, {name or tag: root}, path)
        return CopyReport(path.stat().st_size, 1, 0)
    if transport == "docker-daemon":
        from packager.places.engine import load_image

        with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
            archive = Path(folder) / "image.tar"
            write_archive(store, {image_tag(rest or tag): root}, archive)
            load_image(archive)
            return CopyReport(archive.stat().st_size, 1, 0)
    if not transport and not _names_registry(rest):
        raise UsageError(
            "names no registry", where=text, hint="give a destination such as registry.example/churn:1 or oci:DIR"
        )
    return _send_to_registry(store, root, rest)


def _attach(source: Store | RemoteRepository, sink: Store, root: Descriptor) -> None:
    """Bring the artifacts that are attached to ``root``: without its signatures an image is not the whole package."""
    for artifact in source.referrers(root.digest):
        copy(source, sink, artifact)
        sink.add_referrer(root.digest, artifact)


def _send_to_registry(store: Store, root: Descriptor, text: str) -> CopyReport:
    from edgepack.oci.reference import Reference
    from edgepack.oci.remote import RemoteRepository

    reference = Reference.parse(text)
    repository = RemoteRepository(reference)
    report = copy(store, repository, root)
    repository.tag(reference.tag or "latest", root)
    for artifact in store.referrers(root.digest):
        repository.attach(artifact, store)
    return report


def public_name(text: str) -> str | None:
    """What ``text`` is called elsewhere too; ``None`` for a file or engine of this machine."""
    transport, rest = _split(text)
    return rest if transport in ("", "docker") else None


def in_registry(text: str) -> str:
    """The reference to an image in a registry that ``text`` is; raises ``UsageError`` for another place."""
    rest = public_name(text)
    if rest is None:
        raise UsageError("is not in a registry", where=text, hint=f"bring it here with: edgepack package load {text}")
    return rest


def fetch(store: Store, text: str, tag: str) -> tuple[Descriptor, CopyReport]:
    """Bring the image ``text`` and the artifacts attached to it from its registry, and call it ``tag`` here."""
    from edgepack.oci.reference import Reference
    from edgepack.oci.remote import RemoteRepository

    reference = Reference.parse(in_registry(text))
    repository = RemoteRepository(reference)
    root = repository.resolve()
    report = copy(repository, store, root)
    _attach(repository, store, root)
    store.tag(tag, root)
    return root, report


def load(workspace: Workspace, text: str, tag: str | None) -> tuple[str, Descriptor, CopyReport]:
    """Bring an image from an archive, a layout or an engine, and call it ``tag``, or what it is called there."""
    if not _split(text)[0]:
        path = Path(_split_tag(text)[0])
        if not path.exists():
            raise NotFoundError("there is no such file or folder", where=path, hint="give an archive or an OCI layout")
        text = f"{'oci' if path.is_dir() else 'oci-archive'}:{text}"
    with open_source(text, workspace) as (source, root):
        name = tag or root.annotations.get(mediatypes.REF_NAME)
        if name is None or (tag is None and ":" not in name):
            raise UsageError("has no name of its own", where=text, hint="give one with --tag NAME:TAG")
        report = copy(source, workspace.store, root)
        if isinstance(source, Store):
            _attach(source, workspace.store, root)
    workspace.store.tag(image_tag(name), root)
    return image_tag(name), root, report
