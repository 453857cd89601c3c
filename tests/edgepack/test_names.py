"""Names of models, services and images."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import InvalidReferenceError
from edgepack.names import ModelRef, check_model_name, check_service_name


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [("churn", "churn", None), ("churn:1", "churn", 1), ("Churn_2.x-y:007", "Churn_2.x-y", 7), ("a", "a", None)],
)
def test_a_model_is_named_with_or_without_its_version(text: str, name: str, version: int | None) -> None:
    assert ModelRef.parse(text) == ModelRef(name, version)


@pytest.mark.parametrize(
    "text",
    [
        "", ":1", "churn:", "churn:0", "churn:-1", "churn:1.0", "churn:one", "churn:1:2", "churn:²", "churn:١",
        "-churn", "../churn", "a/b", "a b", "churn\n", "ü", "a" * 256, "churn:" + "9" * 5000, "churn:" + "0" * 20,
        "churn:9223372036854775808",
    ],
)  # fmt: skip
def test_what_names_no_model_is_refused_shortly(text: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        ModelRef.parse(text)
    assert caught.value.hint is not None
    assert len(str(caught.value)) < 500


@given(st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,50}", fullmatch=True), st.none() | st.integers(1, 10**18 - 1))
def test_a_model_is_written_as_it_is_read(name: str, version: int | None) -> None:
    reference = ModelRef(name, version)

    assert ModelRef.parse(str(reference)) == reference
    assert check_model_name(name) == name


@pytest.mark.parametrize("name", ["abc", "a-b", "a1b", "churn-2", "a" * 32, "a--b"])
def test_a_service_has_a_host_name(name: str) -> None:
    assert check_service_name(name) == name


@pytest.mark.parametrize("name", ["", "ab", "a" * 33, "1ab", "-ab", "ab-", "Abc", "a_b", "a.b", "abc\n", "a/b", "äbc"])
def test_what_is_no_host_name_names_no_service(name: str) -> None:
    with pytest.raises(InvalidReferenceError, match="is not a service name"):
        check_service_name(name)
