"""Fields of a document: each is what it should be, or a violation that names it."""

from __future__ import annotations

import pytest

from edgepack.documents import Fields, raise_all
from edgepack.errors import InvalidDocumentError, UsageError


def fields(value: object, path: str = "") -> tuple[Fields, list[str]]:
    wrong: list[str] = []
    return Fields(value, path, wrong), wrong


def test_what_is_there_is_taken_and_what_is_not_has_its_default() -> None:
    found, wrong = fields({"a": "x", "b": 2, "c": None})

    assert (found.take("a", str), found.take("b", float), found.take("c", int, 7), found.take("d", int)) == (
        "x", 2.0, 7, None,
    )  # fmt: skip
    found.finish()
    assert wrong == []


@pytest.mark.parametrize(
    ("value", "kind", "word"),
    [
        (1, str, "text"), ("1", int, "a whole number"), (1.0, int, "a whole number"), (True, int, "a whole number"),
        (True, float, "a number"), ("x", list, "a list"), ([], dict, "an object"), (1, bool, "true or false"),
    ],
)  # fmt: skip
def test_another_kind_is_a_violation(value: object, kind: type, word: str) -> None:
    found, wrong = fields({"a": value}, "services[0]")

    assert found.take("a", kind, None) is None
    assert wrong == [f"services[0].a must be {word}"]


def test_a_required_field_that_is_absent_or_null_is_missing() -> None:
    found, wrong = fields({"b": None})
    found.take("a", str, required=True)
    found.take("b", str, required=True)

    assert wrong == ["a is missing", "b is missing"]


def test_of_what_is_no_object_only_that_is_said() -> None:
    found, wrong = fields([1], "services[3]")
    found.take("a", str, required=True)
    found.parsed("b", str)
    found.finish()

    assert wrong == ["services[3] must be an object"]
    assert fields("x")[1] == ["the document must be an object"]


def test_a_field_is_parsed_and_what_the_parser_says_is_a_violation() -> None:
    def parse(text: str) -> int:
        if not text.isdigit():
            raise UsageError(f"{text!r} is no number", hint="give one")
        return int(text)

    found, wrong = fields({"a": "12", "b": "x"})

    assert (found.parsed("a", parse), found.parsed("b", parse), found.parsed("c", parse, required=False)) == (
        12, None, None,
    )  # fmt: skip
    assert wrong == ["b: 'x' is no number"]


def test_lists_and_children_are_named_by_their_place() -> None:
    found, wrong = fields({"services": [{"health": {"path": 1}}, {"health": {"pth": 1}}]})
    for one in found.each("services"):
        child = one.child("health")
        child.take("path", str)
        child.finish()
        one.finish()
    found.finish()

    assert wrong == [
        "services[0].health.path must be text",
        "services[1].health.pth is not a known field; did you mean 'path'?",
    ]


def test_all_are_raised_together_and_none_not_at_all() -> None:
    raise_all("x.json", [])
    with pytest.raises(InvalidDocumentError, match=r"^x\.json: a; b$"):
        raise_all("x.json", ["a", "b"])


def test_each_item_of_a_list_is_read_and_what_the_reader_raises_is_a_violation() -> None:
    def read(item: object, where: str) -> int:
        if not isinstance(item, int):
            raise UsageError("is not a number", where=where)
        return item

    found, wrong = fields({"a": [1, "x", 2, None], "b": 1}, "top")

    assert found.read_each("a", read) == (1, 2)
    assert found.read_each("b", read) == ()
    assert found.read_each("c", read) == ()
    assert wrong == [
        "top.a[1]: is not a number", "top.a[3]: is not a number", "top.b must be a list", "top.c is missing",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "violations"),
    [
        ({"schema": "x/v1"}, []),
        ({"schema": "x/v2"}, ["schema must be x/v1, is x/v2"]),
        ({"schema": 1}, ["schema must be text"]),
        ({}, ["schema is missing"]),
    ],
)
def test_a_document_says_which_schema_it_keeps(value: object, violations: list[str]) -> None:
    found, wrong = fields(value)
    found.schema("x/v1")

    assert wrong == violations
