"""``deploymentconfig.json`` and ``.yml``: a deployment configuration in a file, by the rules of Azure's form."""

from __future__ import annotations

from pathlib import Path

from edgepack.errors import NotFoundError, UsageError
from edgepack.trees.json_lines import parse_json
from edgepack.trees.text_file import read_text
from edgepack.trees.yaml_tree import parse_yaml
from packager.services.configuration.rules import Configuration, Rules

_PARSERS = {".json": parse_json, ".yml": parse_yaml, ".yaml": parse_yaml}


def read_deployment(path: Path) -> Configuration:
    """The configuration in ``path``; paths in it count from the current folder, as Azure's do.

    Raises ``InvalidDocumentError`` with every violation, ``UsageError``, ``NotFoundError`` without the file.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        if not path.exists():
            raise NotFoundError("there is no such deployment configuration", where=path, hint="check its path")
        raise UsageError("is neither JSON nor YAML by its name", where=path, hint="let it end in .json, .yml or .yaml")
    return Rules(parse(read_text(path, "deployment configuration"), path)).configuration(path)
