"""The ways from a PyTorch model to an ONNX graph, each one yet to be proven. Runs inside the sandbox only."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from converters.pytorch import interpreter, packed, rewrites
from converters.pytorch.operators import unsupported
from converters.pytorch.original import EXPORT_HINT, Original, flatten, reason
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError
from edgepack.limits import LIMITS

OPSET = 18


@dataclass(frozen=True)
class Export:
    """``make`` returns an ``onnx.ModelProto`` or raises ``ConversionError``; ``recipe`` names it in the manifest."""

    recipe: str
    make: Callable[[], Any]


def of(original: Original) -> Iterator[Export]:
    """The exports of a model, in the order in which they are tried; the later ones only where the first fail.

    A TorchScript archive first goes through the exporter that reads TorchScript itself, which takes hundredths of a
    second and keeps branches and loops; then through torch's own conversion of TorchScript to an exported program.
    """
    if original.kind == "program":
        yield Export("torch.export", lambda: _from_program(original, original.subject))
        return
    script = original
    if original.kind == "module":
        yield Export("torch.export", lambda: _from_program(original, _program(original)))
        if packed.packs(original):
            # What a trace loses besides, the comparison shows.
            yield Export("torchscript, traced", lambda: _from_script(original))
            yield Export(
                "torchscript, traced", lambda: packed.without_padded(_from_script(packed.padded(original)), original)
            )
            return
        script = _scripted(original)
    yield Export("torchscript", lambda: _from_script(script))
    if original.kind == "script":
        yield Export("torchscript, torch.export", lambda: _from_program(original, _program(_interpreted(original))))


def _flat(original: Original) -> Any:
    """A module that takes and returns plain tensors, of one that takes names and returns a structure."""
    import torch

    class _Flat(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = original.subject

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            leaves = flatten(original.call(tensors))
            return tuple(leaf for _, leaf in leaves if isinstance(leaf, torch.Tensor))

    return _Flat().eval()


def _program(original: Original) -> Any:
    """The exported program of a module.

    A named axis could silently become a constant; with ``DYNAMIC`` it is dynamic, or the export fails.
    """
    import torch

    dynamic = tuple({0: torch.export.Dim.DYNAMIC} if spec.batched else None for spec in original.specs)
    try:
        with torch.no_grad():
            return torch.export.export(_flat(original), original.examples, dynamic_shapes=(dynamic,))
    except Exception as error:  # whatever a user's forward and the exporter raise
        raise unexportable(error) from error


def _from_program(original: Original, program: Any) -> Any:
    import torch

    weights = sum(entry.numel() * entry.element_size() for entry in program.state_dict.values())
    if weights >= LIMITS.protobuf_bytes:
        raise ConversionError(
            f"its weights are {weights >> 20} MiB, more than the 2 GiB that one ONNX file can hold",
            hint="make the model smaller, for instance by float16",
        )
    try:
        with torch.no_grad():
            exported = torch.onnx.export(
                rewrites.rewritten(program),
                dynamo=True,
                external_data=False,
                opset_version=OPSET,
                input_names=[spec.name for spec in original.specs],
                output_names=list(original.outputs),
                verbose=False,
            )
    except Exception as error:  # whatever the exporter raises
        raise unexportable(error) from error
    if exported is None:
        raise ConversionError("torch.onnx.export made nothing", hint=SCRIPT)
    return exported.model_proto


def _from_script(original: Original) -> Any:
    import onnx
    import torch

    buffer = io.BytesIO()
    names = [spec.name for spec in original.specs]
    arguments = tuple(original.examples[: original.positional])
    named = dict(zip(names[original.positional :], original.examples[original.positional :], strict=True))
    try:
        with torch.no_grad():
            torch.onnx.export(
                original.subject,
                arguments,
                buffer,
                kwargs=named or None,
                dynamo=False,
                opset_version=OPSET,
                input_names=names,
                output_names=list(original.outputs),
                dynamic_axes={spec.name: {0: "batch"} for spec in original.specs if spec.batched},
            )
    except Exception as error:  # whatever the exporter raises
        raise unexportable(error) from error
    return onnx.load_model_from_string(buffer.getvalue())


def _scripted(original: Original) -> Original:
    """The module compiled to TorchScript, which keeps its branches and loops."""
    import torch

    try:
        script = torch.jit.script(original.subject)
    except Exception as error:  # the compiler takes a part of Python only, and fails in every way on the rest
        raise unexportable(error) from error
    return replace(original, kind="script", subject=script, callee=script)


def _interpreted(original: Original) -> Original:
    """The archive as a module of Python's, for torch.export to follow."""
    module = interpreter.of(original.subject)
    return replace(original, kind="module", subject=module, callee=module, positional=len(original.specs))


def unexportable(error: Exception) -> ConversionError:
    """The error for what torch raised, with what to do about it."""
    text = f"{type(error).__name__} {reason(error)} {error}"
    if "data-dependent" in text or "DataDependent" in text:
        return ConversionError(
            "its forward branches or loops on the data, which torch.export cannot keep",
            hint="use torch.cond, or write it so that torch.jit.script takes it and give that archive",
        )
    if "specialized it to be a constant" in text or "ConstraintViolation" in text or "Constraints violated" in text:
        return ConversionError(
            "its forward fixes the number of rows (for instance by a Python loop over them)",
            hint="write it for whole tensors, or so that torch.jit.script takes it and give that archive",
        )
    name = unsupported(error) or _named_by_torch(text)
    if name:
        return ConversionError(
            f"its operator {name} has no ONNX form",
            hint=f"write it with operators that ONNX has, or {SCRIPT}",
        )
    return ConversionError(f"torch cannot export it ({reason(error)})", hint=f"{EXPORT_HINT}, or {SCRIPT}")


def _named_by_torch(text: str) -> str | None:
    """The operator that torch's exporters lack; their errors name it in their text only."""
    found = re.search(
        r"operator '(\w+::\w+)'|No (?:ONNX function|decompositions?)[^<]*<OpOverload\(op='([\w.]+)'", text
    )
    return found and (found[1] or found[2])
