"""TensorFlow's operators on text, as TextVectorization has them, in ONNX's operators and onnxruntime's Tokenizer.

What TensorFlow gives as flat values beside their rows (ragged) stays so: ``converters.tensorflow.ragged`` goes on
from there. Runs inside the sandbox only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from converters.tensorflow.ragged import lengths
from converters.tensorflow.writer import Writer
from edgepack.errors import ConversionError

ML_DOMAIN, RUNTIME_DOMAIN = "ai.onnx.ml", "com.microsoft"
OPERATORS = (
    "StringLower",
    "StaticRegexReplace",
    "StaticRegexFullMatch",
    "StringJoin",
    "StringSplitV2",
    "StringNGrams",
    "UnicodeDecode",
    "UnicodeEncode",
)
PAD = "\uffff\uffff"  # two noncharacters, which no text has
WORD = r"[^ \t\n\v\f\r]+"  # TensorFlow's white space is that of ASCII
SENTENCES = 40  # of how many words
PREPARE = "prepare the text before the model, which then takes numbers of words"


def handlers(only_split: frozenset[str]) -> dict[str, Callable[[Any, Any], None]]:
    """By operator what writes it; ``only_split`` are the operators whose text is only split at white space later."""
    return {
        "StringLower": _lower,
        "StaticRegexReplace": lambda ctx, node: _replace(ctx, node, node.name in only_split),
        "StaticRegexFullMatch": _full_match,
        "StringJoin": _join,
        "StringSplitV2": _split,
        "StringNGrams": _ngrams,
        "UnicodeDecode": _decode,
        "UnicodeEncode": _encode,
        "Equal": lambda ctx, node: _equal(ctx, node, negated=False),
        "NotEqual": lambda ctx, node: _equal(ctx, node, negated=True),
    }


def only_split(definition: Any) -> frozenset[str]:
    """The operators of a graph whose text is lowered, cleared of single characters and split at white space only."""
    readers: dict[str, list[Any]] = {}
    for node in definition.node:
        for name in node.input:
            readers.setdefault(name.partition(":")[0].lstrip("^"), []).append(node)
    constants = {node.name: node for node in definition.node if node.op == "Const"}

    def is_split(node: Any) -> bool:
        if node.op == "StringSplitV2":
            separator = constants.get(node.input[1])
            return separator is not None and separator.attr["value"].tensor.string_val[:] in ([], [b""])
        if node.op == "StaticRegexReplace":
            pattern, by = node.attr["pattern"].s.decode("utf-8", "replace"), node.attr["rewrite"].s
            return _kind(pattern) == "character" and not by.strip() and passes(node)
        return node.op in ("StringLower", "Squeeze", "Reshape", "Identity", "ExpandDims") and passes(node)

    def passes(node: Any) -> bool:
        return all(map(is_split, readers.get(node.name, ()))) and bool(readers.get(node.name))

    return frozenset(node.name for node in definition.node if node.op == "StaticRegexReplace" and passes(node))


def is_text(node: Any) -> bool:
    """Whether a node of TensorFlow's needs what ONNX has for text since opset 20."""
    string = 7  # DT_STRING of TensorFlow's types.proto
    return node.op in OPERATORS or (node.op in ("Equal", "NotEqual") and node.attr["T"].type == string)


def sentences(words: Sequence[str]) -> list[str]:
    """Texts of these words, in which white space, punctuation, capitals and letters beyond ASCII matter."""
    made = ["", " ", "...", "ÄÖÜ äöü", "İΣς", "\u00a0\u2003"]
    for number, word in enumerate(words[:SENTENCES]):
        second, third = words[(number * 7 + 1) % len(words)], words[(number * 13 + 2) % len(words)]
        made += [
            f"{word} {second} {third}",
            f" {word.upper()},{second.title()}  {third}! ",
            f"{word}\t{second[:1]}-{second[1:]}\n{word}.{third}",
            f"<br />{word}<br /><br />{second}'s (\u00e9{third})",
        ]
    return made


def _refused(what: str, hint: str = PREPARE) -> ConversionError:
    return ConversionError(f"the model {what}, which has no exact ONNX form", hint=hint)


