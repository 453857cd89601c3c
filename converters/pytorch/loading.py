"""What kind of file a user gave, by its content, and the model in it. Runs inside the sandbox only."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.options import Options
from converters.proof.specs import Spec
from converters.pytorch import entry, examples
from converters.pytorch.dtypes import dtype_name
from converters.pytorch.original import EXPORT_HINT, Original, describe, reason, static_note
from converters.source import recognition, traces, user_modules
from converters.source.kinds import SAFETENSORS_ENDING
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError

DAMAGED = "the file is damaged or is not a PyTorch model"
COPY_AGAIN = "copy or export it again"


def load(path: Path, options: Options) -> Original:
    """The model in a ``.pt2`` program, a TorchScript archive, or behind the entry point that the options name.

    Raises ``ConversionError`` for a file that holds no model that can be run, ``UsageError`` where something is missing
    that the user can give (a sample, an entry point's parts).
    """
    if options.entry is not None:
        return examples.of_module(*entry.load(path, options.entry), options)
    kind = _kind(path)
    if kind == "program":
        return _program(path)
    if kind == "script":
        return examples.of_script(_script(path), options)
    return _pickled(path, options)


def _kind(path: Path) -> str:
    if path.suffix.lower() == SAFETENSORS_ENDING or recognition.is_safetensors(path):
        raise _no_module("the file holds weights only (safetensors)")
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            head = file.read(2)
        if head[:1] == b"\x80":  # torch.save before 1.6, a bare pickle
            return "pickle"
        what = f"{DAMAGED} (its zip archive is incomplete)" if head == b"PK" else DAMAGED
        raise ConversionError(what, hint=COPY_AGAIN)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    inner = {name.partition("/")[2] for name in names}
    if "serialized_exported_program.json" in names or any(
        name.startswith("models/") and name.endswith(".json") for name in inner
    ):
        return "program"
    if any("aotinductor" in name for name in names):
        raise ConversionError("the file holds compiled code (AOTInductor), not a program", hint=EXPORT_HINT)
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "script"
    if "data.pkl" in inner:
        return "pickle"
    raise ConversionError(DAMAGED, hint=COPY_AGAIN)


def _program(path: Path) -> Original:
    import torch

    facts = _program_facts(path)
    try:
        program = torch.export.load(path)
    except Exception as error:  # a reader of untrusted bytes fails in every way
        raise _unreadable_program(facts, error) from error
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    specs, tensors = [], []
    constants: dict[int, Any] = {}
    notes: list[str] = []
    given = program.example_inputs
    recorded = None if given is None else torch.utils._pytree.tree_leaves(given)
    user_inputs = [entry.arg for entry in program.graph_signature.input_specs if entry.kind.name == "USER_INPUT"]
    for number, argument in enumerate(user_inputs):
        name = str(argument.name)
        if hasattr(argument, "value"):  # a number, a flag or None, which the export has fixed
            constants[number] = argument.value
            notes += [] if argument.value is None else [f"its input {name!r} is {argument.value!r}, as it was exported"]
            continue
        value = nodes[name].meta.get("val") if name in nodes else None
        if not isinstance(value, torch.Tensor):
            raise ConversionError(f"the program's input {name!r} is not a tensor", hint="export it with tensors only")
        shape = tuple(int(axis) if isinstance(axis, int) else None for axis in value.shape)
        specs.append(Spec(name, dtype_name(name, value.dtype), shape))
        if recorded is not None and number < len(recorded) and isinstance(recorded[number], torch.Tensor):
            tensors.append(recorded[number])
        else:
            tensors.append(torch.zeros([2 if axis is None else axis for axis in shape], dtype=value.dtype))
    variable = any(None in spec.shape for spec in specs)
    first = next((spec.shape[0] for spec in specs if spec.shape), None)
    made = Original(
        kind="program",
        subject=program,
        # Its own check of ranges would refuse a batch of 1, or one larger than that was declared.
        callee=_without_limits(program.module(check_guards=False)),
        specs=tuple(specs),
        examples=tuple(tensors),
        version=str(facts.get("torch_version", torch.__version__)).partition("+")[0],
        structure=program.call_spec.in_spec,
        notes=tuple(notes if variable or first is None else [*notes, static_note(first)]),
        constants=constants,
    )
    return describe(made)


def _without_limits(module: Any) -> Any:
    """The program's module without its check of sizes: it refuses more rows than were declared (``Dim(max=...)``)."""
    for number, hook in list(module._forward_pre_hooks.items()):
        if getattr(hook, "__name__", "") == "_check_input_constraints_pre_hook":
            del module._forward_pre_hooks[number]
            module._forward_pre_hooks_with_kwargs.pop(number, None)
    return module


def _program_facts(path: Path) -> Mapping[str, Any]:
    """The program's own header: ``torch_version``, ``schema_version``; empty where an older torch wrote none."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if re.search(r"(^|/)models/[^/]*\.json$|^serialized_exported_program\.json$", name):
                try:
                    document = json.loads(archive.read(name))
                except (ValueError, zipfile.BadZipFile) as error:
                    raise ConversionError(DAMAGED, hint=COPY_AGAIN) from error
                return document if isinstance(document, dict) else {}
    return {}


def _unreadable_program(facts: Mapping[str, Any], error: Exception) -> ConversionError:
    import torch
    from torch._export.serde.schema import SCHEMA_VERSION

    theirs, ours = facts.get("schema_version"), ".".join(map(str, SCHEMA_VERSION))
    written = ".".join(str(theirs.get(part)) for part in ("major", "minor")) if isinstance(theirs, dict) else None
    if written is not None and written != ours:
        writer = facts.get("torch_version", "another version")
        return ConversionError(
            f"the program was exported by torch {writer} (format {written}), which torch {torch.__version__} "
            f"(format {ours}) cannot read",
            hint=f"export it with torch {torch.__version__.partition('+')[0]}, or {SCRIPT}",
        )
    return ConversionError(f"the program cannot be read ({reason(error)})", hint=COPY_AGAIN)


def _script(path: Path) -> Any:
    import torch

    try:
        module = torch.jit.load(path, map_location="cpu").eval()
    except Exception as error:  # a reader of untrusted bytes fails in every way
        raise ConversionError(
            f"the TorchScript archive cannot be read ({reason(error)})", hint=f"{COPY_AGAIN}, or {EXPORT_HINT}"
        ) from error
    if not hasattr(module, "forward"):
        raise ConversionError("the TorchScript archive has no forward", hint=EXPORT_HINT)
    return module


def _pickled(path: Path, options: Options) -> Original:
    """Refuse a state dict; a whole module only where the user has allowed it to run its code."""
    import pickle

    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if options.allow_unsafe:
            return examples.of_module(_unpickled_module(path), None, (), options)
        raise ConversionError(
            f"the file is a pickle of {_pickled_class(error)}, which only its own source code can open",
            hint=f"{EXPORT_HINT}; or put the class's source beside it and convert with --allow-unsafe",
        ) from error
    except Exception as error:  # a reader of untrusted bytes fails in every way
        raise ConversionError(f"{DAMAGED} ({reason(error)})", hint=COPY_AGAIN) from error
    if isinstance(found, Mapping):
        raise _no_module("the file holds weights only (a state dict)")
    raise ConversionError(f"the file holds a {type(found).__name__}, not a model", hint=EXPORT_HINT)


def _unpickled_module(path: Path) -> Any:
    """What the pickle holds, with its class's source from the file's folder. Runs the user's code."""
    import torch

    modules = user_modules.imported_by_classes(path.parent, {module for module, _ in traces.of_torch(path)})
    user_modules.require_not_loaded(path.parent, modules, {name.partition(".")[0] for name in sys.modules})
    user_modules.make_importable(path.parent, modules)
    try:
        found = torch.load(path, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise ConversionError(
            f"the source code of the model's class is missing ({reason(error)})",
            hint=f"put its module beside the file, or {EXPORT_HINT}",
        ) from error
    except Exception as error:  # a pickle may run and raise anything
        raise ConversionError(f"the file cannot be opened ({reason(error)})", hint=EXPORT_HINT) from error
    if not isinstance(found, torch.nn.Module):
        raise ConversionError(f"the file holds a {type(found).__name__}, not a module", hint=EXPORT_HINT)
    return found.eval()


def _pickled_class(error: Exception) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return found[1] if found else "a class of its own"


def _no_module(what: str) -> ConversionError:
    return ConversionError(
        f"{what}: without its module there is nothing to run",
        hint="put the module's source beside it and give --entry module:factory, or " + EXPORT_HINT,
    )
