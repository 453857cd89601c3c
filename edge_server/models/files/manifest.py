"""The model manifest beside a converted model: model.manifest.json (schema ``edgepack.model/v1``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edge_server.config.fields import Fields, read_document

SCHEMA = "edgepack.model/v1"
_GRAPH_DTYPES = {"float16": "float16", "float": "float32", "double": "float64", "string": "string", "bool": "bool"}
_GRAPH_DTYPES |= {f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}

# The names of ONNX's element types, as the runtime shows them, and ours.
GRAPH_DTYPES: Mapping[str, str] = MappingProxyType(_GRAPH_DTYPES)
DTYPES = frozenset(_GRAPH_DTYPES.values())


@dataclass(frozen=True)
class InputSpec:
    """One input: ``name`` is what users write, ``graph_name`` what the graph calls it.

    ``shape`` has None for a free axis; a shape that is itself None has any rank. ``columns`` names the last axis of a
    table. ``missing`` is the text that a null stands for; None where null is not a text. ``only`` are the allowed
    values, ``minimum`` and ``maximum`` bound whole numbers; None for no such limit. ``complete`` are positions on the
    last axis at which no number may be missing. ``categories`` are values seen in training, for descriptions. An
    ``unused`` input is not in the graph: it may be given, and changes nothing. An ``optional`` one may be left out.
    """

    name: str
    graph_name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    columns: tuple[str, ...] | None = None
    missing: str | None = None
    only: frozenset[Any] | None = None
    minimum: int | None = None
    maximum: int | None = None
    complete: tuple[int, ...] = ()
    unused: bool = False
    categories: tuple[Any, ...] | None = None
    optional: bool = False

    @property
    def width(self) -> int | None:
        """How many columns a table has; None when the input is not a table or takes any width."""
        return self.shape[1] if self.shape is not None and len(self.shape) == 2 else None


@dataclass(frozen=True)
class OutputSpec:
    """One output: ``name`` is what users read, ``graph_name`` what the graph calls it.

    ``dtype`` and ``shape`` are those of an input; dtype is None where they are unknown, or the output is not a tensor.
    ``role`` is ``label``, ``probabilities``, ``scores`` or ``values``. ``classes`` are the original's, in the order of
    its columns.
    """

    name: str
    graph_name: str
    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None
    role: str = "values"
    classes: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Rejects:
    """What the original model refuses: missing and infinite numbers, those that float32 cannot hold, and no rows."""

    nan: bool = False
    huge: bool = False
    infinity: bool = False
    empty: bool = False


@dataclass(frozen=True)
class Golden:
    """Recorded inputs and outputs that the model must still agree with, within |a-b| <= atol + rtol*|b|."""

    path: Path
    digest: str
    rtol: float
    atol: float


@dataclass(frozen=True)
class Manifest:
    """What the converter says of a model. ``methods`` maps a name to names of outputs.

    ``row_wise``: the answer to a row was seen to be the same in every batch.
    """

    path: Path
    file: str
    minimum_runtime: tuple[int, ...]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    methods: Mapping[str, tuple[str, ...]]
    default_method: str
    rejects: Rejects
    golden: Golden | None
    row_wise: bool = False


def load_manifest(path: Path) -> Manifest:
    """Read the manifest at ``path``; fields that this server does not use are ignored.

    Raises MissingFileError, or ConfigurationError naming every field that is missing or wrong.
    """
    fields = read_document(path, "model manifest", SCHEMA)
    inputs = tuple(_input(entry) for entry in fields.objects("inputs"))
    outputs = tuple(_output(entry) for entry in fields.objects("outputs"))
    for field, names in (("inputs", [i.name for i in inputs]), ("outputs", [o.name for o in outputs])):
        for name in sorted({name for name in names if names.count(name) > 1}):
            fields.add_violation(field, f"name {name!r} more than once")
    default, methods = _methods(fields.object("methods"), {output.name for output in outputs})
    rejects = fields.object("rejects")
    manifest = Manifest(
        path=path,
        file=fields.take("file", str, ""),
        minimum_runtime=_release(fields),
        inputs=inputs,
        outputs=outputs,
        methods=methods,
        default_method=default,
        rejects=Rejects(
            nan=rejects.take("nan", bool, False),
            huge=rejects.take("huge", bool, False, required=False),
            infinity=rejects.take("infinity", bool, False, required=False),
            empty=rejects.take("empty", bool, False, required=False),
        ),
        golden=_golden(fields.object("golden"), path.parent) if fields.has("golden") else None,
        # A model that was not compared with its original is not known to answer row by row.
        row_wise=fields.take("row_wise", bool, False, required=False) and fields.has("parity"),
    )
    fields.finish()
    return manifest


def _input(fields: Fields) -> InputSpec:
    dtype = fields.take("dtype", str, "")
    if dtype and dtype not in DTYPES:
        fields.add_violation("dtype", f"must be one of {', '.join(sorted(DTYPES))}, not {dtype!r}")
    shape = None if "shape" in fields.values and not fields.has("shape") else _shape(fields, required=True)
    columns = fields.strings("columns", required=False)
    if (
        columns is not None
        and shape is not None
        and len(shape) == 2
        and shape[1] is not None
        and len(columns) != shape[1]
    ):
        fields.add_violation("columns", f"has {len(columns)} names for {shape[1]} columns")
    name = fields.take("name", str, "")
    closed = fields.take("closed", bool, False, required=False)
    categories = fields.take("categories", list, [], required=closed)
    return InputSpec(
        name,
        fields.take("graph_name", str, name),
        dtype,
        shape,
        columns,
        missing=fields.take("missing", str, "", required=False) if fields.has("missing") else None,
        only=frozenset(categories) if closed else None,
        minimum=fields.take("minimum", int, 0, required=False) if fields.has("minimum") else None,
        maximum=fields.take("maximum", int, 0, required=False) if fields.has("maximum") else None,
        complete=tuple(fields.take("complete", list, [], required=False)),
        unused=fields.take("unused", bool, False, required=False),
        categories=tuple(categories) or None,
    )


def _shape(fields: Fields, *, required: bool) -> tuple[int | None, ...]:
    shape = fields.take("shape", list, [], required=required)
    sizes = [size for size in shape if size is not None]
    if any(not isinstance(size, int) or isinstance(size, bool) or size < 0 for size in sizes):
        fields.add_violation("shape", f"must hold whole numbers and null, not {shape!r:.60}")
        return ()
    return tuple(shape)


def _output(fields: Fields) -> OutputSpec:
    name = fields.take("name", str, "")
    return OutputSpec(
        name,
        fields.take("graph_name", str, name),
        fields.take("dtype", str, "") if fields.has("dtype") else None,
        _shape(fields, required=False) if fields.has("shape") else None,
        fields.take("role", str, "values", required=False),
        tuple(fields.take("classes", list, [])) if fields.has("classes") else None,
    )


def _methods(fields: Fields, outputs: set[str]) -> tuple[str, dict[str, tuple[str, ...]]]:
    default = fields.take("default", str, "")
    methods = {}
    for name in fields.values:
        if name == "default":
            continue
        answers = fields.strings(name) or ()
        if not answers:
            fields.add_violation(name, "must name at least one output")
        for answer in answers:
            if answer not in outputs:
                fields.add_violation(name, f"names the output {answer!r}, which is not among the outputs")
        methods[name] = answers
    if default and default not in methods:
        fields.add_violation("default", f"names the method {default!r}, which is not among the methods")
    return default, methods


def _release(fields: Fields) -> tuple[int, ...]:
    text = fields.take("minimum_runtime", str, "0", required=False)
    release = re.match(r"\d+(\.\d+)*", text)
    if release is None:
        fields.add_violation("minimum_runtime", f"must be a version such as '1.17', not {text!r}")
        return ()
    return tuple(int(part) for part in release[0].split("."))


def _golden(fields: Fields, folder: Path) -> Golden:
    file = fields.take("file", str, "")
    if "/" in file or file in (".", ".."):
        fields.add_violation("file", f"must be a file name beside the manifest, not {file!r}")
    digest = fields.take("digest", str, "")
    if digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        fields.add_violation("digest", f"must be sha256: and 64 hexadecimal digits, not {digest!r:.80}")
    tolerances = [fields.take(name, float, 0.0) for name in ("rtol", "atol")]
    if min(tolerances) < 0:
        fields.add_violation("rtol", "and atol must not be negative")
    return Golden(folder / file, digest, *tolerances)