def _kind(pattern: str) -> str | None:
    """``character`` for a pattern of one character of a class, ``plain`` for another that matches without context.

    None for all others: what stands around, alternatives, or nothing at all would decide.
    """
    from re import _constants, _parser  # type: ignore[attr-defined]

    try:
        parsed = list(_parser.parse(pattern))
    except re.error:  # RE2 has classes that Python's expressions lack
        return None
    single = (_constants.LITERAL, _constants.IN, _constants.NOT_LITERAL)
    if len(parsed) == 1 and parsed[0][0] in single:
        return "character"
    if len(parsed) == 1 and parsed[0][0] is _constants.MAX_REPEAT:
        least, most, inner = parsed[0][1]
        if least == 1 and most is _constants.MAXREPEAT and len(inner) == 1 and inner[0][0] in single:
            return "plain"
    return "plain" if parsed and all(operator in single for operator, _ in parsed) else None


def _lower(ctx: Any, node: Any) -> None:
    if node.get_attr_value("encoding", b"") not in (b"", ""):
        raise _refused(
            "lowers text as UTF-8", "lower it as Keras does, with tf.strings.lower(text), or before the model"
        )
    writer = Writer(ctx, node)
    text = writer.inputs[0]
    flat = writer.node("Reshape", [text, writer.whole([-1])])
    # In the locale C only the letters of ASCII have a small form, as in TensorFlow.
    lowered = writer.node("StringNormalizer", [flat], case_change_action="LOWER", is_case_sensitive=1, locale="C")
    writer.last("Reshape", [lowered, writer.node("Shape", [text])])


def _replace(ctx: Any, node: Any, split_later: bool) -> None:
    """What a pattern matches becomes another text: the pieces between the matches are joined with that.

    A Tokenizer leaves out empty pieces, which matters unless nothing is put in, or white space before a split.
    """
    pattern, by = _decoded(node.get_attr_value("pattern")), _decoded(node.get_attr_value("rewrite"))
    kind = _kind(pattern)
    if kind is None or "\\" in by or not node.get_attr_value("replace_global", 1):
        raise _refused(
            f"replaces by the regular expression {pattern!r}", f"use a plain class of characters, or {PREPARE}"
        )
    if by and kind != "character" and (by.strip(" \t\n\v\f\r") or not split_later):
        raise _refused(f"replaces {pattern!r} by {by!r}", f"replace it by nothing, or {PREPARE}")
    writer = Writer(ctx, node)
    text = writer.inputs[0]
    flat = writer.node("Reshape", [text, writer.whole([-1])])
    if by and kind == "character":
        pieces = _tokenized(writer, flat, separators=[""])
        matches = writer.node("RegexFullMatch", [pieces], pattern=pattern)
        pieces = writer.node("Where", [matches, writer.text(by), pieces])
        by = ""
    else:
        pieces = _tokenized(writer, flat, separators=[pattern])
    writer.last("Reshape", [_joined(writer, pieces, by), writer.node("Shape", [text])])


def _full_match(ctx: Any, node: Any) -> None:
    """Both are RE2's."""
    pattern = _decoded(node.get_attr_value("pattern"))
    writer = Writer(ctx, node)
    writer.last("RegexFullMatch", writer.inputs, pattern=pattern)


def _join(ctx: Any, node: Any) -> None:
    """Texts of one shape, or single ones, behind each other."""
    separator = _decoded(node.get_attr_value("separator", b""))
    writer = Writer(ctx, node)
    joined = writer.inputs[0]
    for text in writer.inputs[1:]:
        joined = writer.node("StringConcat", [_with(writer, joined, separator), text])
    writer.last("Identity", [joined])


def _tokenized(writer: Writer, flat: str, **attributes: Any) -> str:
    """The tokens of each text, filled up with ``PAD``; shape (rows, tokens)."""
    return writer.node("Tokenizer", [flat], domain=RUNTIME_DOMAIN, mark=0, mincharnum=1, pad_value=PAD, **attributes)


def _known(writer: Writer, tokens: str) -> str:
    """1 for a token, 0 for what fills up."""
    return writer.node(
        "LabelEncoder", [tokens], domain=ML_DOMAIN, keys_strings=[PAD], values_int64s=[0], default_int64=1
    )


