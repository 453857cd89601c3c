"""Which known word is meant by another one."""

from __future__ import annotations

import inspect

import pytest

import edge_server.config.nearness
import edgepack.nearness
from edgepack.nearness import did_you_mean, distance, listed, nearest


@pytest.mark.parametrize(
    ("typed", "known", "meant"),
    [
        ("prot", ["host", "port", "root"], "port"),  # two letters exchanged are one mistake
        ("statsu", ["receipt", "status", "trust"], "status"),
        ("TensorFlwo", ["Onnx", "TensorFlow"], "TensorFlow"),
        ("memory-byte", ["cpus", "memory_bytes"], "memory_bytes"),
        ("--nmae", ["--name", "--output"], "--name"),
        ("timeout", ["path", "timeout_seconds"], "timeout_seconds"),  # the beginning
        ("ls", ["list", "register"], "list"),  # an abbreviation
        ("churn:3", ["churn:1", "other:3"], "churn:1"),
        ("ab", ["cd"], None),
        ("x", ["y"], None),
        ("", ["a"], None),
        ("delete", ["list", "register"], None),
        ("anything", [], None),
    ],
)
def test_the_word_that_was_meant(typed: str, known: list[str], meant: str | None) -> None:
    assert nearest(typed, known) == meant
    assert edge_server.config.nearness.nearest(typed, known) == meant


def test_an_exchange_of_neighbours_is_one_mistake() -> None:
    assert [distance("prot", word) for word in ("prot", "port", "root", "")] == [0, 1, 2, 4]


def test_the_hint_says_the_word_and_what_else_to_do() -> None:
    assert did_you_mean("chrun", ["churn"], "see: list") == "did you mean 'churn'? see: list"
    assert did_you_mean("chrun", ["churn"]) == "did you mean 'churn'?"
    assert did_you_mean("zzz", ["churn"], "see: list") == "see: list"
    assert listed([f"m{number}" for number in range(12)]).endswith("m9 and 2 more")


@pytest.mark.parametrize("name", ["nearest", "distance", "_is_within", "_plain"])
def test_the_server_which_imports_no_other_room_has_the_same_rule(name: str) -> None:
    ours, theirs = (getattr(module, name) for module in (edgepack.nearness, edge_server.config.nearness))
    assert inspect.getsource(ours) == inspect.getsource(theirs)
