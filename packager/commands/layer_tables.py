"""The table at the end of a build, a push and a pull: each layer by what it is, its size, and whether it is new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgepack.host.console import human
from edgepack.oci import mediatypes
from edgepack.oci.copy import CopyReport, title_of
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.graph import images
from edgepack.oci.store import Store

if TYPE_CHECKING:
    from packager.images.build import Build

# The column that is cut where the terminal is narrow.
CUT = "layer"


def built_rows(built: Build) -> list[dict[str, object]]:
    """A row for each layer of each image that a build made."""
    several = len(built.images) > 1
    return [
        {
            **({"platform": image.platform} if several else {}),
            CUT: f"{layer.kind} {layer.title}".rstrip(),
            "size": human(layer.size),
            "unpacked": human(layer.unpacked_size),
            "state": "new" if layer.new else "cached",
        }
        for image in built.images
        for layer in image.layers
    ]


def moved_layers(store: Store, root: Descriptor, report: CopyReport) -> list[dict[str, Any]]:
    """The layers of the image ``root``, which ``store`` has, as JSON: those that a copy moved, and those that it found.

    A layer that images of several platforms share is listed once.
    """
    layers = {layer.digest: layer for _, manifest in images(store, root) for layer in manifest.layers}
    return [
        {
            "digest": str(layer.digest),
            "kind": layer.kind,
            "title": layer.annotations.get(mediatypes.LAYER_TITLE, ""),
            "size": layer.size,
            "moved": layer.digest in report.blobs,
        }
        for layer in layers.values()
    ]


def moved_rows(store: Store, root: Descriptor, report: CopyReport) -> list[dict[str, object]]:
    """The same as rows of a table."""
    layers = {layer.digest: layer for _, manifest in images(store, root) for layer in manifest.layers}
    return [
        {
            CUT: title_of(layer),
            "size": human(layer.size),
            "state": "moved" if layer.digest in report.blobs else "present",
        }
        for layer in layers.values()
    ]


def moved_words(report: CopyReport) -> str:
    """How much a copy moved."""
    return f"{human(report.moved_bytes)} moved, {human(report.present_bytes)} already there"
