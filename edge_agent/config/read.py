"""Read the file of a configuration: every violation at once, with its field and its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_agent.config.configuration import STATE_DIR, Configuration
from edge_agent.config.document import from_json
from edge_agent.config.place import default_file, usual_file
from edge_agent.config.rules import PATHS, Rules, whole, without_secrets
from edgepack.errors import NotFoundError, UsageError
from edgepack.trees.json_lines import parse_json
from edgepack.trees.text_file import raise_some, read_text
from edgepack.trees.yaml_tree import Node, json_tree, parse_yaml, value_of

_PARSERS = {".json": parse_json, ".yml": parse_yaml, ".yaml": parse_yaml}
_WAY_OUT = "docs/reference/edge-agent.md has every field"


def read_configuration(path: Path) -> Configuration:
    """The configuration in ``path``; relative paths in it count from its folder.

    Raises ``InvalidDocumentError`` with every violation, ``UsageError``, and ``NotFoundError`` without the file.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if not path.exists():
        raise NotFoundError("there is no such configuration", where=path, hint="write one with: edge-agent init")
    if parse is None:
        raise UsageError("is neither JSON nor YAML by its name", where=path, hint="let it end in .json, .yml or .yaml")
    return _read(parse(read_text(path, "configuration"), path), path)


def check_text(text: str, path: Path) -> None:
    """Raise ``InvalidDocumentError`` unless ``text``, which is YAML, may be written to ``path`` as a configuration.

    Its lines are not named: whoever gave what is in it has not seen them.
    """
    where = "the configuration"
    plain = json_tree(value_of(parse_yaml(text, where)), where)
    raise_some(where, Rules(plain, path.absolute().parent).violations(), hint="nothing was written")


def _read(tree: Node, path: Path) -> Configuration:
    folder = path.absolute().parent
    raise_some(path, Rules(tree, folder).violations(), hint=_WAY_OUT)
    plain, _ = without_secrets(tree)
    return from_json(_whole_paths(value_of(plain) or {}, folder), path)


def find_configuration(file: Path | None, state_dir: Path | None = None, runtime: str | None = None) -> Configuration:
    """The configuration in ``file``, else that of the device in ``state_dir``, else the defaults.

    A ``state_dir`` and a ``runtime`` that are given go before what the file says; None is not given. Raises as
    ``read_configuration`` does.
    """
    from dataclasses import replace

    known = default_file(state_dir or STATE_DIR)
    is_known = file is not None or known.exists() or known != usual_file(state_dir or STATE_DIR)
    found = read_configuration(file or known) if is_known else Configuration()
    if state_dir is not None:
        found = replace(found, state_dir=state_dir.absolute())
    return replace(found, runtime=runtime) if runtime is not None else found  # type: ignore[arg-type]


def _whole_paths(value: Any, folder: Path, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _whole_paths(item, folder, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole_paths(item, folder, "folder" if key == "inbox" else "") for item in value]
    return str(whole(folder, value)) if key in PATHS and isinstance(value, str) else value