def _joined(writer: Writer, pieces: str, by: str) -> str:
    """The pieces of each row as one text, ``by`` between them: neighbours are joined until there is one; (rows,)."""
    from onnx import TensorProto

    some = writer.node("Cast", [_known(writer, pieces)], to=TensorProto.BOOL)
    if by:
        later = writer.node(
            "Cast", [writer.node("CumSum", [_known(writer, pieces), writer.whole(1)], exclusive=1)], to=9
        )
        pieces = writer.node("Where", [later, writer.node("StringConcat", [writer.text(by), pieces]), pieces])
    pieces = writer.node("Where", [some, pieces, writer.text("")])
    rows = writer.node("Slice", [writer.node("Shape", [pieces]), writer.whole([0]), writer.whole([1])])
    one = writer.node("Concat", [rows, writer.whole([1])], axis=0)
    pieces = writer.node("Concat", [pieces, writer.node("Expand", [writer.text(""), one])], axis=1)
    columns = writer.node("Squeeze", [writer.node("Slice", [writer.node("Shape", [pieces]), *_ends(writer)])])
    # Of n columns one is left after as many halvings as n has binary digits.
    halvings = writer.node("Ceil", [writer.node("Div", [_log(writer, columns), _log(writer, writer.whole(2))])])
    times = writer.int64(writer.node("Add", [halvings, writer.constant(1, TensorProto.DOUBLE)]))
    joined = writer.loop(_halving(writer.inner()), times, pieces)
    return writer.node("Reshape", [joined, writer.whole([-1])])


def _ends(writer: Writer) -> tuple[str, str]:
    return writer.whole([1]), writer.whole([2])


def _log(writer: Writer, name: str) -> str:
    return writer.node("Log", [writer.double(name)])


