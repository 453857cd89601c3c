"""The image of a model alone, with the model at ``/models``, as KServe takes models from registries.

For the scheme ``oci://`` KServe starts it with ``sh -c "ln -sf … && sleep infinity"``, within 15 MiB of memory. So it
stands on the base of the package, whose layers a node has already, and brings the programs that that lacks. The other
two schemes never start it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edgepack.errors import IncompatibleError
from edgepack.host.progress import Progress, unseen
from edgepack.host.scratch import scratch_folder
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.config import History
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.layer import Layer, LayerEntry
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.store import Store
from packager.images.inspect import ImageView, views
from packager.layers.compressors import write_best_layer
from packager.layers.paths import model_dir
from packager.models.unpack import unpack_layers

FOLDER = "models"
# A shell cannot make links. The interpreter starts without site-packages and the user's settings.
_LINK = """#!{python} -IS
import os, sys
source, target = [word for word in sys.argv[1:] if not word.startswith("-")]
if os.path.lexists(target):
    os.unlink(target)
os.symlink(source, target)
"""
_MKDIR = """#!{python} -IS
import os, sys
for word in sys.argv[1:]:
    if not word.startswith("-"):
        os.makedirs(word, exist_ok=True)
"""
_LIST = """#!/bin/sh
for last; do :; done
for one in "$last"/*; do [ -e "$one" ] && echo "${{one##*/}}"; done
:
"""
# Stopped, it takes neither memory nor time.
_SLEEP = "#!/bin/sh\nkill -STOP $$\n"
_TITLE = "programs"
_PROGRAMS = {"ln": _LINK, "ls": _LIST, "mkdir": _MKDIR, "sleep": _SLEEP}


def modelcar_tag(package: str) -> str:
    """What the image is called beside ``package``: ``churn:1`` has ``churn-modelcar:1``."""
    name, _, version = package.rpartition(":")
    return f"{name}-modelcar:{version}"


def write_modelcar(store: Store, root: Descriptor, model: str, package: str, progress: Progress = unseen) -> Descriptor:
    """Make the image of ``model``, which the package at ``root`` serves, for each of its platforms, and tag it.

    The same package gives the same digest. Raises ``IncompatibleError`` for a package whose model is not in it.
    """
    found = []
    for image in views(store, root):
        layer = _model_layer(store, image, model, package, progress)
        found.append(replace(_image(store, image, layer), platform=image.platform))
    made = found[0] if len(found) == 1 else store.put_bytes(Index(tuple(found)).to_bytes(), mediatypes.INDEX)
    store.tag(modelcar_tag(package), made)
    return made


def _image(store: Store, image: ImageView, model: Layer) -> Descriptor:
    """The base of ``image``, with the two programs and the model."""
    base = [layer for layer in image.manifest.layers if layer.kind == "base"]
    programs = [
        LayerEntry.of_bytes(f"usr/bin/{name}", text.format(python=image.config.entrypoint[0]).encode(), 0o755)
        for name, text in _PROGRAMS.items()
    ]
    tools = write_best_layer(programs, store, kind="config", title=_TITLE)
    own = (tools, model)
    config = replace(
        image.config,
        diff_ids=(*image.config.diff_ids[: len(base)], *(layer.diff_id for layer in own)),
        history=(
            *(History("base", created=image.config.created) for _ in base),
            *(History(f"edgepack: {title}", created=image.config.created) for title in (_TITLE, "model")),
        ),
        entrypoint=(),
        cmd=("sh", "-c", "sleep infinity"),
        exposed_ports=(),
        env={name: value for name, value in image.config.env.items() if name in ("PATH", "LANG")},
    )
    described = store.put_bytes(config.to_bytes(), mediatypes.CONFIG)
    manifest = Manifest(described, (*base, *(layer.descriptor for layer in own)))
    return store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST)


def _model_layer(store: Store, image: ImageView, model: str, package: str, progress: Progress) -> Layer:
    name, _, version = model.rpartition(":")
    pairs = zip(image.manifest.layers, image.config.diff_ids, strict=True)
    layers = [
        Layer(one, diff_id, LIMITS.layer_unpacked_bytes)
        for one, diff_id in pairs
        if one.kind == "model" and one.annotations.get(mediatypes.LAYER_TITLE) == model
    ]
    if not layers:
        raise IncompatibleError(
            f"has no layer of the model {model!r}", where=package, hint="build it again with: edgepack package build"
        )
    with scratch_folder("modelcar") as scratch:
        target = scratch / "model"
        unpack_layers(store, layers, target)
        entries = [*_entries(target / model_dir(name, int(version)))]
        return write_best_layer(entries, store, kind="model", title=model, progress=progress)


def _entries(folder: Path) -> Iterator[LayerEntry]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield LayerEntry.of_file(f"{FOLDER}/{path.relative_to(folder).as_posix()}", path)
