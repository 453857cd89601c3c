"""Files that are not what they claim to be: each is refused or taken, and no check fails by itself."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgepack.errors import EdgepackError, InvalidDocumentError, NotFoundError
from edgepack.trees.yaml_tree import parse_yaml
from packager.exports.check.compose import check_compose
from packager.exports.check.iot_edge import check_iot_edge
from packager.exports.check.objects import objects_in, read_objects
from packager.exports.check.podman import check_podman
from packager.exports.compose import export_compose
from packager.exports.iot_edge import Edge, export_iot_edge
from packager.exports.kubernetes import Cluster, objects
from tests.packager.support.workloads import everything
from tests.support.sampling import times

ODD: tuple[Any, ...] = (
    None, 0, -1, 1e300, "", "x", "9" * 5000, 10**4000, [], {}, [[]], [None], {"a": None}, {"a": {"b": []}}, True,
    [{"name": 5}], {"name": []}, "1e999999999", "1E400", ".", "+",
)  # fmt: skip
KUBERNETES = [*objects(everything(), Cluster("ml")).values()]
IOT_EDGE = json.loads(export_iot_edge(everything(), Edge("camera", to_cloud=True)).files["deployment.json"])
COMPOSE = yaml.safe_load(export_compose(everything(), pulls=True).files["compose.yaml"])
KINDS: dict[str, tuple[Any, Callable[[str], object]]] = {
    "kubernetes": (KUBERNETES, lambda text: check_podman(objects_in(text, "x"))),
    "iot-edge": ({"all": IOT_EDGE}, lambda text: check_iot_edge(parse_yaml(text, "x").fields["all"], "x")),
    "compose": ({"all": COMPOSE}, lambda text: check_compose(parse_yaml(text, "x").fields["all"], "x")),
}


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for name in value if isinstance(value, dict) else range(len(value)):
            yield from paths(value[name], (*path, name))


@pytest.mark.parametrize("kind", KINDS)
def test_no_check_fails_by_itself(kind: str) -> None:
    draw = random.Random(16)  # noqa: S311 - no secret
    document, check = KINDS[kind]
    places = [path for path in paths(document) if len(path) > (0 if kind == "kubernetes" else 1)]
    for _ in range(times(2000, 60)):
        odd: Any = copy.deepcopy(document)
        *above, last = draw.choice(places)
        inner = odd
        for name in above:
            inner = inner[name]
        inner[last] = draw.choice(ODD)
        text = yaml.safe_dump_all(odd) if kind == "kubernetes" else json.dumps(odd)
        with suppress(EdgepackError):
            check(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no object"),
        ("- a\n", "the document must be a mapping, is a list"),
        ("{{ .Values.name }}: x\n  y", "the name of a field is a mapping"),
        ("kind: {{ .Values.kind }\n", "is not YAML"),
        ("a: 1\na: 2\n", "'a' is listed twice"),
    ],
)
def test_what_is_not_a_manifest_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InvalidDocumentError, match=said):
        read_objects([tmp_path / "a.yaml"])


def test_a_file_or_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no such manifest"):
        read_objects([tmp_path / "a.yaml"])
    with pytest.raises(NotFoundError, match="holds no YAML or JSON file"):
        read_objects([tmp_path])
