"""``python tensorflow_models.py OUT_DIR [NAME …]``: make TensorFlow and Keras models as users save them.

Runs in TensorFlow's own environment. Writes a file or folder for each architecture and ``index.json``, a list of
``{"name", "path", "framework", "options", "expect": "converts" | "refused", "reason"}`` with paths relative to it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

SEED = 11
Maker = Callable[[], Any]
KERAS: dict[str, Maker] = {}
# Other ways to save, and what the converter is asked for: name -> (writer, options, expectation, reason).
OTHERS: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str, str]] = {}


def keras_model(maker: Maker) -> Maker:
    """A function that makes a model to be saved as ``.keras``, and that converts."""
    KERAS[maker.__name__] = maker
    return maker


def kept_as_keras(expect: str = "converts", reason: str = "", **options: Any) -> Callable[[Maker], Maker]:
    """The same for one that is refused, or that is converted with options."""

    def register(maker: Maker) -> Maker:
        def write(folder: Path) -> Path:
            shaken(maker()).save(folder / "m.keras")
            return folder / "m.keras"

        OTHERS[maker.__name__] = (write, options, expect, reason)
        return maker

    return register


def saved(expect: str = "converts", reason: str = "", **options: Any) -> Callable[..., Any]:
    """A function that writes a model into a folder by itself, and returns the path."""

    def register(writer: Callable[[Path], Path]) -> Callable[[Path], Path]:
        OTHERS[writer.__name__] = (writer, options, expect, reason)
        return writer

    return register


def shaken(model: Any) -> Any:
    """Seeded weights that hide nothing: biases, scales and moving statistics are not left at 0 and 1."""
    import numpy as np

    random = np.random.default_rng(SEED)
    for weight in model.weights:
        if weight.dtype.startswith("float"):
            noise = random.standard_normal(weight.shape) * 0.2
            positive = "var" in weight.name
            weight.assign(np.abs(noise) + 0.5 if positive else np.asarray(weight) + noise)
    return model


# Architectures


@keras_model
def dense_classifier() -> Any:
    import keras
    import numpy as np

    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(16, "relu"), keras.layers.Dropout(0.2), keras.layers.Dense(3, "softmax")]
    )
    random = np.random.default_rng(SEED)
    rows = random.standard_normal((256, 4)).astype("float32")
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(rows, (rows[:, 0] > 0).astype(int) + (rows[:, 1] > 0), epochs=3, verbose=0)
    return model


@keras_model
def binary_sigmoid() -> Any:
    import keras

    return keras.Sequential(
        [keras.layers.Input((6,), name="features"), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1, "sigmoid")]
    )


@keras_model
def several_inputs_and_outputs() -> Any:
    import keras

    layers = keras.layers
    numbers = keras.Input((5,), name="numbers")
    picture = keras.Input((8, 8, 1), name="picture")
    both = layers.Concatenate()([layers.Dense(4, "relu")(numbers), layers.Flatten()(layers.Conv2D(2, 3)(picture))])
    price = layers.Dense(1, name="price")(both)
    kind = layers.Dense(4, "softmax", name="kind")(both)
    return keras.Model([numbers, picture], {"price": price, "kind": kind})


@keras_model
def cnn_with_batch_norm() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(8, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Conv2D(8, 3, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Flatten(),
            layers.Dense(5, "softmax"),
        ]
    )


@keras_model
def mobile_blocks() -> Any:
    import keras

    layers = keras.layers
    picture = keras.Input((24, 24, 3))
    stem = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 3, 2, padding="same")(picture)))
    wide = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same")(layers.Conv2D(16, 1)(stem)))
    block = layers.Add()([stem, layers.Conv2D(8, 1)(wide)])
    block = layers.SeparableConv2D(12, 3, activation="swish")(block)
    return keras.Model(picture, layers.Dense(4, "softmax")(layers.GlobalAveragePooling2D()(block)))


@keras_model
def lstm() -> Any:
    import keras

    return keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(8), keras.layers.Dense(1)])


@keras_model
def bidirectional_gru() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((10, 3)),
            layers.Bidirectional(layers.GRU(6, return_sequences=True)),
            layers.GRU(4),
            layers.Dense(2, "softmax"),
        ]
    )


@keras_model
def text_embedding() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="tokens"),
            layers.Embedding(100, 8),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3, "softmax"),
        ]
    )


@keras_model
def masked_lstm() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((9,), dtype="int32", name="tokens"),
            layers.Embedding(50, 6, mask_zero=True),
            layers.LSTM(5),
            layers.Dense(1, "sigmoid"),
        ]
    )


@keras_model
def transformer_block() -> Any:
    import keras

    layers = keras.layers
    series = keras.Input((10, 16), name="series")
    attended = layers.MultiHeadAttention(2, 8)(series, series)
    first = layers.LayerNormalization()(layers.Add()([series, attended]))
    second = layers.Dense(16)(layers.Dense(32, "gelu")(first))
    out = layers.LayerNormalization()(layers.Add()([first, second]))
    return keras.Model(series, layers.Dense(2, "softmax")(layers.GlobalAveragePooling1D()(out)))


@keras_model
def normalized_regression() -> Any:
    import keras
    import numpy as np

    rows = np.random.default_rng(SEED).normal([1500.0, 3.0, 40.0], [300.0, 1.0, 15.0], (200, 3)).astype("float32")
    scale = keras.layers.Normalization()
    scale.adapt(rows)
    model = keras.Sequential(
        [keras.Input((3,), name="house"), scale, keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse")
    model.fit(rows, rows[:, 0] * 0.1 + rows[:, 1], epochs=2, verbose=0)
    return model


@keras_model
def string_lookup() -> Any:
    import keras

    layers = keras.layers
    city = keras.Input((1,), dtype="string", name="city")
    ids = layers.StringLookup(vocabulary=["Paris", "Zürich", "Roma", "Oslo"])(city)
    return keras.Model(city, layers.Dense(2)(layers.Flatten()(layers.Embedding(5, 3)(ids))))


@keras_model
def integer_lookup() -> Any:
    import keras

    layers = keras.layers
    code = keras.Input((1,), dtype="int64", name="code")
    ids = layers.IntegerLookup(vocabulary=[12, 36, 1138, 42])(code)
    return keras.Model(code, layers.Dense(2)(layers.Flatten()(layers.Embedding(5, 3)(ids))))


@keras_model
def one_hot_lookups() -> Any:
    import keras

    layers = keras.layers
    city = keras.Input((1,), dtype="string", name="city")
    code = keras.Input((1,), dtype="int64", name="code")
    parts = [
        layers.StringLookup(vocabulary=["a", "b", "c"], output_mode="one_hot")(city),
        layers.IntegerLookup(vocabulary=[5, 7], output_mode="one_hot")(code),
    ]
    return keras.Model([city, code], layers.Dense(2)(layers.Concatenate()(parts)))


@keras_model
def categories_and_bins() -> Any:
    import keras

    layers = keras.layers
    kind = keras.Input((1,), dtype="int64", name="kind")
    age = keras.Input((1,), name="age")
    parts = [
        layers.CategoryEncoding(num_tokens=6, output_mode="one_hot")(kind),
        layers.CategoryEncoding(num_tokens=5, output_mode="one_hot")(layers.Discretization([0.0, 0.5, 1.5])(age)),
    ]
    return keras.Model([kind, age], layers.Dense(1)(layers.Concatenate()(parts)))


@keras_model
def multi_hot() -> Any:
    import keras

    layers = keras.layers
    tags = keras.Input((4,), dtype="int64", name="tags")
    return keras.Model(tags, layers.Dense(2)(layers.CategoryEncoding(num_tokens=7, output_mode="multi_hot")(tags)))


@keras_model
def counted_lookups() -> Any:
    import keras

    layers = keras.layers
    words = keras.Input((4,), dtype="string", name="words")
    codes = keras.Input((3,), dtype="int64", name="codes")
    return keras.Model(
        [words, codes],
        {
            "tags": layers.StringLookup(vocabulary=["a", "b", "c"], output_mode="multi_hot")(words),
            "counts": layers.IntegerLookup(vocabulary=[5, 7], output_mode="count")(codes),
            "bins": layers.IntegerLookup(vocabulary=[5, 7], num_oov_indices=3)(codes),
        },
    )


@kept_as_keras("refused", "StringToHashBucketFast.*num_oov_indices=1")
def two_bins_of_unknown_words() -> Any:
    import keras

    word = keras.Input((1,), dtype="string", name="word")
    return keras.Model(word, keras.layers.StringLookup(vocabulary=["a", "b"], num_oov_indices=2)(word))


@keras_model
def states_of_free_steps() -> Any:
    import keras

    layers = keras.layers
    steps = keras.Input((None, 6, 2), name="steps")
    each = layers.TimeDistributed(layers.Conv1D(3, 2))(steps)
    series = layers.TimeDistributed(layers.Flatten())(each)
    return keras.Model(steps, layers.LSTM(4, return_state=True, name="memory")(series))


@kept_as_keras("refused", "StringToHashBucketFast.*hash the text")
def hashing() -> Any:
    import keras

    layers = keras.layers
    word = keras.Input((1,), dtype="string", name="word")
    ids = layers.Hashing(num_bins=8)(word)
    return keras.Model(word, layers.Dense(2)(layers.Flatten()(layers.Embedding(8, 3)(ids))))


@keras_model
def text_vectorization() -> Any:
    import keras

    layers = keras.layers
    text = keras.Input((1,), dtype="string", name="text")
    ids = layers.TextVectorization(vocabulary=["good", "bad", "film"], output_sequence_length=5)(text)
    return keras.Model(text, layers.Dense(2)(layers.Flatten()(layers.Embedding(6, 3)(ids))))


@keras_model
def texts_of_every_kind() -> Any:
    import keras

    text = keras.Input((1,), dtype="string", name="text")
    words = ["good", "bad", "film", "dont", "good film"]

    def numbers(**settings: Any) -> Any:
        return keras.layers.TextVectorization(vocabulary=words, **settings)(text)

    return keras.Model(
        text,
        {
            "cut": numbers(output_sequence_length=3),
            "free": numbers(standardize="lower"),
            "hot": numbers(output_mode="multi_hot", standardize="strip_punctuation"),
            "counts": numbers(output_mode="count", ngrams=2),
            "weights": numbers(output_mode="tf_idf", idf_weights=[0.5, 1.0, 2.0, 3.0, 4.0], standardize=None),
            "pairs": numbers(ngrams=(2,), output_sequence_length=2),
            "letters": numbers(split="character", output_sequence_length=4),
            "whole": numbers(split=None, output_mode="count"),
            "masked": keras.layers.StringLookup(vocabulary=words, mask_token="")(text),
        },
    )


@kept_as_keras("refused", "'numbers' is a ragged tensor.*ragged=False")
def ragged_answer() -> Any:
    import keras

    text = keras.Input((1,), dtype="string", name="text")
    return keras.Model(text, keras.layers.TextVectorization(vocabulary=["a"], ragged=True, name="numbers")(text))


@keras_model
def operators_of_few() -> Any:
    import keras

    layers = keras.layers
    codes = keras.Input((3,), dtype="int32", name="codes")
    amounts = keras.Input((3,), name="amounts")
    picture = keras.Input((6, 6, 4), name="picture")
    return keras.Model(
        [codes, amounts, picture],
        {
            "sums": layers.CategoryEncoding(5, output_mode="count")(codes, count_weights=amounts),
            "rest": keras.ops.mod(amounts, -0.7),
            "even": keras.ops.round(amounts * 2),
            "added": keras.ops.scatter(keras.ops.expand_dims(codes[0] % 2, 1), amounts[0], (2,)),
            "groups": layers.Conv2D(4, 3, groups=2)(picture),
            "holes": layers.DepthwiseConv2D(3, dilation_rate=2, padding="same")(picture),
        },
    )


@keras_model
def picture_preparation() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((20, 30, 3), name="picture"),
            layers.Resizing(12, 12),
            layers.Rescaling(1 / 255.0, offset=-0.5),
            layers.CenterCrop(10, 10),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(2, "softmax"),
        ]
    )


@keras_model
def any_size_picture() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None, None, 3), name="picture"),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.UpSampling2D(),
            layers.Conv2DTranspose(2, 3, strides=2, padding="same", activation="sigmoid"),
        ]
    )


@keras_model
def series_and_volumes() -> Any:
    import keras

    layers = keras.layers
    series = keras.Input((20, 3), name="series")
    volume = keras.Input((6, 6, 6, 1), name="volume")
    left = layers.Conv1D(4, 3, dilation_rate=2, padding="causal", activation="elu")(series)
    left = layers.GlobalAveragePooling1D()(layers.SeparableConv1D(4, 3)(layers.AveragePooling1D(2)(left)))
    right = layers.GlobalMaxPooling3D()(layers.MaxPooling3D(2)(layers.Conv3D(3, 2, activation="selu")(volume)))
    return keras.Model([series, volume], layers.Dense(2)(layers.Concatenate()([left, right])))


@keras_model
def activations() -> Any:
    import keras

    layers = keras.layers
    row = keras.Input((12,), name="row")
    names = ("softplus", "softsign", "mish", "hard_sigmoid", "silu", "exponential", "leaky_relu", "relu6", "selu")
    parts = [layers.Activation(name)(layers.Dense(3)(row)) for name in names]
    parts += [layers.PReLU()(row), layers.ELU()(row), layers.Softmax()(row)]
    return keras.Model(row, layers.Dense(2)(layers.Concatenate()(parts)))


@keras_model
def norms_and_shapes() -> Any:
    import keras

    layers = keras.layers
    picture = keras.Input((8, 8, 4), name="picture")
    body = layers.GroupNormalization(2)(layers.ZeroPadding2D(1)(picture))
    body = layers.Permute((3, 1, 2))(layers.Cropping2D(1)(layers.UnitNormalization()(body)))
    body = layers.LayerNormalization()(layers.Reshape((4, 64))(body))
    return keras.Model(picture, layers.Dense(2)(layers.Flatten()(layers.SpatialDropout1D(0.1)(body))))


@keras_model
def conv_lstm() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((4, 6, 6, 1)),
            layers.TimeDistributed(layers.Conv2D(2, 3, padding="same")),
            layers.ConvLSTM2D(2, 3, padding="same"),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )


@keras_model
def double_precision() -> Any:
    import keras

    layers = keras.layers
    row = keras.Input((5,), dtype="float64", name="row")
    return keras.Model(row, layers.Dense(1, dtype="float64")(layers.Dense(8, "tanh", dtype="float64")(row)))


@kept_as_keras("refused", "cannot export the model.*symbolic")
def resized_any_size_picture() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential([keras.Input((None, None, 3)), layers.UpSampling2D(interpolation="bilinear")])


@keras_model
def grey_picture() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((20, 14, 1), dtype="uint8", name="picture"),
            layers.Rescaling(1 / 255.0),
            layers.Resizing(10, 10),
            layers.Flatten(),
            layers.Dense(3, "softmax"),
        ]
    )


@keras_model
def awkward_names() -> Any:
    import keras

    layers = keras.layers
    age = keras.Input((1,), name="annual income (k€)")
    flag = keras.Input((2,), dtype="bool", name="is it?")
    both = layers.Concatenate()([age, flag])
    return keras.Model({"b": age, "a": flag}, [layers.Dense(1, name="left")(both), layers.Dense(2, name="right")(both)])


@keras_model
def known_words_only() -> Any:
    import keras

    layers = keras.layers
    size = keras.Input((1,), dtype="string", name="size")
    ids = layers.StringLookup(vocabulary=["small", "medium", "large"], num_oov_indices=0)(size)
    return keras.Model(size, layers.Dense(2)(layers.Flatten()(layers.Embedding(3, 3)(ids))))


@keras_model
def words_as_answer() -> Any:
    import keras

    layers = keras.layers
    number = keras.Input((1,), dtype="int64", name="number")
    return keras.Model(number, layers.StringLookup(vocabulary=["no", "perhaps"], invert=True, name="word")(number))


@kept_as_keras("refused", r"operator Bitcast.*use tf\.argmax")
def keras_argmax() -> Any:
    import keras

    row = keras.Input((4,), name="row")
    return keras.Model(row, keras.ops.argmax(keras.layers.Dense(3)(row), axis=-1))


def _half_precision() -> Any:
    import keras

    layers = keras.layers
    row = keras.Input((5,), name="row")
    hidden = layers.Dense(8, "relu", dtype="mixed_float16")(row)
    return keras.Model(row, layers.Dense(2, dtype="float32", name="out")(hidden))


@kept_as_keras("refused", '"out" of the ONNX model does not match.*--tolerance out=')
def half_precision() -> Any:
    return _half_precision()


@kept_as_keras(tolerances={"out": 0.05})
def half_precision_accepted() -> Any:
    return _half_precision()


# Other ways to save


def _subclassed() -> Any:
    import keras

    class Tower(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.hidden = keras.layers.Dense(8, "relu")
            self.out = keras.layers.Dense(2, "softmax")

        def call(self, inputs: Any) -> Any:
            return self.out(self.hidden(inputs))

    return Tower()


@saved()
def subclassed_export(folder: Path) -> Path:
    import keras
    import numpy as np

    model = _subclassed()
    model(np.zeros((1, 5), "float32"))
    shaken(model).export(
        folder / "m", input_signature=[keras.InputSpec(shape=(None, 5), dtype="float32")], verbose=False
    )
    return folder / "m"


@saved()
def subclassed_with_one_row(folder: Path) -> Path:
    import numpy as np
    import tensorflow as tf

    model = _subclassed()
    model(np.zeros((1, 5), "float32"))
    tf.saved_model.save(shaken(model), str(folder / "m"))
    return folder / "m"


def _two_signatures(folder: Path) -> Path:
    import numpy as np
    import tensorflow as tf

    random = np.random.default_rng(SEED)

    class Raw(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.weights = tf.Variable(random.standard_normal((3, 2)).astype("float32"))

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])  # type: ignore[untyped-decorator]
        def scores(self, x: Any) -> Any:
            return {"score": tf.linalg.matmul(x, self.weights), "norm": tf.norm(x, axis=1)}

        @tf.function(  # type: ignore[untyped-decorator]
            input_signature=[
                tf.TensorSpec([None, 3], tf.float32, name="a"),
                tf.TensorSpec([], tf.float32, name="power"),
            ]
        )
        def powers(self, a: Any, power: Any) -> Any:
            return {"powers": tf.abs(a) ** power, "largest": tf.argmax(a, axis=1)}

    module = Raw()
    tf.saved_model.save(
        module, str(folder / "m"), signatures={"serving_default": module.scores, "powers": module.powers}
    )
    return folder / "m"


@saved()
def raw_default_signature(folder: Path) -> Path:
    return _two_signatures(folder)


@saved(signature="powers")
def raw_other_signature(folder: Path) -> Path:
    return _two_signatures(folder)


@saved("refused", "powers, serving_default", signature="nope")
def raw_wrong_signature(folder: Path) -> Path:
    return _two_signatures(folder)


@saved()
def exact_erf(folder: Path) -> Path:
    import tensorflow as tf

    class Erf(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return {"erf": tf.math.erf(x), "erfc": tf.math.erfc(x), "gelu": tf.nn.gelu(x, approximate=False)}

    module = Erf()
    tf.saved_model.save(module, str(folder / "m"), signatures=module.__call__)
    return folder / "m"


def _raw(folder: Path, function: Callable[[Any], Any], shape: tuple[int | None, ...] = (None, 6)) -> Path:
    """A SavedModel of one function of a float32 tensor ``x``."""
    import tensorflow as tf

    class Raw(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="x")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return {"y": function(x)}

    module = Raw()
    tf.saved_model.save(module, str(folder / "m"), signatures=module.__call__)
    return folder / "m"


@saved()
def arithmetic(folder: Path) -> Path:
    import tensorflow as tf

    def function(x: Any) -> Any:
        positive = x * x
        parts = [
            tf.math.log1p(positive),
            tf.math.expm1(-positive),
            tf.math.xlogy(tf.nn.relu(x), positive),
            tf.math.xlog1py(tf.nn.relu(x), positive),
            tf.math.xdivy(tf.nn.relu(x), x),
            tf.cast(tf.truncatemod(tf.cast(x * 10, tf.int32), 3), tf.float32),
            tf.cast(tf.math.floormod(tf.cast(x * 10, tf.int32), 3), tf.float32),
            tf.cast(tf.math.floordiv(tf.cast(x * 10, tf.int32), -3), tf.float32),
            tf.math.floormod(x, 0.75),
            tf.cast(tf.searchsorted(tf.tile([[-1.0, 0.0, 1.0]], [tf.shape(x)[0], 1]), x), tf.float32),
            tf.one_hot(tf.cast(x[:, 0] * 3, tf.int32), 5),
            tf.math.reduce_euclidean_norm(x, axis=1, keepdims=True),
        ]
        return tf.concat(parts, axis=1)

    return _raw(folder, function)


@saved()
def grey_picture_of_a_row(folder: Path) -> Path:
    import tensorflow as tf

    return _raw(folder, lambda x: tf.image.resize(tf.reshape(x, [-1, 2, 3, 1]), (4, 5)))


@saved("refused", "operator MatrixInverse, which has no ONNX form")
def no_such_operator_in_onnx(folder: Path) -> Path:
    import tensorflow as tf

    return _raw(folder, lambda x: tf.linalg.inv(x + 5.0 * tf.eye(3)), (None, 3, 3))


@saved()
def joined_texts(folder: Path) -> Path:
    import tensorflow as tf

    module = tf.Module()

    def answer(text: Any) -> dict[str, Any]:
        joined = tf.strings.join([text, "x", text], separator="-")
        return {"joined": joined, "letters": tf.strings.regex_full_match(text, "[a-z]+")}

    module.answer = tf.function(answer, input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    tf.saved_model.save(module, str(folder / "m"), signatures=module.answer)
    return folder / "m"


@saved("refused", "otherwise each time.*training=False")
def random_answers(folder: Path) -> Path:
    import tensorflow as tf

    return _raw(folder, lambda x: x + tf.random.normal(tf.shape(x)))


@saved("refused", "the operator MyMult, which TensorFlow does not have")
def operator_of_an_extension(folder: Path) -> Path:
    path = _raw(folder, lambda x: x @ [[1.0]] * 6, (None, 1))
    file = path / "saved_model.pb"
    file.write_bytes(file.read_bytes().replace(b"MatMul", b"MyMult"))
    return path


@saved()
def saved_by_tensorflow_1(folder: Path) -> Path:
    import numpy as np
    import tensorflow as tf

    old = tf.compat.v1
    with tf.Graph().as_default(), old.Session() as session:
        x = old.placeholder(tf.float32, [None, 3], name="rows")
        weights = old.get_variable("w", initializer=np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2))
        scores = tf.nn.softmax(x @ weights)
        session.run(old.global_variables_initializer())
        old.saved_model.simple_save(session, str(folder / "m"), {"rows": x}, {"scores": scores})
    return folder / "m"


@saved()
def in_the_text_form(folder: Path) -> Path:
    import numpy as np
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    path = _raw(folder, lambda x: x @ np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2))
    file = path / "saved_model.pb"
    document = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    (path / "saved_model.pbtxt").write_text(text_format.MessageToString(document))
    file.unlink()
    return path


@saved("refused", "no signatures.*signatures=function")
def without_signatures(folder: Path) -> Path:
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(folder / "m"))
    return folder / "m"


def _dense(**extra: Any) -> Any:
    import keras

    return keras.Sequential([keras.Input((3,)), *extra.get("layers", ()), keras.layers.Dense(2)])


@saved()
def ending_in_capitals(folder: Path) -> Path:
    shaken(_dense()).save(folder / "m.keras")
    return (folder / "m.keras").rename(folder / "m.KERAS")


@saved("refused", r"\.h5 file is unsafe")
def h5_file(folder: Path) -> Path:
    shaken(_dense()).save(folder / "m.h5")
    return folder / "m.h5"


@saved("refused", r"\.h5 file is unsafe.*tf\.saved_model\.save")
def h5_file_of_keras_2(folder: Path) -> Path:
    import h5py

    with h5py.File(h5_file(folder), "r+") as file:
        file.attrs["keras_version"] = "2.15.0"
    return folder / "m.h5"


@saved(allow_unsafe=True)
def h5_file_allowed(folder: Path) -> Path:
    return h5_file(folder)


@saved("refused", "Lambda layer.*unsafe")
def lambda_layer(folder: Path) -> Path:
    import keras

    shaken(_dense(layers=[keras.layers.Lambda(lambda x: x * 2)])).save(folder / "m.keras")
    return folder / "m.keras"


@saved(allow_unsafe=True)
def lambda_layer_allowed(folder: Path) -> Path:
    return lambda_layer(folder)


@saved("refused", "class of its training script.*Tower.*model.export")
def class_of_the_training_script(folder: Path) -> Path:
    import numpy as np

    model = _subclassed()
    model(np.zeros((2, 5), "float32"))
    model.save(folder / "m.keras")
    return folder / "m.keras"


@saved("refused", r"cannot read this file, saved by Keras 9\.1\.0")
def file_of_another_keras(folder: Path) -> Path:
    path, changed = folder / "m.keras", folder / "changed"
    shaken(_dense()).save(path)
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(changed, "w") as after:
        for name in before.namelist():
            data = before.read(name)
            if name == "metadata.json":
                data = json.dumps(json.loads(data) | {"keras_version": "9.1.0"}).encode()
            if name == "config.json":
                data = data.replace(b'"units"', b'"width_in_units"')
            after.writestr(name, data)
    return changed.rename(path)


@saved("refused", "not a whole Keras file")
def broken_file(folder: Path) -> Path:
    (folder / "m.keras").write_bytes(b"PK\x03\x04 and then nothing")
    return folder / "m.keras"


def _save_answers(saved_model: Path, path: Path) -> None:
    """For models of fractions: some rows, by input name, and the answers to them as ``answer_0`` and so on."""
    import keras
    import numpy as np

    model = keras.models.load_model(saved_model, compile=False)
    random = np.random.default_rng(SEED)
    if any(not str(tensor.dtype).startswith("float") or None in tensor.shape[1:] for tensor in model.inputs):
        return
    rows = {tensor.name: random.standard_normal((5, *tensor.shape[1:])).astype(tensor.dtype) for tensor in model.inputs}
    given = list(rows.values())
    answers = keras.tree.flatten(model.predict(given if len(given) > 1 else given[0], verbose=0))
    np.savez(path, **rows, **{f"answer_{number}": answer for number, answer in enumerate(answers)})


def main(arguments: list[str]) -> int:
    """Write the models; all of them, or those named after the folder."""
    import keras

    out, chosen = Path(arguments[0]), set(arguments[1:])
    index = []
    for name in (*KERAS, *OTHERS):
        if chosen and name not in chosen:
            continue
        keras.utils.set_random_seed(SEED)
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        options, expect, reason = {}, "converts", ""
        if name in KERAS:
            path = folder / f"{name}.keras"
            shaken(KERAS[name]()).save(path)
            _save_answers(path, folder / "expected.npz")
        else:
            writer, options, expect, reason = OTHERS[name]
            path = writer(folder)
        index.append(
            {
                "name": name,
                "path": str(path.relative_to(out)),
                "framework": "TensorFlow",
                "options": options,
                "expect": expect,
                "reason": reason,
            }
        )
        keras.backend.clear_session(free_memory=False)  # a search for garbage takes longer than most models
    (out / "index.json").write_text(json.dumps(index, indent=1))
    return 0


if __name__ == "__main__":
    gc.set_threshold(200_000, 20, 20)  # as the sandbox's process does
    sys.exit(main(sys.argv[1:]))
