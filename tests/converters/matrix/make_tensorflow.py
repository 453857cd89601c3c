"""``python make_tensorflow.py OUT_DIR``: the models of ``tensorflow_models.py`` with their answers, for the matrix.

Runs in TensorFlow's own environment. Adds ``answers.npz`` beside each model: ``0/in/NAME`` and ``0/out/NAME`` of a
first batch, and so on.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "programs"))

WORDS = np.array(["", "a", "cat", "Dog", "red fox", "Zürich", "42", "unseen"])
# Tried in turn: the largest whole number, and the length of open axes.
TRIED = [(top, length) for top in (1000, 40, 9, 4, 2, 1) for length in (12, 7, 32, 64)]


def main(arguments: list[str]) -> int:
    """Write the models, then their answers."""
    import tensorflow_models

    out = Path(arguments[0])
    tensorflow_models.main([str(out)])
    judged = []
    for entry in json.loads((out / "index.json").read_text()):
        try:
            if entry["expect"] == "converts":
                call, specs, outputs = _load(out / entry["path"], entry["options"])
                np.savez(out / entry["name"] / "answers.npz", **_batches(call, specs, outputs))
        except RuntimeError as error:  # a vocabulary that nothing drawn here is in: its own tests judge that model
            sys.stderr.write(f"{entry['name']}: {error}\n")
        else:
            judged.append(entry)
    (out / "index.json").write_text(json.dumps(judged))
    return 0


def _load(path: Path, options: Mapping[str, Any]) -> tuple[Callable[..., Any], dict[str, Any], list[str]]:
    """A function of named arrays, the inputs' shapes and types, and the outputs' names in order."""
    import keras
    import tensorflow as tf

    if path.is_dir():
        loaded = tf.saved_model.load(str(path))
        name = options.get("signature") or "serving_default"
        function = loaded.signatures[name if name in loaded.signatures else next(iter(loaded.signatures))]
        specs = {key: (spec.shape, spec.dtype) for key, spec in function.structured_input_signature[1].items()}

        def call(feeds: Mapping[str, Any]) -> Any:
            _keep = loaded
            return function(**{key: tf.constant(feeds[key], dtype=specs[key][1]) for key in specs})

        return call, specs, list(function.structured_outputs)
    if path.suffix != ".keras" and path.suffix.lower() == ".keras":  # Keras knows the ending in small letters only
        path = Path(shutil.copy(path, path.with_suffix(".small.keras")))
    model = keras.models.load_model(path, compile=False, safe_mode=not options.get("allow_unsafe", False))
    specs = {tensor.name: (tf.TensorShape(tensor.shape), tf.as_dtype(tensor.dtype)) for tensor in model.inputs}
    names = [str(name) for name in getattr(model, "output_names", ())]

    def call_keras(feeds: Mapping[str, Any]) -> Any:
        tensors = [tf.constant(feeds[key], dtype=specs[key][1]) for key in specs]
        packed = len(tensors) > 1 or isinstance(getattr(model, "_inputs_struct", None), dict)
        answer = model(keras.tree.pack_sequence_as(model._inputs_struct, tensors) if packed else tensors[0])
        return dict(zip(names, keras.tree.flatten(answer), strict=False))

    inner = getattr(model, "_functional", None)
    names = names or [str(name) for name in getattr(inner, "output_names", ())]
    # The outputs of one layer have one name.
    names = [f"{name}_{names[:at].count(name)}" if name in names[:at] else name for at, name in enumerate(names)]
    return call_keras, specs, names


def _batches(call: Any, specs: Mapping[str, Any], outputs: list[str]) -> dict[str, Any]:
    failure: Exception | None = None
    for top, length in TRIED:
        try:
            arrays: dict[str, Any] = {}
            for number, rows in enumerate((16, 1, 5)):
                random = np.random.default_rng(number)
                feeds = {name: _draw(shape, dtype, rows, top, length, random) for name, (shape, dtype) in specs.items()}
                answers = call(feeds)
                arrays |= {f"{number}/in/{name}": _plain(array) for name, array in feeds.items()}
                arrays |= {f"{number}/out/{name}": _plain(np.asarray(answers[name])) for name in outputs}
            return arrays
        except Exception as error:  # noqa: BLE001 - the model takes no such numbers or lengths; the next may do
            failure = error
    raise RuntimeError("the model takes nothing that was tried") from failure


def _draw(shape: Any, dtype: Any, rows: int, top: int, length: int, random: Any) -> Any:
    axes = tuple(
        (rows if place == 0 else length) if axis is None else axis for place, axis in enumerate(shape.as_list())
    )
    if dtype.name == "string":
        return WORDS[random.integers(0, len(WORDS), axes)].astype(object)
    if dtype.is_bool:
        return random.random(axes) < 0.5
    if dtype.is_integer:
        return random.integers(0, top + 1, axes).astype(dtype.as_numpy_dtype)
    return random.standard_normal(axes).astype(dtype.as_numpy_dtype)


def _plain(array: Any) -> Any:
    """Text as numpy's own, which needs no pickle."""
    if array.dtype == object:
        return np.vectorize(lambda cell: cell.decode() if isinstance(cell, bytes) else str(cell), otypes=[str])(array)
    return array if array.dtype.name != "bfloat16" else array.astype(np.float32)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
