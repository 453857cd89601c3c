"""The objects in the files of a check: what each is called, and where its pod is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import InvalidDocumentError, NotFoundError, UsageError
from edgepack.trees.text_file import read_text
from edgepack.trees.yaml_tree import Node, parse_yaml, parse_yaml_stream
from packager.exports.check.findings import Place

# Where the template of the pods is, by kind.
_TEMPLATES = {
    "Deployment": ("spec", "template"), "ReplicaSet": ("spec", "template"), "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"), "Job": ("spec", "template"), "ReplicationController": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"), "PodTemplate": ("template",), "Pod": (),
}  # fmt: skip
# With a selector that has to find the template.
SELECTING = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet")
_ENDINGS = (".yaml", ".yml", ".json")
_NOT_OBJECTS = ("kustomization.yaml", "kustomization.yml")


@dataclass(frozen=True)
class Manifest:
    """One object of a ``file``."""

    file: str
    root: Place
    api: str
    kind: str
    name: str
    namespace: str

    @property
    def pods(self) -> Place | None:
        """What is a pod in it: its metadata and its spec; ``None`` for kinds without one."""
        names = _TEMPLATES.get(self.kind)
        return None if names is None else self.root.child(*names)

    @property
    def pod_labels(self) -> dict[str, str]:
        """The labels of its pods."""
        pods = self.pods
        return {} if pods is None else pods.mapping("metadata", "labels")

    @property
    def containers(self) -> Iterator[Place]:
        """The containers of its pods, those that run before them too."""
        pods = self.pods
        if pods is not None:
            yield from pods.each("spec", "initContainers")
            yield from pods.each("spec", "containers")


def read_objects(paths: Sequence[Path]) -> tuple[Manifest, ...]:
    """The objects in the files, and in the files of folders; raises ``NotFoundError``, ``InvalidDocumentError``."""
    found: list[Manifest] = []
    for path in paths:
        files = sorted(one for one in path.iterdir() if one.suffix in _ENDINGS) if path.is_dir() else [path]
        if path.is_dir() and not files:
            raise NotFoundError("holds no YAML or JSON file", where=path, hint="give a file, or its folder")
        for file in files:
            if path.is_dir() and file.name in _NOT_OBJECTS:
                continue
            found += objects_in(read_text(file, "manifest"), str(file))
    return tuple(found)


def read_document(path: Path) -> Node:
    """The one document in a file; raises ``NotFoundError``, ``UsageError`` and ``InvalidDocumentError``."""
    if path.is_dir():
        raise UsageError("is a folder", where=path, hint="give the file in it")
    return parse_yaml(read_text(path, "manifest"), path)


def objects_in(text: str, where: str) -> list[Manifest]:
    """The objects in ``text``; the items of a ``List`` are objects too."""
    found: list[Manifest] = []
    for node in parse_yaml_stream(text, where):
        if node.kind == "null":  # an empty document, which templates leave
            continue
        if node.kind != "map":
            raise InvalidDocumentError(where, [node.at(f"the document must be a mapping, is {node.word}")])
        items = node.fields.get("items")
        if _text(node, "kind").endswith("List") and items is not None:
            found += [_object(item, where) for item in items.items if item.kind == "map"]
        else:
            found.append(_object(node, where))
    if not found:
        raise InvalidDocumentError(where, ["holds no object"])
    return found


def _object(node: Node, where: str) -> Manifest:
    kind, api = _text(node, "kind"), _text(node, "apiVersion")
    meta = node.fields.get("metadata")
    name = "" if meta is None else _text(meta, "name")
    namespace = "" if meta is None else _text(meta, "namespace")
    head = f"{where}: {f'{kind} {name}'.strip() or 'an object'}"
    return Manifest(where, Place(node, "", head), api, kind, name, namespace)


def _text(node: Node, name: str) -> str:
    found = node.fields.get(name)
    return found.text if found is not None and found.is_text else ""
