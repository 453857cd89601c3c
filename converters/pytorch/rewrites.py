"""Operators of an exported program that torch's exporter writes otherwise than torch computes them, written out before.

Runs inside the sandbox only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def rewritten(program: Any) -> Any:
    """The program with these operators as others; itself where it has none of them."""
    import torch

    aten = torch.ops.aten
    table: dict[Any, Callable[..., Any]] = {
        aten.remainder.Scalar: _remainder,
        aten.remainder.Tensor: _remainder,
        aten.floor_divide.default: _floor_divide,
        aten.floor_divide.Scalar: _floor_divide,
        aten.div.Tensor_mode: _divide,
        aten.div.Scalar_mode: _divide,
    }
    graphs = [part.graph for part in program.graph_module.modules() if hasattr(part, "graph")]
    nodes = [node for graph in graphs for node in graph.nodes]
    present = {node.target: table[node.target] for node in nodes if node.op == "call_function" and node.target in table}
    attends = aten.scaled_dot_product_attention.default
    if any(node.target is attends and _has_flags(node) for node in nodes):
        present[attends] = _attention
    return program.run_decompositions(present) if present else program


def _has_flags(node: Any) -> bool:
    import torch

    mask = node.args[3] if len(node.args) > 3 else node.kwargs.get("attn_mask")
    return mask is not None and mask.meta["val"].dtype == torch.bool


def _remainder(left: Any, right: Any) -> Any:
    """By the exact remainder, not by a quotient that may have been rounded up to a whole number."""
    import torch

    if not _fractions(left, right):
        return NotImplemented
    rest = torch.fmod(left, right)
    return torch.where((rest != 0) & ((rest < 0) != (right < 0)), rest + right, rest)


def _floor_divide(left: Any, right: Any) -> Any:
    """As ``div_floor_floating`` (c10/util/generic_math.h)."""
    import torch

    if not _fractions(left, right):
        return NotImplemented
    rest, plain = torch.fmod(left, right), left / right
    quotient = (left - rest) / right
    quotient = torch.where((rest != 0) & ((rest < 0) != (right < 0)), quotient - 1, quotient)
    whole = torch.floor(quotient)
    whole = torch.where(quotient - whole > 0.5, whole + 1, whole)
    if isinstance(right, torch.Tensor):
        return torch.where(right == 0, plain, whole)
    return whole if right else plain


def _divide(left: Any, right: Any, *, rounding_mode: str | None = None) -> Any:
    return _floor_divide(left, right) if rounding_mode == "floor" else NotImplemented


def _fractions(left: Any, right: Any) -> bool:
    """Whether the numbers are floats; of whole ones the exporter's own form is right."""
    return any(
        isinstance(x, float) or (hasattr(x, "is_floating_point") and x.is_floating_point()) for x in (left, right)
    )


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Attention by flags, whose answer to a row without any is 0; the exporter's own takes the mean of all values."""
    import torch

    if enable_gqa:
        groups = query.size(-3) // key.size(-3)
        key, value = (part.repeat_interleave(groups, -3) for part in (key, value))
    factor = query.size(-1) ** -0.5 if scale is None else scale
    scores = query @ key.transpose(-2, -1) * factor
    if attn_mask is None:
        return torch.softmax(scores, -1) @ value
    shares = torch.softmax(scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min), -1)
    return (shares * attn_mask.any(-1, keepdim=True)) @ value
