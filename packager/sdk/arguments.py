"""Arguments as scripts give them: text, paths, numbers in tags, and names that are not known."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepack.errors import UsageError
from edgepack.nearness import nearest
from packager.models.model import Framework
from packager.models.query import Label

PathLike = str | os.PathLike[str]


def refuse_unknown(call: str, given: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise ``UsageError`` for an argument that ``call`` does not have: a typing error must not be lost in silence."""
    for name in given:
        near = nearest(name, list(known))
        hint = "leave it out" if near is None else f"did you mean {near!r}?"
        raise UsageError(f"{call} takes no argument {name!r}", hint=hint)


def labels_of(labels: Mapping[str, object] | None, what: str) -> dict[str, str]:
    """Tags or properties as text; a value that is not text is kept as JSON. Raises ``UsageError``."""
    if labels is None:
        return {}
    if not isinstance(labels, Mapping):
        raise UsageError("must be a dictionary", where=what, hint=f"write {what}={{'area': 'mnist'}}")
    return {str(key): label_of(key, value, what) for key, value in labels.items()}


def label_of(key: object, value: object, what: str) -> str:
    """A value of a tag or property as text; raises ``UsageError`` for what is not JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    except (TypeError, ValueError):
        raise UsageError(f"its value for {key!r} is not JSON", where=what, hint="give text or a number") from None


def filters_of(items: Sequence[Any] | None, what: str) -> tuple[Label, ...]:
    """Filters: each item is ``'key'`` or ``['key', 'value']``; raises ``UsageError``."""
    found = []
    for item in items or ():
        if isinstance(item, str):
            found.append(Label(item))
        elif isinstance(item, Sequence) and len(item) == 2:
            found.append(Label(str(item[0]), label_of(item[0], item[1], what)))
        else:
            raise UsageError(f"{item!r} is not a filter", where=what, hint=f"write {what}=['key', ['key', 'value']]")
    return tuple(found)


def framework_of(name: str | None) -> Framework | None:
    """The framework by Azure's name or any other; raises ``UsageError``."""
    if name is None:
        return None
    return {"tfkeras": Framework.TENSORFLOW, "multi": Framework.CUSTOM}.get(str(name).lower()) or Framework.parse(name)


def path_of(path: PathLike | None) -> Path | None:
    """A path of the user, with ``~`` resolved."""
    return None if path is None else Path(path).expanduser()
