"""One ONNX model: its session, its inputs, its answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_state

from edge_server.errors import BadRequest
from edge_server.models.bodies import payload
from edge_server.models.bodies.answers import Form, Write, writer, writer_in_form
from edge_server.models.bodies.frames import Columns, columns_of, listed
from edge_server.models.bodies.large import LARGE_BYTES, read_rows
from edge_server.models.bodies.media import Media, is_json
from edge_server.models.bodies.tensors import Reader, check_rows
from edge_server.models.files.manifest import InputSpec, Manifest, Rejects
from edge_server.models.files.operators import EmptyAxes
from edge_server.models.running.call import ModelCall, kind_of
from edge_server.models.running.no_rows import call_without_rows, check_empty_axes
from edge_server.models.running.signature import inputs_of, outputs_of, shared_lengths

if TYPE_CHECKING:
    from edge_server.http.messages import Request
    from edge_server.models.bodies.tensors import Array

# The runtime's prefix and source location in its messages.
_NOISE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |\S*/\S*:\d+ |\S*\.(?:cc|h):\d+ ")
_NO_MEMORY = "Failed to allocate"


class DoesNotFitError(BadRequest):
    """The graph cannot be run on these arrays; ``reason`` are the engine's own words."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the model does not take these inputs: {reason}")
        self.reason = reason


