"""A TorchScript graph run node by node in Python, so that ``torch.export`` can follow it with sizes left open.

torch's own exporter refuses an archive, and its converter of TorchScript stops at every branch, also at one that only
asks for a rank or a setting. Here a branch is taken as Python takes it: sizes and settings decide at once, and one that
depends on the data is refused by ``torch.export`` with its own error.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.pytorch import fused
from converters.pytorch.operators import UnsupportedOperatorError

# c10/core/ScalarType.h, Layout.h and MemoryFormat.h: TorchScript writes these as numbers.
SCALAR_TYPES = (
    "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64",
    "complex32", "complex64", "complex128", "bool", "qint8", "quint8", "qint32", "bfloat16",
)  # fmt: skip
LAYOUTS = ("strided", "sparse_coo")
MEMORY_FORMATS = ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d")
NUMBERED = {"ScalarType": SCALAR_TYPES, "Layout": LAYOUTS, "MemoryFormat": MEMORY_FORMATS}


@dataclass(frozen=True)
class _Part:
    """A module inside the archive, and the path to it."""

    module: Any
    path: tuple[str, ...]


def of(script: Any) -> Any:
    """An ``nn.Module`` that answers as the archive's ``forward`` does; its tensors are the archive's own.

    Its ``forward`` raises ``UnsupportedOperatorError`` for some operators.
    """
    import torch

    graph = script.inlined_graph

    class _Interpreter(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            named = [*script.named_parameters(), *script.named_buffers()]
            for name, tensor in named:
                self.register_buffer(name.replace(".", "__"), tensor.detach())

        def forward(self, *tensors: Any) -> Any:
            (first, *others) = graph.inputs()
            values = {first.debugName(): _Part(script, ())}
            values |= {value.debugName(): tensor for value, tensor in zip(others, tensors, strict=True)}
            answers = self._block(graph, values)
            return answers[0] if len(answers) == 1 else tuple(answers)

        def _block(self, block: Any, values: dict[str, Any]) -> list[Any]:
            for node in block.nodes():
                outputs = [output.debugName() for output in node.outputs()]
                results = self._node(node, [values.get(value.debugName()) for value in node.inputs()], values)
                if outputs:
                    values.update(zip(outputs, [results] if len(outputs) == 1 else results, strict=True))
            return [values[value.debugName()] for value in block.outputs()]

        def _node(self, node: Any, arguments: list[Any], values: dict[str, Any]) -> Any:
            kind = node.kind()
            if kind == "prim::Constant":
                return node.output().toIValue() if node.output().type().kind() != "FunctionType" else None
            if kind == "prim::GetAttr":
                return self._attribute(arguments[0], node.s("name"))
            if kind == "prim::If":
                yes, no = node.blocks()
                return _one_or_all(self._block(yes if arguments[0] else no, values))
            if kind == "prim::Loop":
                return _one_or_all(self._loop(next(node.blocks()), arguments, values))
            return _apply(node, kind, arguments)

        def _loop(self, body: Any, arguments: list[Any], values: dict[str, Any]) -> list[Any]:
            limit, go_on, *carried = arguments
            names = [value.debugName() for value in body.inputs()]
            step = 0
            while go_on and step < limit:
                values.update(zip(names, [step, *carried], strict=True))
                go_on, *carried = self._block(body, values)
                step += 1
            return carried

        def _attribute(self, part: _Part, name: str) -> Any:
            found, path = getattr(part.module, name), (*part.path, name)
            if isinstance(found, torch.Tensor):
                return getattr(self, "__".join(path), found)
            return _Part(found, path) if isinstance(found, torch.nn.Module | torch.ScriptObject) else found

    return _Interpreter().eval()


def _one_or_all(results: list[Any]) -> Any:
    return results[0] if len(results) == 1 else results


def _apply(node: Any, kind: str, arguments: list[Any]) -> Any:
    """The result of a node that is not control flow: one of Python's, or one of torch's operators."""
    import torch

    special = _special().get(kind)
    if special is not None:
        return special(*arguments)
    if kind == "prim::TupleConstruct" or kind == "prim::ListConstruct":
        return tuple(arguments) if kind == "prim::TupleConstruct" else list(arguments)
    if kind in ("prim::TupleUnpack", "prim::ListUnpack"):
        return arguments[0][0] if node.outputsSize() == 1 else list(arguments[0])
    if kind == "prim::DictConstruct":
        return dict(zip(arguments[::2], arguments[1::2], strict=True))
    python = PYTHON.get(kind)
    if python is not None and not any(isinstance(argument, torch.Tensor) for argument in arguments):
        return python(*arguments)
    return _torch(node, kind, arguments)


def _torch(node: Any, kind: str, arguments: Sequence[Any]) -> Any:
    import torch

    if kind.startswith("prim::") or node.schema() == "(no schema)":
        raise UnsupportedOperatorError(kind)
    schema = torch._C.parse_schema(node.schema())
    room, _, name = kind.partition("::")
    packet = getattr(getattr(torch.ops, room), name)
    function = getattr(packet, schema.overload_name or "default")
    positional, named = [], {}
    for entry, argument in zip(schema.arguments, arguments, strict=True):
        numbers = NUMBERED.get(str(entry.real_type).removeprefix("Optional[").removesuffix("]").removesuffix("?"))
        if numbers is not None and isinstance(argument, int):
            argument = getattr(torch, numbers[argument])
        if entry.kwarg_only:
            named[entry.name] = argument
        else:
            positional.append(argument)
    return function(*positional, **named)


def _special() -> Mapping[str, Callable[..., Any]]:
    """Operators that TorchScript has and torch does not, or whose ONNX form is another."""
    import torch

    def fail(message: Any, *_: Any) -> Any:
        raise RuntimeError(str(message))

    def number(value: Any) -> Any:
        return value.item() if isinstance(value, torch.Tensor) else value

    def size(tensor: Any, axis: int | None = None) -> Any:
        return list(tensor.shape) if axis is None else tensor.shape[axis]

    return {
        "prim::RaiseException": fail,
        "prim::Uninitialized": lambda: None,
        "prim::unchecked_cast": lambda value: value,
        "prim::NumToTensor": lambda value: value,
        "prim::data": lambda value: value,
        "prim::device": lambda tensor: tensor.device,
        "prim::dtype": lambda tensor: SCALAR_TYPES.index(str(tensor.dtype).removeprefix("torch.")),
        "prim::type": lambda device: device.type,
        "prim::is_cuda": lambda tensor: False,
        "prim::is_nested": lambda tensor: False,
        "prim::requires_grad": lambda tensor: False,
        "prim::TupleIndex": lambda parts, index: parts[index],
        "aten::is_grad_enabled": lambda: False,
        "aten::is_autocast_enabled": lambda *_: False,
        "aten::is_autocast_cpu_enabled": lambda: False,
        "aten::warn": lambda *_: None,
        "aten::len": lambda value: value.shape[0] if isinstance(value, torch.Tensor) else len(value),
        "aten::dim": lambda tensor: tensor.dim(),
        "aten::size": size,
        "aten::append": lambda items, item: (items.append(item), items)[1],
        "aten::Int": number,
        "aten::IntImplicit": number,
        "aten::ScalarImplicit": number,
        "aten::Float": lambda value: float(number(value)) if not isinstance(value, torch.SymFloat) else value,
        "aten::Bool": lambda value: bool(number(value)),
        "aten::_convolution": lambda *arguments: torch.ops.aten.convolution.default(*arguments[:9]),
        "aten::_transformer_encoder_layer_fwd": fused.encoder_layer,
        "aten::_native_multi_head_attention": fused.attention,
    }


def _divide(left: Any, right: Any, rounding: str | None = None) -> Any:
    # Of sizes, which are not negative, both roundings are the same.
    return left / right if rounding is None else left // right


# What TorchScript does with numbers, lists and text, and a trace with sizes as if they were tensors.
PYTHON: Mapping[str, Callable[..., Any]] = {
    "aten::add": lambda left, right, alpha=1: left + (right if alpha == 1 else alpha * right),
    "aten::sub": lambda left, right, alpha=1: left - (right if alpha == 1 else alpha * right),
    "aten::mul": operator.mul,
    "aten::div": _divide,
    "aten::floordiv": operator.floordiv,
    "aten::floor_divide": operator.floordiv,
    "aten::remainder": operator.mod,
    "aten::pow": operator.pow,
    "aten::neg": operator.neg,
    "aten::eq": operator.eq,
    "aten::ne": operator.ne,
    "aten::lt": operator.lt,
    "aten::le": operator.le,
    "aten::gt": operator.gt,
    "aten::ge": operator.ge,
    "aten::any": any,
    "aten::all": all,
    "aten::__and__": operator.and_,
    "aten::__or__": operator.or_,
    "aten::__not__": operator.not_,
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::__contains__": operator.contains,
    "aten::__getitem__": operator.getitem,
    "aten::slice": lambda items, start, end, step: items[slice(start, end, step)],
    "aten::format": lambda text, *values: text.replace("{}", "%s") % values,
    "aten::list": list,
    "aten::__range_length": lambda low, high, step: len(range(low, high, step)),
    "aten::__derive_index": lambda index, start, step: start + index * step,
    "prim::min": lambda *values: min(values[0] if len(values) == 1 else values),
    "prim::max": lambda *values: max(values[0] if len(values) == 1 else values),
}
