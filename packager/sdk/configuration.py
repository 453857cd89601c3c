"""``config.json`` as Azure's SDK writes it, and with what is ours in it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

from edgepack.documents import parse_foreign
from edgepack.errors import InvalidDocumentError, NotFoundError
from edgepack.nearness import nearest

_FOLDERS = (".azureml", "aml_config", ".")
_NAMES = ("config.json", "project.json")


@dataclass(frozen=True)
class Configuration:
    """The keys of the file; ours are ``store`` (a folder), and a team's ``database`` and ``registry``."""

    subscription_id: str | None = None
    resource_group: str | None = None
    workspace_name: str | None = None
    store: str | None = None
    database: str | None = None
    registry: str | None = None
    plain_http: bool = False


def find(path: Path | None, file_name: str | None = None) -> Path:
    """The file that ``path`` means: itself, or the first one in the folder or a folder above it, as Azure searches.

    Raises ``NotFoundError`` that says where it looked.
    """
    start = (path or Path()).absolute()
    if start.is_file():
        return start
    names = (file_name,) if file_name else _NAMES
    folders = [start, *start.parents] if start.is_dir() else []
    for folder in folders:
        for below in _FOLDERS:
            for name in names:
                if (folder / below / name).is_file():
                    return folder / below / name
    if not folders:
        raise NotFoundError("there is no such file or folder", where=start, hint="check the path of the configuration")
    raise NotFoundError(
        f"holds no {' or '.join(names)}, nor do .azureml and aml_config there, nor the folders above", where=start,
        hint="write one with ws.write_config(), or use Workspace(path=FOLDER)",
    )  # fmt: skip


def read(path: Path) -> Configuration:
    """What the file says; raises ``InvalidDocumentError`` for fields that are not known or not text."""
    value = parse_foreign(path.read_bytes(), path)
    scope = value.pop("Scope", None)
    if isinstance(scope, str):
        parts = scope.strip("/").split("/")
        pairs = dict(zip(parts[::2], parts[1::2], strict=False))
        value.setdefault("subscription_id", pairs.get("subscriptions"))
        value.setdefault("resource_group", pairs.get("resourceGroups"))
        value.setdefault("workspace_name", pairs.get("workspaces"))
    known = {field.name for field in fields(Configuration)}
    violations = []
    for key, item in value.items():
        if key not in known:
            near = nearest(key, list(known))
            violations.append(f"{key} is not a known field" + ("" if near is None else f"; did you mean {near!r}?"))
        elif item is not None and not isinstance(item, bool if key == "plain_http" else str):
            violations.append(f"{key} must be {'true or false' if key == 'plain_http' else 'text'}")
    found = Configuration(**{key: item for key, item in value.items() if key in known}) if not violations else None
    if found is not None and (found.database is None) != (found.registry is None):
        violations.append("a team's workspace needs database and registry")
    if found is not None and not any((found.workspace_name, found.store, found.database)):
        violations.append("names no workspace: give workspace_name, store, or database and registry")
    if violations or found is None:
        raise InvalidDocumentError(path, violations)
    return found


def write(configuration: Configuration, path: Path) -> None:
    """Write the file with the keys that are set."""
    value = {key: item for key, item in vars(configuration).items() if item}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4) + "\n", encoding="utf-8")
