"""The original of a conversion: a SavedModel's signature or a Keras model, and what it answers.

Runs inside the sandbox only: reading these files can run code of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.graph.session import DTYPES
from converters.proof.specs import Spec
from edgepack.errors import ConversionError

DEFAULT_SIGNATURE = "serving_default"
RE_EXPORT = "export it where it was made, with model.export(folder), and convert that folder"


@dataclass(frozen=True)
class Original:
    """A function of named tensors; ``folder`` is a SavedModel that holds it as ``signature``.

    ``inputs`` and ``outputs`` have the names that users know and shapes with None for an axis of any length;
    ``exported`` maps those names to the signature's. ``trained_with`` are versions that the file names.
    """

    call: Any
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    folder: Path
    signature: str
    exported: Mapping[str, str]
    trained_with: Mapping[str, str]

    def answer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name; text as ``str``. Raises ``ConversionError`` where the original refuses."""
        import numpy as np

        try:
            answers = self.call(feeds)
            _require_dense(answers)
            results = {name: np.asarray(value) for name, value in answers.items()}
        except ConversionError:
            raise
        except Exception as error:  # TensorFlow's and Keras's errors, or those of the model's own code
            raise ConversionError(
                f"the original fails on the rows it was to be compared on ({reason(error)})",
                hint="give a sample with some rows of its inputs",
            ) from error
        return {name: _text(array) if array.dtype == object else array for name, array in results.items()}


def _require_dense(answers: Mapping[str, Any]) -> None:
    import tensorflow as tf

    for name, value in answers.items():
        if isinstance(value, tf.SparseTensor | tf.RaggedTensor):
            kind = "sparse" if isinstance(value, tf.SparseTensor) else "ragged"
            raise ConversionError(
                f"the output {name!r} is a {kind} tensor, which a scoring server cannot give",
                hint=f"save the model with {kind}=False in the layer that makes it",
            )


@dataclass(frozen=True)
class RowByRow:
    """An original that takes one row, as one that takes many."""

    original: Original

    def answer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The answers to each row, one below the other. Raises ``ConversionError`` as the original does."""
        import numpy as np

        rows = max((len(array) for array in feeds.values()), default=0)
        if not rows:
            raise ConversionError("the original takes one row", hint="give one")
        answers = [
            self.original.answer({name: array[row : row + 1] for name, array in feeds.items()}) for row in range(rows)
        ]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def spec_of(name: str, tensor: Any, *, answered: bool = False) -> Spec:
    """From a TensorSpec or a Keras tensor. Whether one that is ``answered`` is dense, only the answer shows."""
    dtype = tensor.dtype if isinstance(tensor.dtype, str) else tensor.dtype.name
    sparse = getattr(tensor, "sparse", False) or getattr(tensor, "ragged", False)
    if dtype not in DTYPES.values() or (sparse and not answered):
        raise ConversionError(
            f"{name!r} is not a dense tensor of numbers or text", hint="save the model with dense inputs and outputs"
        )
    shape = getattr(tensor, "shape", ())
    if getattr(shape, "rank", 0) is None:
        raise ConversionError(
            f"nothing says how many axes {name!r} has", hint="save the model with an input signature that does"
        )
    return Spec(name, dtype, tuple(None if axis is None else int(axis) for axis in shape))


def _text(array: Any) -> Any:
    import numpy as np

    decoded = [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell for cell in array.reshape(-1)]
    made = np.empty(len(decoded), dtype=object)
    made[:] = decoded
    return made.reshape(array.shape)


def reason(error: BaseException) -> str:
    """What an error of TensorFlow's says, in a line without the place where it was raised."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and "exception encountered" not in line.lower()]
    text = telling[0] if telling else type(error).__name__
    for noise in ("\x1b[1m", "\x1b[0m"):
        text = text.replace(noise, "")
    return text.split(". ")[0].rstrip(".:")[:240]