def _halving(body: Any) -> Any:
    """The body of the loop: every second column joined with the next, an empty one behind the last of an odd number."""
    import numpy as np
    from onnx import TensorProto
    from tf2onnx.utils import make_name

    def add(operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        return str(body.make_node(operator, list(inputs), attr=attributes, name=make_name(operator)).output[0])

    def constant(value: Any, dtype: Any = np.int64) -> str:
        return str(body.make_const(make_name("constant"), np.array(value, dtype=dtype)).output[0])

    round_, again, pieces = (make_name(name) for name in ("round", "again", "pieces"))
    body.add_graph_input(round_, TensorProto.INT64, [])
    body.add_graph_input(again, TensorProto.BOOL, [])
    body.add_graph_input(pieces, TensorProto.STRING, [-1, -1])
    shape = add("Shape", [pieces])
    columns = add("Slice", [shape, constant([1]), constant([2])])
    more = add(
        "Concat", [add("Slice", [shape, constant([0]), constant([1])]), add("Mod", [columns, constant([2])])], axis=0
    )
    even = add("Concat", [pieces, add("Expand", [constant("", object), more])], axis=1)
    end, axis, step = constant([np.iinfo(np.int64).max]), constant([1]), constant([2])
    halves = [add("Slice", [even, constant([start]), end, axis, step]) for start in (0, 1)]
    joined, go_on = make_name("joined"), make_name("go_on")
    body.make_node("StringConcat", halves, outputs=[joined], name=make_name("StringConcat"))
    body.make_node("Identity", [again], outputs=[go_on], name=make_name("Identity"))
    body.add_graph_output(go_on, TensorProto.BOOL, [])
    body.add_graph_output(joined, TensorProto.STRING, [-1, -1])
    return body


def _split(ctx: Any, node: Any) -> None:
    """Words at white space: the row and the place of each, the words, and how many rows and places there are."""
    separator = node.inputs[1]
    if not separator.is_const() or separator.get_tensor_value() not in ("", b"", [""], [b""]):
        raise _refused("splits text at a separator of its own", f"split at white space (sep=None), or {PREPARE}")
    if node.get_attr_value("maxsplit", -1) != -1:
        raise _refused("splits text a number of times only", f"split without maxsplit, or {PREPARE}")
    writer = Writer(ctx, node)
    _pieces(writer, _tokenized(writer, writer.inputs[0], tokenexp=WORD))


def _pieces(writer: Writer, tokens: str) -> None:
    found = writer.node("NonZero", [_known(writer, tokens)])
    indices = writer.node("Transpose", [found], perm=[1, 0])
    writer.last("Identity", [indices])
    writer.last("GatherND", [tokens, indices], place=1)
    writer.last("Shape", [tokens], place=2)


def _ngrams(ctx: Any, node: Any) -> None:
    """Each row's words, then its pairs of words, and so on, with the separator between."""
    widths = list(node.get_attr("ngram_widths").ints)
    if node.get_attr_value("pad_width", 0) or node.get_attr_value("preserve_short_sequences", 0):
        raise _refused("makes n-grams beyond the ends of a text", f"use ngrams without padding, or {PREPARE}")
    separator = _decoded(node.get_attr_value("separator", b" "))
    writer = Writer(ctx, node)
    words, splits = writer.inputs[0], writer.int64(writer.inputs[1])
    count = writer.node("Size", [words])
    # One more, for places beyond a row's end.
    words = writer.node("Concat", [words, writer.text([PAD])], axis=0)
    starts, many = lengths(writer, splits)
    most = writer.node("ReduceMax", [writer.node("Concat", [many, writer.whole([0])], axis=0)], keepdims=0)
    place = writer.node("Range", [writer.whole(0), most, writer.whole(1)])
    column = writer.whole([1])
    first = writer.node("Add", [writer.node("Unsqueeze", [starts, column]), place])
    grams, masks = [], []
    for width in widths:
        gram = ""
        for step in range(width):
            index = writer.node("Min", [writer.node("Add", [first, writer.whole(step)]), count])
            word = writer.node("Gather", [words, index])
            gram = writer.node("StringConcat", [_with(writer, gram, separator), word]) if gram else word
        grams.append(gram)
        room = writer.node("Sub", [writer.node("Unsqueeze", [many, column]), writer.whole(width - 1)])
        masks.append(writer.int64(writer.node("Less", [place, room])))
    table, mask = writer.node("Concat", grams, axis=1), writer.node("Concat", masks, axis=1)
    indices = writer.node("Transpose", [writer.node("NonZero", [mask])], perm=[1, 0])
    writer.last("GatherND", [table, indices])
    made = writer.node("ReduceSum", [mask, column], keepdims=0)
    ends = writer.node("CumSum", [made, writer.whole(0)])
    writer.last("Cast", [writer.node("Concat", [writer.whole([0]), ends], axis=0)], place=1, to=writer.kinds[1])


def _with(writer: Writer, text: str, separator: str) -> str:
    return writer.node("StringConcat", [text, writer.text(separator)]) if separator else text


def _decode(ctx: Any, node: Any) -> None:
    """Where the characters of each text begin and end; in the place of a character's code comes its number here.

    ``_encode``, which is all that may read the codes, makes characters of these numbers.
    """
    reading = list(ctx.find_output_consumers(node.output[1]))
    while reading:
        reader = reading.pop()
        if reader.type not in ("ExpandDims", "Unsqueeze", "Reshape", "Shape", "Identity", "UnicodeEncode"):
            raise _refused("reads the codes of characters")
        if reader.type not in ("Shape", "UnicodeEncode"):
            reading += ctx.find_output_consumers(reader.output[0])
    writer = Writer(ctx, node)
    tokens = _tokenized(writer, writer.inputs[0], separators=[""])
    known = _known(writer, tokens)
    ends = writer.node("CumSum", [writer.node("ReduceSum", [known, writer.whole([1])], keepdims=0), writer.whole(0)])
    splits = writer.node("Concat", [writer.whole([0]), ends], axis=0)
    writer.last("Identity", [splits])
    indices = writer.node("Transpose", [writer.node("NonZero", [known])], perm=[1, 0])
    characters = writer.node("GatherND", [tokens, indices])
    numbers = writer.node("Range", [writer.whole(0), writer.node("Size", [characters]), writer.whole(1)])
    writer.last("Cast", [numbers], place=1, to=6)
    ctx.characters = {**getattr(ctx, "characters", {}), node.name: characters}


def _encode(ctx: Any, node: Any) -> None:
    source = node.inputs[0]
    while source.type in ("ExpandDims", "Unsqueeze", "Reshape", "Identity"):
        source = source.inputs[0]
    found = [characters for name, characters in getattr(ctx, "characters", {}).items() if source.name == f"{name}__1"]
    split = node.inputs[1]
    while split.type in ("Identity", "Cast"):
        split = split.inputs[0]
    if len(found) != 1 or split.type not in ("Range", "Loop"):
        raise _refused("makes text of the codes of characters")
    writer = Writer(ctx, node)
    writer.last("Gather", [found[0], writer.int64(writer.inputs[0])], axis=0)


def _equal(ctx: Any, node: Any, *, negated: bool) -> None:
    """Equality of text, which tf2onnx takes for whole numbers."""
    from onnx import TensorProto
    from tf2onnx.onnx_opset.logical import Equal

    if ctx.get_dtype(node.input[0]) != TensorProto.STRING:
        Equal.version_11(ctx, node)
        return
    writer = Writer(ctx, node)
    if negated:
        writer.last("Not", [writer.node("Equal", writer.inputs)])
    else:
        writer.last("Equal", writer.inputs)


def _decoded(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