class OnnxModel:
    """A loaded model; its calls may come from several threads at once.

    ``inputs`` and ``outputs`` have the users' names. ``methods`` are those that a request may name (empty without a
    manifest), ``default_method`` is the one of a request without, ``manifest`` is the converter's or None. ``formats``
    are the media types beside JSON of which a whole body may be the input. ``threads`` work on one run. ``joinable``:
    rows of several calls may be one run, because each is answered as it is alone. ``bounded``: the cost of a run
    depends on the size of the request only, not on its values. ``sample`` is a row that the model takes. The
    loader sets all four. ``rejects`` is what the original refuses. ``classes`` are those of outputs that have them, by
    name.
    """

    def __init__(self, path: Path, session: Any, manifest: Manifest | None) -> None:
        self.path = path
        self.manifest = manifest
        self.threads = 1
        self.joinable = False
        self.bounded = False
        self.sample: Mapping[str, Array] = {}
        # The session's own run checks names again, which has been done here.
        self._run = getattr(session, "_sess", session).run
        if manifest is None:
            self.inputs: Sequence[InputSpec] = inputs_of(path, session)
            self.outputs = outputs_of(path, session)
            self.methods: Mapping[str, tuple[str, ...]] = {}
            self.default_method: str | None = None
        else:
            self.inputs = manifest.inputs
            self.outputs = manifest.outputs
            self.methods = manifest.methods
            self.default_method = manifest.default_method
        self.rejects = Rejects() if manifest is None else manifest.rejects
        # Not the model itself, or a circle of references would keep it in memory.
        self.empty_axes = EmptyAxes(path)
        self._readers = {
            spec.name: Reader(spec, self.rejects, self.empty_axes) for spec in self.inputs if not spec.unused
        }
        self._unused = {spec.name for spec in self.inputs if spec.unused}
        self._needed = [name for name, reader in self._readers.items() if not reader.spec.optional]
        # The usual case: one input.
        self._single = next(iter(self._readers.values())) if len(self.inputs) == len(self._readers) == 1 else None
        self._columns = Columns.of(self.inputs)
        self._symbols = shared_lengths(session, {spec.graph_name: spec.name for spec in self.inputs})
        self._divisible = all(
            reader.spec.shape is not None and reader.spec.shape[:1] == (None,) for reader in self._readers.values()
        )
        self._graph_inputs = {spec.name: spec.graph_name for spec in self.inputs}
        self._graph_outputs = {output.name: output.graph_name for output in self.outputs}
        by_name = {output.name: output for output in self.outputs}
        self._answers: dict[str | None, tuple[tuple[str, ...], Write]] = {
            method: (names, writer([by_name[name] for name in names])) for method, names in self.methods.items()
        }
        if manifest is None:
            self._answers[None] = (tuple(by_name), writer(self.outputs))
        else:
            self._answers[None] = self._answers[manifest.default_method]
        self._default = self._answers[None]
        self.classes = {output.name: output.classes for output in self.outputs if output.classes}
        plain = self._divisible and not self._symbols and self._single is not None and self._single.rank == 2
        self._table = self._single if plain else None
        # Where all tables are of one width, so is the kind of their calls.
        width = None if self._table is None else self._table.spec.width
        self._table_kind = width and kind_of({self.inputs[0].name: np.empty((0, width))}, self._default[0])
        self._media = Media(self._readers)
        self.formats = self._media.types

    def read(self, request: Request) -> ModelCall:
        """The run that a request to /score asks for.

        Raises BadRequest, 400 for what does not fit the model, naming row and column, and 415 for a content type
        that it does not take.
        """
        kind = request.content_type
        if kind is None or kind == b"application/json" or is_json(kind):
            body = request.body
            if len(body) > LARGE_BYTES:
                large = self._read_large(body)
                if large is not None:
                    return large
            document = payload.load(body)
            table = self._table
            if table is not None and len(document) == 1:
                # Nearly every request has this form; the other forms take longer.
                data = document.get("data")
                if type(data) is list and data and type(data[0]) is list:
                    arrays = {table.spec.name: table.read(data)}
                    outputs, write = self._default
                    return ModelCall(arrays, outputs, len(data), self._table_kind or kind_of(arrays, outputs), write)
            asked = payload.interpret(document)
            return self.call(self.arrays(asked), asked.method)
        arrays, method = self._media.read(kind, request.body, request.query)
        return self.call(self.checked(arrays), method)

    @property
    def only_input(self) -> InputSpec | None:
        """The one input that a request has to have, which a whole body may be; None where there are several."""
        return self._media.spec

    def arrays(self, asked: payload.ParsedBody) -> dict[str, Array]:
        """Arrays by input name of a parsed body; BadRequest when they do not fit the model."""
        return self.rows(asked.data, asked.field) if asked.inputs is None else self.named(asked.inputs)

    def rows(self, data: Any, field: str = "data") -> dict[str, Array]:
        """Arrays by input name, from JSON rows or a data frame; several tables share the columns of a row.

        ``field`` is what the client calls them.
        """
        if type(data) is dict or (type(data) is list and data and type(data[0]) is dict):
            data = self._framed(data, field)
            if type(data) is dict:
                return self.named(data)
        if self._single is not None:
            spec = self._single.spec
            array = self._single.read(data)
            if self._symbols:
                self._check_symbols({spec.name: array})
            return {spec.name: array}
        return self._split(data, field)

    def named(self, values: Mapping[str, Any]) -> dict[str, Array]:
        """Arrays by input name, from JSON values by input name; all required ones, and no others."""
        self._check_names(values)
        return self._together({name: reader.read(values[name]) for name, reader in self._given(values)})

    def checked(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays by input name, checked like values of JSON: names, types, shapes, values, rows.

        Arrays of strings are of dtype object. Raises BadRequest naming the input, row and column.
        """
        if self._table is not None and len(arrays) == 1 and self._table.spec.name in arrays:
            name = self._table.spec.name
            return {name: self._table.check(arrays[name])}
        self._check_names(arrays)
        return self._together({name: reader.check(arrays[name]) for name, reader in self._given(arrays)})

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str], options: Any = None) -> list[Any]:
        """The named outputs' values for arrays by input name.

        ``options`` are the runtime's RunOptions, by which a run is stopped from another thread. Raises DoesNotFitError
        when the graph cannot take these arrays; the runtime's other errors pass through.
        """
        names = self._graph_inputs
        feeds = {names[name]: array for name, array in arrays.items()}
        try:
            values: list[Any] = self._run([self._graph_outputs[name] for name in outputs], feeds, options)
        except (runtime_state.InvalidArgument, runtime_state.Fail, runtime_state.RuntimeException) as error:
            shown = str(error)
            if _NO_MEMORY in shown or (options is not None and options.terminate):
                raise
            raise DoesNotFitError(_NOISE.sub("", first_line(error))) from None
        return values

    @cached_property
    def _example(self) -> dict[str, Any]:
        from edge_server.models.bodies.example import example_body

        return example_body(self.inputs, self.manifest, self._columns)

    def example(self) -> dict[str, Any]:
        """A body for POST /score: the first of the golden inputs, else one made from the model's inputs."""
        return self._example

    @cached_property
    def example_answer(self) -> Any:
        """The answer to ``example``, as parsed JSON; None where the model cannot answer a made-up one."""
        import orjson

        asked = payload.parse(orjson.dumps(self.example()))
        try:
            call = self.call(self.arrays(asked), asked.method)
            return orjson.loads(call.write(self.run(call.arrays, call.outputs)).body)
        except BadRequest:
            return None

    def _read_large(self, body: bytes) -> ModelCall | None:
        single = self._single
        if single is None or single.rank != 2 or self._symbols:
            return None
        rows = read_rows(body, single)
        return None if rows is None else self.call({single.spec.name: rows}, None)

    def call(self, arrays: dict[str, Array], method: str | None, form: Form | None = None) -> ModelCall:
        """The run of these arrays for a method, the usual one where that is None, answered in /score's form or another.

        BadRequest for a method that the model does not have.
        """
        found = self._answers.get(method)
        if found is None:
            if not self.methods:
                raise BadRequest("this model has no methods; leave 'method' out")
            raise BadRequest(f"unknown method {method!r:.80}; the model has {listed(self.methods)}")
        outputs, write = found
        if form is not None:
            by_name = {output.name: output for output in self.outputs}
            write = writer_in_form([by_name[name] for name in outputs], form)
        rows = None
        if self._divisible:
            lengths = {len(array) for array in arrays.values()}
            rows = lengths.pop() if len(lengths) == 1 else None
            if rows == 0:
                return call_without_rows(self, arrays, outputs, write)
        if rows is None:
            check_empty_axes(self, arrays)
        return ModelCall(arrays, outputs, rows, kind_of(arrays, outputs), write)

    def _framed(self, data: Any, field: str) -> Any:
        """Rows in the model's order, or values by input name, from a table with names."""
        if self._columns is not None:
            return self._columns.rows(data, field)
        if isinstance(data, dict) and data.keys() <= self._readers.keys() | self._unused:
            return data
        raise BadRequest(f"'{field}' names columns, and the model has none; it takes {listed(self._readers)}")

    def _split(self, data: Any, field: str) -> dict[str, Array]:
        """Rows of a model with several tables, whose columns follow each other."""
        widths = [columns_of(spec, len(self.inputs)) for spec in self.inputs]
        known = [width for width in widths if width is not None]
        if len(known) != len(widths):
            raise BadRequest(f"'{field}' fits a model of one input; give 'inputs' with {listed(self._readers)}")
        total = sum(known)
        if not isinstance(data, list):
            raise BadRequest(f"'{field}' must be a list of rows")
        if not data:
            return {name: reader.read([]) for name, reader in self._readers.items()}
        if set(map(type, data)) != {list} or set(map(len, data)) != {total}:
            for number, row in enumerate(data):
                if not isinstance(row, list):
                    shown = "is not a list; a row must be a list of values, even a single row"
                    raise BadRequest(f"row {number} of '{field}' {shown}")
                if len(row) != total:
                    raise BadRequest(f"row {number} of '{field}' has {len(row)} values, the model takes {total}")
        arrays = {}
        columns = list(zip(*data, strict=True))
        start = 0
        for spec, width in zip(self.inputs, known, strict=True):
            end = start + width
            reader = self._readers.get(spec.name)
            if reader is not None and width == 1:
                shape = (len(data), 1) if spec.width == 1 else (len(data),)
                arrays[spec.name] = reader.read_flat(columns[start], shape)
            elif reader is not None:
                arrays[spec.name] = reader.read([row[start:end] for row in data])
            start = end
        return arrays

    def _given(self, values: Mapping[str, Any]) -> Iterable[tuple[str, Reader]]:
        return [(name, reader) for name, reader in self._readers.items() if name in values]

    def _check_names(self, values: Mapping[str, Any]) -> None:
        for name in values.keys() - self._readers.keys() - self._unused:
            raise BadRequest(f"unknown input {name!r:.80}; the model takes {listed(self._readers)}")
        for name in self._needed:
            if name not in values:
                raise BadRequest(f"the input {name!r} is missing; the model takes {listed(self._readers)}")

    def _together(self, arrays: dict[str, Array]) -> dict[str, Array]:
        # Without a manifest a graph may have inputs of different lengths.
        if self.manifest is not None and len(arrays) > 1:
            check_rows(arrays)
        if self._symbols:
            self._check_symbols(arrays)
        return arrays

    def _check_symbols(self, arrays: Mapping[str, Array]) -> None:
        """Check that axes of one name have one length: some graphs would silently broadcast the shorter."""
        for symbol, places in self._symbols.items():
            found = [
                (name, axis, arrays[name].shape[axis])
                for name, axis in places
                if name in arrays and axis < arrays[name].ndim
            ]
            if len({size for _, _, size in found}) > 1:
                shown = ", ".join(f"{size} in axis {axis} of '{name}'" for name, axis, size in found)
                raise BadRequest(f"the length {symbol!r} must be the same wherever the model has it, and is {shown}")


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its type."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
