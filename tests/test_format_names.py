"""The names of formats are in documents, images and devices that exist: no rename of a module may change them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("edgepack", "converters", "packager", "edge_server", "edge_agent")
NAME = re.compile(r"(?:application/vnd\.)?edgepack\.[a-z.-]+(?:/|\.)v\d+(?:\+(?:json|zip))?|io\.edgepack\.[a-z.-]+")
# To parse all modules takes seconds.
IN_A_TEXT = re.compile(r"""["'][^"'\n]*\bedgepack\.""")
NAMES = {
    "application/vnd.edgepack.agent.v1+zip",
    "application/vnd.edgepack.bundle.v1+json",
    "application/vnd.edgepack.command.v1+json",
    "application/vnd.edgepack.desired.v1+json",
    "application/vnd.edgepack.identity.v1+json",
    "application/vnd.edgepack.lock.v1",
    "application/vnd.edgepack.receipt.v1+json",
    "application/vnd.edgepack.statement.v1+json",
    "edgepack.agent/v1",
    "edgepack.answer/v1",
    "edgepack.base-lock/v1",
    "edgepack.base-recipe/v1",
    "edgepack.bundle/v1",
    "edgepack.command/v1",
    "edgepack.delta/v1",
    "edgepack.desired/v1",
    "edgepack.environment/v1",
    "edgepack.identity/v1",
    "edgepack.keys/v1",
    "edgepack.model-package/v1",
    "edgepack.model/v1",
    "edgepack.parity/v1",
    "edgepack.receipt/v1",
    "edgepack.reported/v1",
    "edgepack.status/v1",
    "edgepack.refusal/v1",
    "edgepack.run/v1",
    "edgepack.service-credentials/v1",
    "edgepack.service/v1",
    "edgepack.tokens/v1",
    "edgepack.workspace/v1",
    "io.edgepack.agent.version",
    "io.edgepack.attachment.kind",
    "io.edgepack.base",
    "io.edgepack.device",
    "io.edgepack.image",
    "io.edgepack.instance",
    "io.edgepack.layer.compressor",
    "io.edgepack.layer.kind",
    "io.edgepack.layer.unpacked-size",
    "io.edgepack.models",
    "io.edgepack.port",
    "io.edgepack.python",
    "io.edgepack.router",
    "io.edgepack.spec",
    "edgepack.wanted/v1",
}


def test_the_names_of_formats_are_these() -> None:
    found = {
        node.value
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if IN_A_TEXT.search(text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value)
    }
    assert found == NAMES


def test_pages_name_no_other_format() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.*")]
    named = {name for page in pages for name in re.findall(r"\bedgepack\.[a-z.-]+/v\d+", page.read_text())}
    assert named - NAMES == set()
