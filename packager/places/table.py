"""The places that a user can name, by skopeo's words; a bare name is a tag of the workspace or a registry's reference.

A new place is a class in a module of its own, and a name in ``PLACES``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import NotFoundError, UsageError
from edgepack.nearness import nearest, tag_meant
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.reference import image_tag, names_registry
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from packager.places.archive import DockerArchive, OciArchive
from packager.places.docker_daemon import DockerDaemon
from packager.places.oci_layout import OciLayout
from packager.places.place import ImageSource, Place, split_tag
from packager.places.registry import Registry
from packager.registries.access import Access

PLACES: tuple[type[Place], ...] = (OciLayout, OciArchive, DockerArchive, DockerDaemon, Registry)

# Registries are reached as this machine's engines are told.
_AS_CONFIGURED = Access()


@dataclass(frozen=True)
class Tagged(ImageSource):
    """An image that a tag of the workspace's store names."""

    store: Store
    root: Descriptor

    @contextmanager
    def open(self, *, offline: bool = False) -> Iterator[tuple[BlobSource, Descriptor]]:
        """The image."""
        yield self.store, self.root


def find_source(
    text: str, store: Store, access: Access = _AS_CONFIGURED, *, recipes: Sequence[str] = ()
) -> ImageSource:
    """Where the image ``text`` comes from: a tag of ``store``, which is a workspace's, or a place.

    ``recipes`` are further names that the caller takes, and that may have been meant.

    Raises ``NotFoundError`` for a name that is not a tag there and names no registry, ``UsageError`` for what cannot be
    a name.
    """
    place = _with_prefix(text, access)
    if place is not None:
        return place
    root = _tagged(store, text)
    if root is not None:
        return Tagged(store, root)
    if names_registry(text):
        return Registry(text, text, access)
    from edgepack.oci.reference import Reference

    Reference.parse(text)  # raises for what could not be a name anywhere
    # A misspelt tag must not become a download of whatever the world's default registry has by that name.
    path = Path(split_tag(text)[0])
    if path.exists():
        kind = OciLayout if path.is_dir() else OciArchive
        hint = f"for the {'folder' if path.is_dir() else 'file'} write {kind.prefix}{text}"
    else:
        way = f"see: edgepack package list, or write docker://{text} for the one in Docker's registry"
        if recipes:
            way = f"recipes are {' and '.join(recipes)}; {way}"
        hint = tag_meant(text, store.tags(), way)
    # The workspace is what a user knows.
    raise NotFoundError(f"image {text!r} not found", where=store.root.parent, hint=hint)


def find_destination(text: str, access: Access = _AS_CONFIGURED) -> Place:
    """The place ``text`` to send an image to; raises ``UsageError`` for a bare name that names no registry."""
    place = _with_prefix(text, access)
    if place is not None:
        return place
    if not names_registry(text):
        near = nearest(text.partition(":")[0], (kind.prefix.rstrip(":") for kind in PLACES))
        meant = [f"write {kind.prefix}{kind.wanted.upper()}" for kind in PLACES if kind.prefix.rstrip(":") == near]
        usual = "give a destination such as registry.example/churn:1 or oci:DIR"
        raise UsageError("does not name a registry", where=text, hint=meant[0] if meant else usual)
    return Registry(text, text, access)


def find_file(text: str, access: Access = _AS_CONFIGURED) -> Place:
    """The place ``text`` to load from, where an archive or layout needs no word before its path.

    Raises ``NotFoundError`` for a path that does not exist.
    """
    place = _with_prefix(text, access)
    if place is not None:
        return place
    path = Path(split_tag(text)[0])
    if not path.exists():
        hint = "give an archive or an OCI layout"
        if names_registry(text):
            hint += f"; what is in a registry is fetched by: edgepack package pull {text}"
        raise NotFoundError("there is no such file or folder", where=path, hint=hint)
    kind = OciLayout if path.is_dir() else OciArchive
    return kind(f"{kind.prefix}{text}", text)


def find_registry(text: str, access: Access = _AS_CONFIGURED) -> Registry:
    """The registry's image that ``text`` is; raises ``UsageError`` for another place."""
    place = _with_prefix(text, access) or Registry(text, text, access)
    if not isinstance(place, Registry):
        raise UsageError("is not in a registry", where=text, hint=f"load it with: edgepack package load {text}")
    return place


def public_name(text: str) -> str | None:
    """What others call ``text`` too; ``None`` for a file or engine of this machine."""
    place = _with_prefix(text)
    return text if place is None else place.public_name


def _with_prefix(text: str, access: Access = _AS_CONFIGURED) -> Place | None:
    scheme, slashes, rest = text.partition("://")
    if scheme.lower() in ("http", "https", "docker") or not text.startswith(tuple(kind.prefix for kind in PLACES)):
        check_no_login(text)
    if slashes and scheme.lower() in ("http", "https"):
        hint = f"write {rest}" if scheme.lower() == "https" else f"write {rest}, and --plain-http where it has no TLS"
        raise UsageError("a registry's reference has no http:// or https:// before it", where=text, hint=hint)
    for kind in PLACES:
        if text.startswith(kind.prefix):
            name = text.removeprefix(kind.prefix)
            if name in ("", "//"):
                raise UsageError(
                    f"{kind.wanted} missing after {kind.prefix!r}",
                    where=text,
                    hint=f"write it as {kind.prefix}{kind.wanted.upper()}",
                )
            return Registry(text, name, access) if kind is Registry else kind(text, name)
    return None


def check_no_login(text: str) -> None:
    """Raise ``UsageError``, which does not repeat it, when the reference ``text`` has ``USER:PASSWORD@`` in it."""
    # A digest, the other thing that follows an @, has no slash. A path may have all of it.
    if "/" in text.partition("@")[2] and not Path(split_tag(text)[0]).exists():
        raise UsageError(
            "a reference has no user name and password in it", where=f"…@{text.rpartition('@')[2]}",
            hint="give them by --username NAME --password-stdin, or by docker login",
        )  # fmt: skip


def _tagged(store: Store, text: str) -> Descriptor | None:
    tags = store.tags()
    if text in tags:  # also one that today's rules for names refuse, in the workspace of an older edgepack
        return tags[text]
    try:
        return tags.get(image_tag(text))
    except UsageError:
        return None
