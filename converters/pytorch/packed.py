"""Packed sequences (``pack_padded_sequence``), which only a trace by torch's old exporter keeps.

Runs inside the sandbox only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from converters.graph import edits
from converters.pytorch.original import Original, flatten
from edgepack.errors import ConversionError

HINT = (
    "give pad_packed_sequence the whole length (total_length=x.size(1)), give pack_padded_sequence "
    "enforce_sorted=False, and leave neither to TorchScript"
)


def packs(original: Original) -> bool:
    """Whether a run on the examples packs padded sequences."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = set()

    class _Seen(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.add(func)
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), _Seen():
        original.call([tensor.clone() for tensor in original.examples])
    return torch.ops.aten._pack_padded_sequence.default in seen


def refusal(error: ConversionError) -> ConversionError:
    """The error for a model with packed sequences of which no export was equal, ``error`` the last one's."""
    return ConversionError(
        f"its packed sequences cannot be exported so that the answers stay the same ({error.what})", hint=HINT
    )


def padded(original: Original) -> Original:
    """The module with the padded sequence of every recurrent layer as further outputs: the exporter packs for none
    of which only the last state is read.
    """
    import torch
    from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

    class _Padded(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = original.subject
            self.found: list[Any] = []
            for layer in self.model.modules():
                if isinstance(layer, torch.nn.RNNBase):
                    layer.register_forward_hook(self._keep)

        def _keep(self, layer: Any, _: Any, answer: Any) -> None:
            if isinstance(answer[0], PackedSequence):
                self.found.append(pad_packed_sequence(answer[0], batch_first=layer.batch_first)[0])

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            self.found.clear()
            leaves = [leaf for _, leaf in flatten(original.call(tensors)) if isinstance(leaf, torch.Tensor)]
            return (*leaves, *self.found)

    module = _Padded().eval()
    with torch.no_grad():
        count = len(module(*(tensor.clone() for tensor in original.examples))) - len(original.outputs)
    names = tuple(f"{original.outputs[0]}__padded_{number}" for number in range(count))
    return replace(
        original, subject=module, positional=len(original.specs), outputs=(*original.outputs, *names), structure=None
    )


def without_padded(model: Any, original: Original) -> Any:
    """The exported model with the outputs of ``original`` only."""
    kept = [output for output in model.graph.output if output.name in original.outputs]
    copies = [type(output).FromString(output.SerializeToString()) for output in kept]
    del model.graph.output[:]
    model.graph.output.extend(copies)
    edits.prune(model)
    return model
