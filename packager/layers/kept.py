"""Layers of files that are the same in every image: made once, then found by what is in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from edgepack.errors import EdgepackError
from edgepack.host.files import atomic_write, make_dirs
from edgepack.host.progress import Progress, unseen
from edgepack.limits import LIMITS
from edgepack.oci.layer import Layer, LayerEntry
from edgepack.oci.store import Store
from packager.layers.compressors import compressor_name, write_best_layer


def kept_layer(
    entries: Sequence[LayerEntry], store: Store, notes: Path, *, kind: str, title: str, progress: Progress = unseen
) -> Layer:
    """As ``write_best_layer``; a layer of the same files that ``store`` still has is not made again.

    What was made is noted in the folder ``notes``.
    """
    note = notes / f"{_key(entries, kind, title)}.json"
    try:
        layer = Layer.from_json(json.loads(note.read_bytes()))
    except (FileNotFoundError, ValueError, KeyError, TypeError, EdgepackError):
        pass  # never made, or not readable: made again
    else:
        if store.has(layer.descriptor):
            return layer
    layer = write_best_layer(entries, store, kind=kind, title=title, progress=progress)
    make_dirs(notes)
    atomic_write(note, json.dumps(layer.to_json(), sort_keys=True).encode())
    return layer


def _key(entries: Sequence[LayerEntry], kind: str, title: str) -> str:
    """A hash over all that decides the layer, the bytes of its files included."""
    key = hashlib.sha256(json.dumps([compressor_name(), kind, title]).encode())
    for entry in sorted(entries, key=lambda entry: entry.path):
        key.update(json.dumps([entry.path, entry.kind, entry.mode, entry.size, entry.linkname]).encode())
        if entry.content is not None:
            with entry.content() as file:
                while chunk := file.read(LIMITS.chunk_bytes):
                    key.update(chunk)
    return key.hexdigest()
