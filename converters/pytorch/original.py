"""The original of a conversion: something of PyTorch's that takes named tensors and answers with named tensors.

Runs inside the sandbox only: an ``Original`` is made of a user's file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from converters.proof.specs import Spec
from edgepack.errors import ConversionError

Kind = Literal["program", "script", "module"]

EXPORT_HINT = (
    "export it where it was trained: torch.export.save(torch.export.export(model.eval(), examples, "
    "dynamic_shapes={name: {0: torch.export.Dim.DYNAMIC}}), 'model.pt2'), with examples of at least 2 rows"
)
# Sizes that a batch is tried with; 3 and 5 are for examples, whose size must not be that of another axis.
PROBED_ROWS = (1, 2, 4, 7)
EXAMPLE_ROWS = (3, 5, 11, 13)


@dataclass(frozen=True)
class Original:
    """What was loaded, in eval mode.

    ``subject`` is what is exported: an ``ExportedProgram``, a ``ScriptModule`` or an ``nn.Module``; ``callee`` is what
    is called. ``examples`` are tensors in the order of ``specs``, of which ``positional`` are passed by position and
    the others by name. ``structure`` is a program's own form of its arguments, of which the ``constants`` at these
    places were fixed by the export. ``version`` is the torch that wrote it.
    """

    kind: Kind
    subject: Any
    callee: Any
    specs: tuple[Spec, ...]
    examples: tuple[Any, ...]
    version: str
    positional: int = 0
    structure: Any = None
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    constants: Mapping[int, Any] = field(default_factory=dict)

    def call(self, tensors: Sequence[Any]) -> Any:
        """What the model's ``forward`` returns. Raises whatever that raises."""
        if self.structure is not None:
            from torch.utils import _pytree as pytree

            leaves = list(tensors)
            for place in sorted(self.constants):
                leaves.insert(place, self.constants[place])
            args, kwargs = pytree.tree_unflatten(leaves, self.structure)
            return self.callee(*args, **kwargs)
        names = [spec.name for spec in self.specs[self.positional :]]
        given = list(tensors)
        return self.callee(*given[: self.positional], **dict(zip(names, given[self.positional :], strict=True)))

    def answer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name as numpy arrays. Raises ``ConversionError`` when the model refuses these inputs."""
        import numpy as np
        import torch

        # A forward may write into its inputs.
        tensors = [torch.from_numpy(np.array(feeds[spec.name], order="C")) for spec in self.specs]
        try:
            with torch.no_grad(), torch.jit.optimized_execution(False):
                leaves = [leaf for _, leaf in flatten(self.call(tensors)) if isinstance(leaf, torch.Tensor)]
        except Exception as error:  # a user's forward may raise anything
            raise ConversionError(
                f"the original fails on the inputs that it was to be compared on ({reason(error)})",
                hint="give --sample with inputs that it takes (a .npz file with an array for each input)",
            ) from error
        arrays = [_array(leaf) for leaf in leaves]
        if len(arrays) != len(self.outputs):
            raise ConversionError(
                f"the model answers with {len(arrays)} tensors for some inputs, {len(self.outputs)} for others",
                hint="let its forward always return the same outputs",
            )
        return dict(zip(self.outputs, arrays, strict=True))

    def own(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """``answer`` with the kernels that PyTorch takes by itself, which answer rows of nothing but padding."""
        import torch

        torch.backends.mha.set_fastpath_enabled(True)
        try:
            return self.answer(feeds)
        finally:
            torch.backends.mha.set_fastpath_enabled(False)


def describe(original: Original) -> Original:
    """The original with its outputs named, from one run on its examples; a batch that it cannot vary made fixed.

    Raises ``ConversionError`` when it fails on its own examples or answers with no tensor.
    """
    import torch

    try:
        with torch.no_grad(), torch.jit.optimized_execution(False):
            leaves = list(flatten(original.call([tensor.clone() for tensor in original.examples])))
    except Exception as error:  # a user's forward may raise anything
        raise ConversionError(
            f"the model fails on its example inputs ({reason(error)})",
            hint="give --sample with inputs that it takes (a .npz file with an array for each input)",
        ) from error
    tensors = [path for path, leaf in leaves if isinstance(leaf, torch.Tensor)]
    if not tensors:
        raise ConversionError("the model returns no tensor", hint="let its forward return tensors")
    others = ["_".join(map(str, path)) or "output" for path, leaf in leaves if not isinstance(leaf, torch.Tensor)]
    notes = [f"its output {name!r} is not a tensor and is left out" for name in others]
    named = replace(
        original,
        outputs=_output_names(tensors, {spec.name for spec in original.specs}),
        notes=(*original.notes, *notes),
    )
    return named if original.kind == "program" else _probe(named)


def _probe(original: Original) -> Original:
    """Fix the batch of a model that takes its examples' number of rows and not every other."""
    rows = next((len(tensor) for tensor, spec in _pairs(original) if spec.batched), None)
    if rows is None:
        return original
    for other in PROBED_ROWS:
        feeds = {
            spec.name: resize(tensor, other).numpy() if spec.batched else tensor.numpy()
            for tensor, spec in _pairs(original)
        }
        try:
            original.answer(feeds)
        except ConversionError:
            specs = tuple(
                replace(spec, shape=(rows, *spec.shape[1:])) if spec.batched else spec for spec in original.specs
            )
            return replace(original, specs=specs, notes=(*original.notes, static_note(rows)))
    return original


