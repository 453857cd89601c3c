"""The generated reference pages are what the code says now."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from packager.bases.debian.recipe import load_recipe, recipes
from packager.wheels.trim import RULES

ROOT = Path(__file__).resolve().parent.parent.parent
REFERENCE = ROOT / "docs" / "reference"
SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "scripts/reference.py"))


@pytest.mark.parametrize("name", sorted(SCRIPT["PAGES"]))
def test_the_page_is_what_the_code_says(name: str) -> None:
    drifted = f"docs/reference/{name} has drifted: run python scripts/reference.py"
    assert (REFERENCE / name).read_text("utf-8") == SCRIPT["PAGES"][name](), drifted


def test_every_rule_is_on_the_page_with_its_reason() -> None:
    whole = (REFERENCE / "rules.md").read_text("utf-8")
    sections = {part.partition("\n")[0]: part for part in re.split(r"(?m)^## ", whole)}
    rules = [(whole.partition("\n## Base")[0], rule.name, rule.reason) for rule in RULES]
    for name in recipes():
        rules += [(sections[f"Base `{name}`"], rule.name, rule.reason) for rule in load_recipe(name).rules]
    for text, name, reason in rules:
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
        assert line.endswith(f"| {reason} |")


def test_every_field_of_the_manifest_is_on_the_page_with_what_it_says() -> None:
    schema = json.loads((ROOT / "converters" / "package" / "model.manifest.schema.json").read_text("utf-8"))
    lines = (REFERENCE / "manifest.md").read_text("utf-8").splitlines()

    def check(fields: dict[str, Any], prefix: str) -> None:
        for name, field in fields.items():
            (line,) = [line for line in lines if line.startswith(f"| `{prefix}{name}` |")]
            assert not line.endswith("|  |"), f"{prefix}{name} has no description"
            check(field.get("properties", {}), f"{prefix}{name}.")
            check(field.get("items", {}).get("properties", {}), f"{prefix}{name}[].")

    check(schema["properties"], "")


def test_every_field_of_an_inference_configuration_is_on_its_page() -> None:
    schema = json.loads((REFERENCE / "inferenceconfig.schema.json").read_text("utf-8"))
    lines = (REFERENCE / "inferenceconfig.md").read_text("utf-8").splitlines()
    inner = ("environment.", "environment.python.", "environment.docker.", "baseImageRegistry.", "")
    assert len({line for line in lines if line.startswith("| `")}) > 40
    for name in [*schema["properties"], *(f"{prefix}{name}" for prefix, name in zip(inner, ("name", "condaDependencies",
                 "baseImage", "address", "runtime"), strict=True))]:  # fmt: skip
        (line,) = [line for line in lines if line.startswith(f"| `{name}` |")]
        assert not line.endswith("|  |"), f"{name} has no description"


def test_every_field_of_a_deployment_configuration_is_on_its_page() -> None:
    schema = json.loads((REFERENCE / "deploymentconfig.schema.json").read_text("utf-8"))
    lines = (REFERENCE / "deploymentconfig.md").read_text("utf-8").splitlines()
    inner = [f"{name}.{below}" for name, field in schema["properties"].items() for below in field.get("properties", ())]
    for name in [*schema["properties"], *inner]:
        (line,) = [line for line in lines if line.startswith(f"| `{name}` |")]
        assert not line.endswith("|  |"), f"{name} has no description"


def test_a_table_has_as_many_cells_in_every_line() -> None:
    blocks = (REFERENCE / "rules.md").read_text("utf-8").split("\n\n")
    tables = [block.splitlines() for block in blocks if block.startswith("| ")]
    assert len(tables) == 2 + len(recipes())  # wheels, and what users give
    for table in tables:
        assert len({line.count("|") for line in table}) == 1


def test_the_readme_leads_to_every_generated_page() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in SCRIPT["PAGES"]:
        assert f"(docs/reference/{name})" in readme
