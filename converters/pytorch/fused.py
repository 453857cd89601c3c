"""The fused kernels of transformers, which a trace in eval mode records and which have no ONNX form, as plain ones."""

from __future__ import annotations

from typing import Any

from converters.pytorch.operators import UnsupportedOperatorError


def encoder_layer(
    source: Any,
    width: int,
    heads: int,
    qkv_weight: Any,
    qkv_bias: Any,
    out_weight: Any,
    out_bias: Any,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Any,
    norm_bias_1: Any,
    norm_weight_2: Any,
    norm_bias_2: Any,
    ffn_weight_1: Any,
    ffn_bias_1: Any,
    ffn_weight_2: Any,
    ffn_bias_2: Any,
    mask: Any = None,
    mask_type: int | None = None,
) -> Any:
    """``aten::_transformer_encoder_layer_fwd`` (ATen/native/transformers) for [batch, length, width]."""
    from torch.nn import functional

    def first_norm(x: Any) -> Any:
        return functional.layer_norm(x, (width,), norm_weight_1, norm_bias_1, eps)

    def second_norm(x: Any) -> Any:
        return functional.layer_norm(x, (width,), norm_weight_2, norm_bias_2, eps)

    def attend(x: Any) -> Any:
        answer, _ = attention(
            x, x, x, width, heads, qkv_weight, qkv_bias, out_weight, out_bias, mask, False, True, mask_type
        )
        return answer

    def feed(x: Any) -> Any:
        hidden = functional.linear(x, ffn_weight_1, ffn_bias_1)
        hidden = functional.gelu(hidden) if use_gelu else functional.relu(hidden)
        return functional.linear(hidden, ffn_weight_2, ffn_bias_2)

    if norm_first:
        source = source + attend(first_norm(source))
        return source + feed(second_norm(source))
    source = first_norm(source + attend(source))
    return second_norm(source + feed(source))


def attention(
    query: Any,
    key: Any,
    value: Any,
    width: int,
    heads: int,
    qkv_weight: Any,
    qkv_bias: Any,
    out_weight: Any,
    out_bias: Any,
    mask: Any = None,
    need_weights: bool = True,
    average_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Any, Any]:
    """``aten::_native_multi_head_attention`` (ATen/native/transformers) for [batch, length, width].

    Raises ``UnsupportedOperatorError`` for a mask of both kinds at once.
    """
    import torch
    from torch.nn import functional

    weights, biases = qkv_weight.chunk(3), qkv_bias.chunk(3)

    def split(x: Any, part: int) -> Any:
        return functional.linear(x, weights[part], biases[part]).unflatten(-1, (heads, width // heads)).transpose(1, 2)

    queries, keys, values = split(query, 0), split(key, 1), split(value, 2)
    scores = queries @ keys.transpose(2, 3) * (width // heads) ** -0.5
    if mask is not None:
        if mask_type == 1:  # [batch, length], True where a key is padding
            mask = mask.unsqueeze(1).unsqueeze(2)
        elif mask_type != 0:
            raise UnsupportedOperatorError(
                "aten::_native_multi_head_attention", "has two masks, which is not supported"
            )
        scores = scores.masked_fill(mask.to(torch.bool), float("-inf"))
    shares = scores.softmax(dim=-1)
    joined = (shares @ values).transpose(1, 2).flatten(2)
    weights = None
    if need_weights:
        weights = shares.mean(dim=1) if average_weights else shares
    return functional.linear(joined, out_weight, out_bias), weights
