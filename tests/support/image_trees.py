"""The tree of files that an image is, read from its layers by the standard library alone."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True)
class Node:
    """A file, folder or link with everything that a container sees of it; ``content`` is a hash, or a link's target."""

    kind: str
    mode: int
    uid: int
    gid: int
    content: str
    mtime: int


def tree_of(layers: Iterable[bytes]) -> dict[str, Node]:
    """The nodes by path after all ``layers``, plain or compressed tars, the lowest first."""
    tree: dict[str, Node] = {}
    for data in layers:
        with tarfile.open(fileobj=io.BytesIO(data)) as layer:
            tree = _above(tree, layer)
    return tree


def _above(tree: dict[str, Node], layer: tarfile.TarFile) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for member in layer:
        path = member.name.removeprefix("./").strip("/")
        above, _, name = path.rpartition("/")
        if name == OPAQUE:
            tree = {one: node for one, node in tree.items() if not one.startswith(f"{above}/")}
        elif name.startswith(WHITEOUT):
            gone = f"{above}/{name.removeprefix(WHITEOUT)}".lstrip("/")
            tree = {one: node for one, node in tree.items() if one != gone and not one.startswith(f"{gone}/")}
        elif path:
            found[path] = _node(layer, member, found)
    return tree | found


def _node(layer: tarfile.TarFile, member: tarfile.TarInfo, found: dict[str, Node]) -> Node:
    if member.islnk():
        return found[member.linkname.removeprefix("./").strip("/")]
    kind = "file" if member.isreg() else "dir" if member.isdir() else "symlink" if member.issym() else "special"
    content = member.linkname
    if member.isreg():
        file = layer.extractfile(member)
        assert file is not None
        content = hashlib.sha256(file.read()).hexdigest()
    return Node(kind, member.mode & 0o7777, member.uid, member.gid, content, int(member.mtime))


def of_archive(path: Path) -> tuple[dict[str, Node], dict[str, object]]:
    """The tree and the configuration of the one image that ``docker save`` or ``podman save`` wrote to ``path``."""
    with tarfile.open(path) as archive:

        def read(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file is not None
            return file.read()

        (image,) = json.loads(read("manifest.json"))
        return tree_of(map(read, image["Layers"])), json.loads(read(image["Config"]))


def of_store(blobs: Path, digest: str) -> tuple[dict[str, Node], dict[str, object]]:
    """The tree and the configuration of the image whose manifest has ``digest``, from the files below ``blobs``."""

    def read(one: str) -> bytes:
        return (blobs / one.removeprefix("sha256:")).read_bytes()

    manifest = json.loads(read(digest))
    tree = tree_of(read(layer["digest"]) for layer in manifest["layers"])
    return tree, json.loads(read(manifest["config"]["digest"]))
