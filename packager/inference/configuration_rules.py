"""The rules of an inference configuration, whoever writes it: a file of Azure's form, or ``InferenceConfig`` in Python.

A configuration is held to ``inferenceconfig.schema.json`` by ``schema.py``; here is what the schema cannot say, or not
in words that help. A test holds the schema and these rules to each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from edgepack.errors import EdgepackError
from edgepack.trees.schema import Schema, SchemaCheck
from edgepack.trees.yaml_tree import NULL, Node, is_true
from packager.environments.environment import image_problem, registry_conflict, registry_problem
from packager.inference.entry_script import check_script_name

SCHEMA_FILE = Path(__file__).with_name("inferenceconfig.schema.json")
STEPS = ("extraDockerfileSteps", "extraDockerFileSteps")
# What describes an environment without one.
LEGACY = ("runtime", "condaFile", *STEPS, "enableGpu", "cudaVersion", "baseImage", "baseImageRegistry")
LOGIN = ("address", "username", "password")


@cache
def schema() -> Schema:
    """The JSON Schema of an inference configuration."""
    found: Schema = json.loads(SCHEMA_FILE.read_text("utf-8"))
    return found


@dataclass(frozen=True)
class Rules:
    """Holds ``tree`` to the schema and the rules; ``spelled`` turns the path of a field into how its writer spells it.

    ``has_environment`` says that one is given beside the tree. ``beside`` is the folder of the file, for a hint: paths
    count from the current folder, as Azure's do.
    """

    tree: Node
    spelled: Callable[[str], str] = str
    has_environment: bool = False
    beside: Path | None = None

    def violations(self) -> list[str]:
        """Everything that is wrong; the files that are named are looked for and not read."""
        found = SchemaCheck(schema(), self.spelled).violations(self.tree)
        if self.tree.kind != "map":
            return found
        for rule in (self._folder, self._script, self._exclusive, self._runtime, self._files, self._image, self._gpu):
            found += rule()
        return found

    def holds(self, key: str) -> bool:
        """Whether the field ``key`` by itself is as the schema has it."""
        node, known = self.tree.fields.get(key), schema()["properties"][key]
        return node is None or not SchemaCheck(schema()).violations(node, known)

    def node(self, path: str) -> Node | None:
        """The node at a dotted ``path``, None without one."""
        node: Node | None = self.tree
        for part in path.split("."):
            node = None if node is None else node.fields.get(part)
        return node

    def text(self, key: str) -> str | None:
        """The text in the field ``key``, None without one."""
        node = self.tree.fields.get(key, NULL)
        return node.text if node.kind == "text" and "\0" not in node.text else None

    def is_true(self, key: str) -> bool:
        """Whether the field ``key`` says so."""
        return is_true(self.tree.fields.get(key, NULL))

    def folder(self) -> Path | None:
        """The source directory, None where the script is shipped alone."""
        said = self.text("sourceDirectory")
        return Path(said).expanduser() if said else None

    def file(self, key: str) -> Path | None:
        """The path in the field ``key``, which is relative to the source directory where there is one."""
        said = self.text(key)
        return (self.folder() or Path()) / Path(said).expanduser() if said else None

    def _wrong(self, path: str, text: str) -> str:
        said = f"{self.spelled(path)}{'' if text[0] in ' :' else ' '}{text}"
        return (self.node(path) or self.node(path.rpartition(".")[0]) or self.tree).at(said)

    def _hint(self, path: Path) -> str:
        """Where a file is that is not here."""
        if self.beside is None or path.is_absolute() or not (self.beside / path).exists():
            return ""
        return f"; paths count from the current folder, and it is in {self.beside}: run the command there"

    def _folder(self) -> Iterator[str]:
        folder = self.folder()
        if folder is not None and not folder.is_dir():
            yield self._wrong("sourceDirectory", f"{str(folder)!r} is not a folder{self._hint(folder)}")

    def _script(self) -> Iterator[str]:
        said, folder = self.text("entryScript"), self.folder()
        if said is None:
            return
        try:
            check_script_name(said)
        except EdgepackError as error:
            yield self._wrong("entryScript", f": {error}")
            return
        inner = PurePosixPath(said)
        if folder is not None and (inner.is_absolute() or ".." in inner.parts):
            named = self.spelled("sourceDirectory")
            yield self._wrong("entryScript", f"{said!r} must be inside of {named}, given relative to it")
            return
        path = Path(said).expanduser() if folder is None else folder / inner
        if (folder is None or folder.is_dir()) and not path.is_file():
            yield self._wrong("entryScript", f"{str(path)!r} is not a file{self._hint(path)}")

    def _exclusive(self) -> Iterator[str]:
        given = [self.spelled(key) for key in LEGACY if self._is_given(key)]
        if given and (self.has_environment or self._is_given("environment")):
            verb = "is" if len(given) == 1 else "are"
            yield f"{', '.join(given)} {verb} given beside an environment, which has its own; leave out one of the two"
        if all(map(self._is_given, STEPS)):
            yield f"{' and '.join(map(self.spelled, STEPS))} are one field in two spellings; keep one"

    def _is_given(self, key: str) -> bool:
        node = self.tree.fields.get(key, NULL)
        if key == "baseImageRegistry" and node.kind == "map":
            return any(registry_field(node, each) for each in LOGIN)
        return node.kind != "null" and (key != "enableGpu" or node.kind != "truth" or is_true(node))

    def _runtime(self) -> Iterator[str]:
        said = self.text("runtime")
        if said is not None and said.lower() == "spark-py":
            yield self._wrong("runtime", "'spark-py' needs Spark, which exists only in Azure; use 'python'")
        elif said is not None and said.lower() != "python":
            yield self._wrong("runtime", f"must be 'python', is {said[:80]!r}")

    def _files(self) -> Iterator[str]:
        below = "here" if self.folder() is None else f"below {self.spelled('sourceDirectory')}"
        for key in ("condaFile", *STEPS):
            path = self.file(key)
            if path is not None and not path.is_file():
                yield self._wrong(key, f"{str(self.text(key))!r} is not a file {below}{self._hint(path)}")

    def _image(self) -> Iterator[str]:
        image = self.text("baseImage")
        if image is not None and not image.strip():
            yield self._wrong("baseImage", "must be an image, such as registry.example/team/base:1")
        elif image is not None and (problem := image_problem(image)) is not None:
            yield self._wrong("baseImage", problem)
        yield from self._login("baseImageRegistry")
        yield from self._login("environment.docker.baseImageRegistry")
        address = registry_field(self.tree.fields.get("baseImageRegistry", NULL), "address")
        if image and address and (problem := registry_conflict(image, address)) is not None:
            yield self._wrong("baseImage", problem)
        if self._is_given("baseImageRegistry") and not self._is_given("baseImage"):
            yield self._wrong("baseImageRegistry", f"is given without {self.spelled('baseImage')}")

    def _login(self, path: str) -> Iterator[str]:
        node = self.node(path) or NULL
        address = registry_field(node, "address")
        if address and (problem := registry_problem(address)) is not None:
            yield self._wrong(f"{path}.address" if node.kind == "map" else path, problem)
        missing = [key for key in LOGIN if not registry_field(node, key)]
        if node.kind == "map" and 0 < len(missing) < len(LOGIN):
            yield self._wrong(path, f"needs address, username and password, or none of them; {missing[0]} is missing")

    def _gpu(self) -> Iterator[str]:
        if self.is_true("enableGpu") and not self._is_given("baseImage") and not self._is_given("environment"):
            needs = f"needs a {self.spelled('baseImage')} that has what a GPU needs"
            why = "edgepack's own bases are for the CPU; give one, or leave it out"
            yield self._wrong("enableGpu", f"{needs}: {why}")


def registry_field(node: Node, key: str) -> str | None:
    """The field ``key`` of a registry, which may be given as its address alone."""
    if node.kind == "text":
        return node.text if key == "address" else None
    found = node.fields.get(key, NULL)
    return found.text if found.kind == "text" else None
