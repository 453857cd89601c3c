"""A module named by an entry point, ``module:factory``, with the weights beside it. Runs the user's code.

Inside the sandbox only.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.pytorch.original import EXPORT_HINT, reason
from converters.source import recognition, user_modules
from converters.source.kinds import SAFETENSORS_ENDING, WEIGHTS_ENDINGS
from edgepack.errors import ConversionError, UsageError

# Where training scripts put the state dict in a larger checkpoint, and what wrappers put before its names.
NESTED = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.")


def load(path: Path, name: str) -> tuple[Any, Any, tuple[str, ...]]:
    """The module in eval mode with its weights, the Python module that it is from, and notes.

    ``path`` is a folder with the source and one weights file, or that weights file with the source beside it; ``name``
    is ``module:factory``, where the factory takes no arguments and returns an ``nn.Module``. Raises ``UsageError`` for
    a missing part, ``ConversionError`` when the user's code fails or the weights do not fit.
    """
    source, colon, factory_name = name.partition(":")
    if not colon or not source or not factory_name.isidentifier():
        raise UsageError(f"the entry point {name!r} is not of the form module:factory", hint="such as model:build")
    weights = _weights(path)
    folder = path if path.is_dir() else path.parent
    origin = _import(folder, source)
    factory = getattr(origin, factory_name, None)
    if not callable(factory):
        raise UsageError(f"{source} has no function {factory_name!r}", hint="give --entry module:factory")
    module = _make(factory, name)
    return module, origin, _fill(module, _state(weights), weights.name)


def _weights(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in WEIGHTS_ENDINGS)
    if len(found) != 1:
        raise UsageError(
            f"the folder has {len(found)} weights files ({', '.join(WEIGHTS_ENDINGS)}), not one",
            hint="save one with torch.save(model.state_dict(), 'weights.pt') beside the source, or name the file",
        )
    return found[0]


def _import(folder: Path, source: str) -> Any:
    modules = user_modules.imported(folder, source)
    user_modules.require_not_loaded(folder, modules, {name.partition(".")[0] for name in sys.modules})
    user_modules.make_importable(folder, modules)
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        if error.name == source.partition(".")[0]:
            raise UsageError(f"{source}.py not found beside the weights", hint="put the source there") from error
        raise ConversionError(
            f"{source} needs the Python package {error.name}, which the converter's environment does not have",
            hint=f"do without it in the model's source, or {EXPORT_HINT}",
        ) from error
    except Exception as error:  # the user's code may raise anything
        raise ConversionError(f"importing {source} fails ({reason(error)})", hint="run it by itself first") from error


def _make(factory: Any, name: str) -> Any:
    import torch

    try:
        module = factory()
    except Exception as error:  # the user's code may raise anything
        raise ConversionError(
            f"the factory {name} fails when it is called without arguments ({reason(error)})",
            hint="let it take none, with the model's settings inside",
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise ConversionError(
            f"the factory {name} returns a {type(module).__name__}, not an nn.Module", hint="let it return the module"
        )
    return module.eval()


def _state(path: Path) -> Mapping[str, Any]:
    """The state dict in a weights file, never by running what a pickle says."""
    import torch

    try:
        if path.suffix.lower() == SAFETENSORS_ENDING or recognition.is_safetensors(path):
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a reader of untrusted bytes fails in every way
        raise ConversionError(
            f"the weights in {path.name} cannot be read ({reason(error)})",
            hint="save them with torch.save(model.state_dict(), 'weights.pt')",
        ) from error
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise ConversionError(
            f"{path.name} holds a {type(found).__name__}, not a state dict",
            hint="save the weights with torch.save(model.state_dict(), 'weights.pt')",
        )
    return found


def _fill(module: Any, state: Mapping[str, Any], file: str) -> tuple[str, ...]:
    """Load the weights, all of them; a wrapper's prefix that every name has is taken off, with a note."""
    notes = []
    wanted = set(module.state_dict())
    for prefix in PREFIXES:
        if state and not wanted & set(state) and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
            notes.append(f"the prefix {prefix!r} was taken off the names of the weights")
    missing, extra = sorted(wanted - set(state)), sorted(set(state) - wanted)
    if missing or extra:
        which = f"lacks {missing[0]!r}" if missing else f"has {extra[0]!r}, which the module does not have"
        raise ConversionError(
            f"{file} does not fit the module: it {which} ({len(missing)} missing, {len(extra)} too many)",
            hint="check that the factory makes the module that these weights were saved from",
        )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        detail = str(error).strip().splitlines()[-1].strip()[:300]
        raise ConversionError(
            f"{file} does not fit the module: {detail}",
            hint="check that the factory makes the module that these weights were saved from",
        ) from error
    return tuple(notes)
