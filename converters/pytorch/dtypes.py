"""The types of tensors that a request can hold."""

from __future__ import annotations

from typing import Any

from edgepack.errors import ConversionError

DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")

BFLOAT = "export it as float32 (model.float(), with examples of float32)"
CAST = "let it take float32 and cast inside"
COMPLEX = "let it take the real and the imaginary parts as two inputs of float32, and make torch.complex of them inside"


def dtype_name(name: str, dtype: Any) -> str:
    """numpy's name of an input's dtype. Raises ``ConversionError`` for one that numpy does not have."""
    text = str(dtype).removeprefix("torch.")
    if text not in DTYPES:
        raise ConversionError(
            f"the model's input {name!r} is {text}, which a request cannot hold",
            hint=COMPLEX if text.startswith("complex") else BFLOAT if text == "bfloat16" else CAST,
        )
    return text