def _pairs(original: Original) -> Iterator[tuple[Any, Spec]]:
    return zip(original.examples, original.specs, strict=True)


def static_note(rows: int) -> str:
    """The warning for a model that was made for one number of rows."""
    return (
        f"the model was exported for batches of {rows} rows, and the package takes only these; for any number of rows "
        "export it with torch.export and dynamic_shapes={name: {0: torch.export.Dim.DYNAMIC}}, with examples of at "
        "least 2 rows"
    )


def resize(tensor: Any, rows: int) -> Any:
    """The tensor's rows, repeated or cut to a number of them."""
    import torch

    return tensor[torch.arange(rows) % len(tensor)].clone()


def example_rows(shapes: Sequence[Sequence[int]]) -> int:
    """A number of rows, at least 2, that no other axis has, so that an exporter cannot take the one for the other."""
    taken = {length for shape in shapes for length in shape[1:]}
    return next((rows for rows in EXAMPLE_ROWS if rows not in taken), max(taken, default=0) + 2)


def flatten(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The leaves of what a forward returned, in PyTorch's own order, with their keys; None is not a leaf."""
    if value is None:
        return
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts: Any = [(entry.name, getattr(value, entry.name)) for entry in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        parts = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = zip(value._fields, value, strict=True)
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    else:
        yield path, value
        return
    for key, part in parts:
        yield from flatten(part, (*path, key))


def _output_names(paths: Sequence[tuple[str | int, ...]], taken: set[str]) -> tuple[str, ...]:
    """``output`` for a lone tensor, ``output_0`` for places in a tuple, else the user's own keys."""
    names: list[str] = []
    for path in paths:
        parts = ("output", *path) if not path or isinstance(path[0], int) else path
        name = re.sub(r"[^0-9A-Za-z_.\-]", "_", "_".join(map(str, parts)))
        while name in taken or name in names:
            name += "_out"
        names.append(name)
    return tuple(names)


def _array(tensor: Any) -> Any:
    import torch

    if tensor.dtype in (torch.bfloat16, torch.complex64, torch.complex128) or tensor.layout != torch.strided:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ConversionError(
            f"the model answers with a {kind} tensor ({str(tensor.layout).removeprefix('torch.')}), which a scoring "
            "server cannot give",
            hint=_plain_form(tensor),
        )
    return tensor.detach().cpu().resolve_conj().resolve_neg().numpy()


def _plain_form(tensor: Any) -> str:
    """How a forward returns a tensor in a form that can be answered."""
    if tensor.is_complex():
        return "let its forward return torch.view_as_real(...), whose last axis has the real and the imaginary part"
    return "let its forward return .to_dense()" if tensor.layout != _strided() else "let its forward return .float()"


def _strided() -> Any:
    import torch

    return torch.strided


def reason(error: BaseException) -> str:
    """What went wrong at the root of an exception of PyTorch's, in one line, without colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    if "Traceback of TorchScript" in text:  # the archive's own error is last
        text = next((line for line in reversed(text.splitlines()) if "Error" in line or "error" in line), text)
    line = " ".join((text or type(error).__name__).splitlines()[0].split())
    return line[:300]
