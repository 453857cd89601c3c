"""``Model.get_model_path``: where the files of a model are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgepack.errors import NotFoundError, UsageError

_CACHE = "azureml-models"


def model_path(model_name: str, version: int | None, find: Callable[[], Any] | None) -> str:
    """See ``Model.get_model_path``; ``find`` gives the model of a workspace, where there is one."""
    here = Path(_CACHE, model_name)
    versions = sorted(int(path.name) for path in here.glob("*") if path.name.isdecimal())
    wanted = version if version is not None else (versions[-1] if versions and find is None else None)
    if wanted in versions:
        found = list((here / str(wanted)).iterdir())
        if len(found) == 1:
            return str(found[0])
        raise UsageError(f"holds {len(found)} entries", where=here / str(wanted), hint="one is a model's")
    if find is not None:
        model = find()
        return str(model.download(Path(_CACHE, model_name, str(model.version)), exist_ok=True))
    if version is None and Path(model_name).exists():
        return model_name
    raise NotFoundError(f"model {model_name} not found", where=here, hint="give _workspace, or download it first")
