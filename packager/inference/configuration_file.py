"""``inferenceconfig.json`` and ``.yml``: an inference configuration in a file, by the rules of Azure's form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgepack.errors import NotFoundError, UsageError
from edgepack.trees.json_lines import parse_json
from edgepack.trees.text_file import read_text
from edgepack.trees.yaml_tree import parse_yaml
from packager.inference.configuration import InferenceConfiguration
from packager.inference.configuration_rules import Rules
from packager.inference.configuration_tree import Find, configuration_of

_PARSERS = {".json": parse_json, ".yml": parse_yaml, ".yaml": parse_yaml}


def read_configuration(path: Path, find: Find) -> InferenceConfiguration:
    """The configuration in ``path``; ``find`` gives a registered environment.

    Paths in it count from the current folder, as Azure's do, and those of files from the source directory where there
    is one. Raises ``InvalidDocumentError`` with every violation, ``UsageError``, ``NotFoundError`` without the file.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        if not path.exists():
            raise NotFoundError("there is no such inference configuration", where=path, hint="check its path")
        raise UsageError("is neither JSON nor YAML by its name", where=path, hint="let it end in .json, .yml or .yaml")
    tree = parse(read_text(path, "inference configuration"), path)
    rules = Rules(tree, beside=path.parent)
    return replace(configuration_of(rules, path, find=find), file=path)
