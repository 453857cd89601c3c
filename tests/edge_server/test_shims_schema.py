"""Our inference_schema: the schemas of the original, and conversions that refuse what they cannot read."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.compat.inference_schema.errors import InvalidInput
from edge_server.compat.inference_schema.parameter_types.abstract_parameter_type import AbstractParameterType
from edge_server.compat.inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from edge_server.compat.inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from edge_server.compat.inference_schema.parameter_types.standard_py_parameter_type import (
    StandardPythonParameterType,
)
from edge_server.compat.inference_schema.schema_decorators import input_schema, output_schema
from edge_server.compat.inference_schema.schema_util import (
    get_input_schema,
    get_output_schema,
    get_schemas_dict,
    get_supported_versions,
    is_schema_decorated,
)
from tests.edge_server.support.instructions import instructions
from tests.support.sampling import times

MIXED = pd.DataFrame([{"a": 5.1, "b": "x", "c": 3}])
MOMENTS = pd.DataFrame({"t": pd.to_datetime(["2020-01-02 03:04:05"]), "d": pd.to_timedelta(["1 day"]), "f": [True]})
WHOLE = pd.DataFrame({"age": [1], "rooms": [2]})
TWICE = pd.DataFrame([[1, 2]], columns=["a", "a"])
DATES = pd.DataFrame({"d": pd.to_datetime(["2021-02-03"])})
RECORD = np.dtype([("a", "i4"), ("b", "f8", (2,)), ("c", [("d", "i2"), ("e", "U3")])])

# Each makes a sample of a Numpy (N), Pandas (P) or standard (S) type, of ours or of the original.
SAME: dict[str, Callable[[Any], Any]] = {
    "int64": lambda t: t.N(np.array([[1, 2], [3, 4]])),
    "float32": lambda t: t.N(np.array([1.5], "f4")),
    "float16": lambda t: t.N(np.array([1], "f2")),
    "3d": lambda t: t.N(np.zeros((1, 2, 2))),
    "text array": lambda t: t.N(np.array(["a", "b"])),
    "bytes array": lambda t: t.N(np.array([b"ab"])),
    "uint8": lambda t: t.N(np.array([1], "u1")),
    "uint64": lambda t: t.N(np.array([1], "u8")),
    "int16": lambda t: t.N(np.array([1], "i2")),
    "big endian": lambda t: t.N(np.array([1], ">f8")),
    "spans of days": lambda t: t.N(np.array([5], "m8[D]")),
    "spans of ns": lambda t: t.N(np.array([5000], "m8[ns]")),
    "records": lambda t: t.N(np.array([(1, [1, 2], (3, "q"))], RECORD)),
    "no rows": lambda t: t.N(np.zeros((0, 3))),
    "mixed frame": lambda t: t.P(MIXED),
    "moments": lambda t: t.P(MOMENTS),
    "moments in a zone": lambda t: t.P(pd.DataFrame({"t": pd.to_datetime(["2020-01-02 03:04:05+02:00"])})),
    "categories": lambda t: t.P(pd.DataFrame({"a": pd.Categorical(["x", "y"])})),
    "columns by number": lambda t: t.P(pd.DataFrame([[1, 2.0]])),
    "rows by name": lambda t: t.P(pd.DataFrame({"a": [1, 2]}, index=["r", "s"])),
    "many rows": lambda t: t.P(pd.DataFrame({"a": range(10)})),
    "cells of lists": lambda t: t.P(pd.DataFrame({"a": [[1, 2]], "b": [{"k": 1}]})),
    "nothing first": lambda t: t.P(pd.DataFrame({"a": [None, "x"], "b": [np.nan, 1.0]})),
    "small types": lambda t: t.P(pd.DataFrame({"a": np.array([1], "i1"), "b": np.array([1], "f4")})),
    "string dtype": lambda t: t.P(pd.DataFrame({"a": pd.array(["q"], dtype="string")})),
    "no frame rows": lambda t: t.P(pd.DataFrame({"a": []})),
    **{
        f"{orient} of {name}": lambda t, orient=orient, frame=frame: t.P(frame, orient=orient)
        for orient in ("split", "index", "columns", "values", "table")
        for name, frame in (("mixed", MIXED), ("moments", MOMENTS))
    },
    "int": lambda t: t.S(5),
    "float": lambda t: t.S(5.5),
    "str": lambda t: t.S("x"),
    "bool": lambda t: t.S(True),
    "list": lambda t: t.S([1, 2]),
    "list of several types": lambda t: t.S([1, "a"]),
    "list of lists": lambda t: t.S([[1], ["a"]]),
    "empty list": lambda t: t.S([]),
    "empty dict": lambda t: t.S({}),
    "tuple": lambda t: t.S((1, 2)),
    "range": lambda t: t.S(range(3)),
    "dict": lambda t: t.S({"a": 1, "b": "x", "c": [1.5], "d": {"e": True}}),
    "list of dicts": lambda t: t.S([{"a": 1}, {"b": "x"}]),
    "date": lambda t: t.S(dt.date(2020, 1, 2)),
    "datetime": lambda t: t.S(dt.datetime(2020, 1, 2, 3, 4, 5, 6)),  # noqa: DTZ001
    "datetime in a zone": lambda t: t.S(dt.datetime(2020, 1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=2)))),
    "time": lambda t: t.S(dt.time(3, 4, 5)),
    "bytes": lambda t: t.S(b"ab"),
    "dates within": lambda t: t.S({"d": [dt.date(2020, 1, 2)]}),
    "numbers as keys": lambda t: t.S({1: 2}),
    "nested": lambda t: t.S({"n": t.N(np.array([[1, 2]])), "p": t.P(MIXED), "s": t.S("x"), "g": 4}),
    "list of types": lambda t: t.S([t.P(MIXED)]),
    "deeply nested": lambda t: t.S({"a": {"b": t.N(np.array([1])), "c": [t.S(1)]}}),
}
# Where ours has examples that can be posted: booleans, moments, NaN, and nulls that say nothing of a type.
OTHER: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "booleans": (lambda t: t.N(np.array([True])), {"example": [True]}),
    "moments": (lambda t: t.N(np.array(["2020-01-01T10"], "M8[s]")), {"example": ["2020-01-01T10:00:00"]}),
    "NaN": (lambda t: t.N(np.array([np.nan, 1])), {"example": [None, 1.0]}),
    "objects": (lambda t: t.N(np.array(["a", 1], object)), {"example": ["a", 1]}),
    "null last": (lambda t: t.S([1, None]), {"items": {"type": "integer", "format": "int64"}}),
}


class Types:
    """The three types of one implementation."""

    def __init__(self, package: str) -> None:
        types = f"{package}.parameter_types"
        self.N = importlib.import_module(f"{types}.numpy_parameter_type").NumpyParameterType
        self.P = importlib.import_module(f"{types}.pandas_parameter_type").PandasParameterType
        self.S = importlib.import_module(f"{types}.standard_py_parameter_type").StandardPythonParameterType
        decorators = importlib.import_module(f"{package}.schema_decorators")
        self.input_schema, self.output_schema = decorators.input_schema, decorators.output_schema
        self.util = importlib.import_module(f"{package}.schema_util")


OURS = Types("edge_server.compat.inference_schema")


@pytest.fixture(scope="module")
def original() -> Types:
    """The real package."""
    try:
        return Types("inference_schema")
    except ImportError:
        if os.environ.get("EDGEPACK_REQUIRE_REAL") == "1":
            pytest.fail("a real part is missing: inference-schema", pytrace=False)
        pytest.skip("not installed: inference-schema")


@pytest.mark.parametrize("name", SAME)
def test_schemas_are_those_of_the_original(name: str, original: Types) -> None:
    ours, theirs = SAME[name](OURS), SAME[name](original)
    assert ours.input_to_swagger() == theirs.input_to_swagger()
    assert ours.supported_versions() == theirs.supported_versions()


@pytest.mark.parametrize("name", OTHER)
def test_schemas_differ_from_the_original_where_its_examples_fail(name: str, original: Types) -> None:
    make, change = OTHER[name]
    assert make(OURS).input_to_swagger() == {**make(original).input_to_swagger(), **change}
    assert make(OURS).input_to_swagger() != make(original).input_to_swagger()


POSTED: list[tuple[Callable[[Any], Any], Any]] = [
    (SAME["int64"], [[1, 2]]),
    (SAME["int64"], [[1.9, "2"]]),
    (SAME["int64"], [[True, False]]),
    (SAME["float32"], [None]),
    (SAME["float32"], ["1.5"]),
    (SAME["3d"], [[[1, 2], [3, 4]]]),
    (SAME["spans of days"], ["5 days"]),
    (SAME["mixed frame"], [{"a": 5, "b": 7, "c": 3.0}]),
    (SAME["mixed frame"], [{"a": "5.5", "b": "x", "c": 3.9}]),
    (SAME["mixed frame"], {"a": [1], "b": ["x"], "c": [3]}),
    (SAME["mixed frame"], [{"a": None, "b": None, "c": 3}]),
    (SAME["mixed frame"], [[1.5, "x", 3]]),
    (SAME["mixed frame"], [{"a": 5, "b": "x", "z": 3}]),
    (SAME["columns by number"], [{"0": 1, "1": 2}]),
    (SAME["columns by number"], [[1, 2.5]]),
    (SAME["categories"], [{"a": "x"}, {"a": "z"}]),
    (SAME["moments"], [{"t": "2020-01-02 03:04:05", "d": "1 day", "f": False}]),
    (SAME["split of mixed"], {"columns": ["a", "b", "c"], "index": [7], "data": [[1, "x", 2]]}),
    (SAME["index of mixed"], {"0": {"a": 1, "b": "x", "c": 2}}),
    (SAME["columns of mixed"], {"a": {"0": 1}, "b": {"0": "x"}, "c": {"0": 2}}),
    (lambda t: t.P(MIXED, apply_column_names=True), [[1, "x", 2]]),
    (lambda t: t.P(MIXED, apply_column_names=True), [{"x": 1, "y": "x", "z": 2}]),
    (lambda t: t.P(MIXED, enforce_column_type=False), [{"a": "x", "b": 1, "c": 2}]),
    (lambda t: t.P(MIXED, enforce_shape=False), [{"a": 1}]),
    (lambda t: t.P(MIXED, enforce_shape=False), [{"a": 1, "b": "x", "c": 2, "d": 5}]),
    # Names that the sample has not, as many as it has.
    (lambda t: t.P(WHOLE), [{"Age": 30.7, "rooms": 2}]),
    (lambda t: t.P(WHOLE, enforce_shape=False), [{"Age": 30.7, "rooms": 2}]),
    (lambda t: t.P(WHOLE, orient="split"), {"columns": ["rooms", "Age"], "data": [[2.5, 30.7]]}),
    (lambda t: t.P(WHOLE, orient="index"), {"0": {"Age": 30.7, "rooms": 2}}),
    (lambda t: t.P(WHOLE, orient="columns"), {"Age": {"0": 30.7}, "rooms": {"0": 2}}),
    (lambda t: t.P(WHOLE, orient="values"), [[30.7, 2.5]]),
    (lambda t: t.P(WHOLE, orient="values", apply_column_names=True), [[30.7, 2.5]]),
    # A name that the sample has twice.
    (lambda t: t.P(TWICE, orient="split"), {"columns": ["a", "a"], "data": [[1, 2.5]]}),
    (lambda t: t.P(TWICE, orient="split", apply_column_names=True), {"columns": ["a", "a"], "data": [[1, 2]]}),
    (lambda t: t.P(TWICE, orient="values", apply_column_names=True), [[1, 2]]),
    # No rows.
    (lambda t: t.N(np.array([1.0])), []),
    (lambda t: t.N(np.array([[1.0, 2.0]]), enforce_shape=False), []),
    (lambda t: t.N(np.array([[1.0, 2.0]]), enforce_shape=False), [[], []]),
    (lambda t: t.P(WHOLE), {"age": [], "rooms": []}),
    (lambda t: t.P(WHOLE, orient="split"), {"columns": ["age", "rooms"], "data": []}),
    (lambda t: t.P(WHOLE, enforce_shape=False), []),
    # Dates in the forms that people write.
    *((lambda t: t.P(DATES), [{"d": text}]) for text in ("03/02/2021", "25/12/2021", "Feb 3 2021", "20210203")),
    (lambda t: t.P(DATES), [{"d": "03/02/2021"}, {"d": "2021-12-25"}]),
    *((SAME["datetime"], text) for text in ("03/02/2021", "25/12/2021 10:20", "Feb 3 2021")),
    (lambda t: t.N(np.array([[1, 2]]), enforce_shape=False), [1]),
    (lambda t: t.N(np.array([[1, 2]]), enforce_column_type=False), [["1", "2"]]),
    (SAME["float"], 5),
    (SAME["time"], "03:04:05"),
    (SAME["bytes"], "YWI="),
    (SAME["dict"], {"zz": 1}),
]


@pytest.mark.parametrize(("make", "posted"), POSTED)
def test_values_are_converted_as_by_the_original(make: Any, posted: Any, original: Types) -> None:
    ours, theirs = make(OURS).deserialize_input(posted), make(original).deserialize_input(posted)
    assert type(ours) is type(theirs)
    if isinstance(ours, pd.DataFrame):
        pd.testing.assert_frame_equal(ours, theirs)
    elif isinstance(ours, np.ndarray):
        np.testing.assert_array_equal(ours, theirs, strict=True)
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", [name for name in SAME if name not in ("no frame rows", "no rows", "range")])
def test_every_example_works_when_it_is_posted(name: str) -> None:
    kind = SAME[name](OURS)
    kind.deserialize_input(kind.input_to_swagger()["example"])


@pytest.mark.parametrize("name", OTHER)
def test_examples_that_differ_work_when_they_are_posted(name: str) -> None:
    kind = OTHER[name][0](OURS)
    given, sample = kind.deserialize_input(kind.input_to_swagger()["example"]), kind.sample_input
    np.testing.assert_array_equal(given, sample)


REFUSED = [
    (SAME["int64"], [[1, 2, 3]], "row 0 has 3 columns, where the sample has 2"),
    (SAME["int64"], [1, 2], r"has 1 dimensions \(shape \(2,\)\), where the sample has 2"),
    (SAME["int64"], [[1, 2], [3]], "row 1 has 1 values, where row 0 has 2"),
    (SAME["int64"], [[1, 2], 3], "row 1 is 3, where row 0 is an array"),
    (SAME["int64"], [None, []], "row 1 is an array, where row 0 is null"),
    (SAME["int64"], [[1, 2], [3, "q"]], r"row 1, column 1 does not take 'q' \(int64\)"),
    (SAME["int64"], [[None, 2]], "row 0, column 0 does not take null"),
    (SAME["int64"], [[2**70, 2]], "row 0, column 0 does not take 1180591620717411303424"),
    (SAME["int64"], [[{"x": 1}, 2]], "row 0, column 0 does not take an object"),
    (SAME["int64"], "q", "must be an array, not 'q'"),
    (SAME["int64"], {"a": 1}, "must be an array, not an object"),
    (SAME["uint8"], [1, 300], "row 1 does not take 300"),
    (SAME["float32"], [1, 1e300], r"row 1 does not take 1e\+300 \(float32\)"),
    (SAME["spans of days"], ["soon"], "row 0 does not take 'soon'"),
    (SAME["bytes array"], ["?"], "row 0 does not take '\\?'"),
    (OTHER["booleans"][0], ["maybe"], "row 0 does not take 'maybe'"),
    (OTHER["moments"][0], ["today or so"], "row 0 does not take 'today or so'"),
    (SAME["records"], [{"a": 1}], "row 0 lacks the field 'b'"),
    (SAME["mixed frame"], [{"a": 1, "b": "x", "c": 1}, {"a": "q", "b": "x", "c": 1}], "row 1, column 'a' .* 'q'"),
    (SAME["mixed frame"], [{"a": 1, "b": "x", "c": None}], r"row 0, column 'c' does not take null \(int64\)"),
    (SAME["mixed frame"], [{"a": [1, 2], "b": "x", "c": 1}], "row 0, column 'a' does not take an array"),
    (SAME["mixed frame"], [{"a": 1}], "has 1 columns, where the sample has 3; it lacks 'b', 'c'"),
    (SAME["mixed frame"], [{"a": 1, "b": 1, "c": 1, "d": 1}], "it does not know 'd'"),
    (SAME["mixed frame"], [[1, "x", 1], [2, "y"]], "row 1 has 2 values, where row 0 has 3"),
    (SAME["mixed frame"], [{"a": 1, "b": "x", "c": 1}, 5], "row 1 must be an object, not 5"),
    (SAME["mixed frame"], {"a": [1], "b": ["x", "y"], "c": [1]}, "column 'b' has 2 values, where the first has 1"),
    (SAME["mixed frame"], {"a": 1, "b": "x", "c": 3}, "column 'a' must be an array of values, not 1"),
    (SAME["mixed frame"], None, "must be an array of rows, not null"),
    (SAME["small types"], [{"a": 300, "b": 1}], r"row 0, column 'a' does not take 300 \(int8\)"),
    (SAME["small types"], [{"a": 3, "b": 1e300}], r"row 0, column 'b' does not take 1e\+300 \(float32\)"),
    (SAME["moments"], [{"t": "soon", "d": "1 day", "f": True}], "row 0, column 't' does not take 'soon'"),
    (SAME["split of mixed"], [{"a": 1}], "must be an object of the orient 'split', not an array"),
    (SAME["split of mixed"], {"columns": ["a"], "data": [[1, 2]]}, "row 0 has 2 values, where there are 1 columns"),
    (SAME["split of mixed"], {"columns": "abc", "data": [[1, 2]]}, "columns must be an array of names"),
    (SAME["split of mixed"], {"columns": ["a", "a", "b"], "data": [[1, 2, 3]]}, "columns has a name twice"),
    (SAME["split of mixed"], {"columns": ["a", "b", "c"], "data": 5}, "data must be an array of rows"),
    (SAME["split of mixed"], {"index": [1, 2], "data": [[1, 2, 3]]}, "index must have 1 labels"),
    (SAME["table of mixed"], {"data": [{"a": 1}]}, "has 1 columns"),
    (SAME["int"], 5.0, "must be a whole number, not a number"),
    (SAME["str"], None, "must be a string, not null"),
    (SAME["date"], "soon", "must be a date, not 'soon'"),
    (SAME["date"], "03/02/2021 10:20", "must be a date"),
    (SAME["datetime"], "10:20", "must be a datetime, not '10:20'"),
    (SAME["datetime"], "March 2021", "must be a datetime"),
    (lambda t: t.P(DATES), [{"d": "03/02/2021"}, {"d": "soon"}], "row 1, column 'd' does not take 'soon'"),
    (SAME["bytes"], "?", "must be base64"),
    (SAME["dict"], [], "must be an object, not an array"),
    (SAME["nested"], {"n": [[1, 2, 3]]}, "n: row 0 has 3 columns"),
    (SAME["list of types"], [[{"a": 1, "b": "x", "c": "q"}]], "0: row 0, column 'c' does not take 'q'"),
]


@pytest.mark.parametrize(("make", "posted", "message"), REFUSED)
def test_what_does_not_fit_is_refused_with_its_place(make: Any, posted: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make(OURS).deserialize_input(posted)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "c", "data"]), inner, max_size=4)
    ),
    max_leaves=12,
)
KINDS = [SAME[name](OURS) for name in SAME if "records" not in name] + [make(OURS) for make, _ in OTHER.values()]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=times(150, 100), deadline=None)
@given(st.sampled_from(KINDS), JSON)
def test_no_json_makes_any_other_error(kind: AbstractParameterType, posted: Any) -> None:
    with contextlib.suppress(InvalidInput):
        kind.deserialize_input(posted)


def test_deep_nesting_is_refused() -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    for name in ("int64", "mixed frame", "float32"):
        with pytest.raises(InvalidInput):
            SAME[name](OURS).deserialize_input(deep)


@pytest.mark.parametrize(
    ("text", "day", "clock"),
    [
        ("03/02/2021", (2021, 3, 2), (0, 0)),
        ("25/12/2021", (2021, 12, 25), (0, 0)),
        ("2021/12/25 10:20", (2021, 12, 25), (10, 20)),
    ],
)
def test_a_date_in_figures_is_read_without_pandas(
    monkeypatch: pytest.MonkeyPatch, text: str, day: tuple[int, ...], clock: tuple[int, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "dateutil.parser", None)
    assert SAME["datetime"](OURS).deserialize_input(text) == dt.datetime(*day, *clock)  # type: ignore[arg-type,misc]  # noqa: DTZ001


def test_text_is_not_cut_to_the_samples_length() -> None:
    assert NumpyParameterType(np.array(["a"])).deserialize_input(["longer"]).tolist() == ["longer"]


def test_columns_by_name_come_in_the_samples_order() -> None:
    kind = PandasParameterType(MIXED, apply_column_names=True)
    frame = kind.deserialize_input([{"c": 1, "b": "x", "a": 2.5}])
    assert frame.to_dict("list") == {"a": [2.5], "b": ["x"], "c": [1]}
    assert list(frame) == ["a", "b", "c"]


def test_dates_and_times_are_read_in_the_form_of_their_examples() -> None:
    for sample in (
        dt.date(2020, 1, 2),
        dt.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
        dt.time(3, 4, tzinfo=dt.UTC),
    ):
        kind = StandardPythonParameterType(sample)
        assert kind.deserialize_input(kind.input_to_swagger()["example"]) == sample


def _functions(types: Types) -> list[Callable[..., Any]]:
    @types.input_schema("data", types.N(np.array([[1, 2]])))
    @types.output_schema(types.N(np.array([1.0])))
    def one(data: Any) -> Any:
        return data

    @types.input_schema("a", types.N(np.array([1])))
    @types.input_schema("b", types.P(MIXED))
    @types.input_schema("c", types.S("x"), optional=True)
    def several(a: Any, b: Any, c: str = "d") -> Any:
        return a, b, c

    @types.output_schema(types.S({"Results": types.N(np.array([1.0]))}))
    @types.input_schema("GlobalParameters", types.S({"method": "predict"}), optional=True)
    @types.input_schema("Inputs", types.S({"data": types.P(MIXED, orient="split")}))
    def global_parameters(Inputs: Any, GlobalParameters: Any = None) -> Any:  # noqa: N803 - Azure's names
        return Inputs, GlobalParameters

    def plain(data: Any) -> Any:
        return data

    return [one, several, global_parameters, plain]


def test_functions_are_described_as_by_the_original(original: Types) -> None:
    for ours, theirs in zip(_functions(OURS), _functions(original), strict=True):
        assert get_input_schema(ours) == original.util.get_input_schema(theirs)
        assert get_output_schema(ours) == original.util.get_output_schema(theirs)
        assert get_supported_versions(ours) == original.util.get_supported_versions(theirs)
        assert is_schema_decorated(ours) == original.util.is_schema_decorated(theirs)
    assert get_schemas_dict()[f"{__name__}._functions.<locals>.one"] == {
        "input_schema": get_input_schema(_functions(OURS)[0]),
        "output_schema": get_output_schema(_functions(OURS)[0]),
    }


def test_arguments_are_converted_by_name_and_by_position() -> None:
    one, several, global_parameters, _ = _functions(OURS)
    assert isinstance(one([[1, 2]]), np.ndarray)
    a, b, c = several([1], b=[{"a": 1, "b": "x", "c": 2}])
    assert isinstance(a, np.ndarray)
    assert isinstance(b, pd.DataFrame)
    assert c == "d"
    inputs, parameters = global_parameters(Inputs={"data": {"columns": ["a", "b", "c"], "data": [[1, "x", 2]]}})
    assert isinstance(inputs["data"], pd.DataFrame)
    assert parameters is None
    assert list(inspect.signature(several).parameters) == ["a", "b", "c"]
    with pytest.raises(InvalidInput, match="b: must be an array of rows, not 'q'"):
        several([1], "q")
    with pytest.raises(InvalidInput, match="b is missing"):
        several([1])


def test_a_functions_own_default_is_left_alone() -> None:
    @input_schema("count", StandardPythonParameterType(1))
    def run(count: Any = "all") -> Any:
        return count

    assert run(count="all") == "all"
    assert run() == "all"
    with pytest.raises(InvalidInput, match="count: must be a whole number"):
        run(count="some")


def test_an_async_function_stays_one() -> None:
    @input_schema("data", NumpyParameterType(np.array([1])))
    async def run(data: Any) -> Any:
        return data

    assert inspect.iscoroutinefunction(run)
    assert asyncio.run(run([5])).tolist() == [5]


def test_a_type_of_the_scripts_own_converts() -> None:
    class Celsius(AbstractParameterType):
        def deserialize_input(self, input_data: Any) -> float:
            if input_data["unit"] != "F":
                raise ValueError("only F")
            return (input_data["value"] - 32) / 1.8  # type: ignore[no-any-return]

        def input_to_swagger(self) -> dict[str, Any]:
            return {"type": "object", "example": {"unit": "F", "value": 212}}

    @input_schema("heat", Celsius(1.0))
    def run(heat: Any) -> Any:
        return heat

    assert run({"unit": "F", "value": 212}) == pytest.approx(100)
    with pytest.raises(InvalidInput, match="heat: only F"):
        run({"unit": "K"})


def test_wrong_decorators_fail_where_they_stand() -> None:
    with pytest.raises(ValueError, match="'zz', which is not a parameter of "):
        input_schema("zz", StandardPythonParameterType(1))(lambda a: a)
    with pytest.raises(TypeError, match="must be a parameter type"):
        input_schema("a", 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a parameter type"):
        output_schema(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a numpy array, not list"):
        NumpyParameterType([1])
    with pytest.raises(ValueError, match="orient must be one of"):
        PandasParameterType(MIXED, orient="sideways")


@pytest.mark.parametrize(
    ("make", "posted", "times"),
    [
        (lambda t: t.N(np.zeros((1, 20))), [[1.5] * 20], 1.4),
        (lambda t: t.P(pd.DataFrame(np.zeros((1, 20)))), [[1.5] * 20], 50),
        (SAME["mixed frame"], [{"a": 5.1, "b": "x", "c": 3}], 9),
    ],
)
def test_a_small_conversion_takes_a_fraction_of_the_originals_steps(
    make: Callable[[Any], Any], posted: Any, times: float, original: Types
) -> None:
    ours, theirs = make(OURS), make(original)
    steps = instructions(lambda: ours.deserialize_input(posted))
    assert steps * times < instructions(lambda: theirs.deserialize_input(posted))
