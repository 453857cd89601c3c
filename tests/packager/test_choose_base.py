"""Which base an environment's Python asks for."""

from __future__ import annotations

import logging

import pytest

from edgepack.errors import EdgepackError, IncompatibleError, UsageError
from packager.bases.choose import base_for
from packager.bases.debian import load_recipe, python_release

PYTHON_311 = "debian12-python3.11"


@pytest.mark.parametrize("python", [None, "", "==3.11.*", ">=3.9,<3.12", "~=3.11.0", "==3.11", "<=3.11", ">=3.8"])
def test_python_3_11_is_debian_12s(python: str | None, caplog: pytest.LogCaptureFixture) -> None:
    assert base_for(python) == PYTHON_311
    assert not caplog.records


def test_a_patch_release_that_debian_does_not_have_is_its_minor_version_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = python_release(load_recipe(PYTHON_311))
    assert release.startswith("3.11.")
    assert base_for(f"=={release}") == PYTHON_311
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert base_for("==3.11.4") == PYTHON_311
    assert f"python ==3.11.4: the base {PYTHON_311} has Python {release}" in caplog.text


@pytest.mark.parametrize(
    ("python", "says"),
    [
        ("==3.6.2", r"Python 3\.6 is too old: the scoring server needs Python 3\.11 or later; take .*--base"),
        ("==2.7.*", r"Python 2\.7 is too old"),
        ("==3.12.*", r"Python 3\.12, only .*--base.*docker://python:3\.12-slim.* without code"),
        ("==3.14.0rc1", r"no recipe of a base with Python 3\.14"),
        (">=3.14", r"no recipe of a base with a Python from 3\.14 on"),
        (">=3.12,<3.13.1,!=3.13.*", r"no recipe of a base with Python 3\.12"),
        (">=3.11.1,<3.11.1", "no Python has a version like this"),
    ],
)  # fmt: skip
def test_a_python_that_no_recipe_has_is_refused_with_the_ways_out(python: str, says: str) -> None:
    with pytest.raises(IncompatibleError, match=says):
        base_for(python)


def test_the_refusal_says_which_pins_another_python_would_keep() -> None:
    asked: list[str] = []

    def pins(python: str) -> tuple[list[str], list[str]]:
        asked.append(python)
        return ["requests==2.32.0"], ["numpy==1.13.3", "pandas==0.20.3"]

    with pytest.raises(IncompatibleError) as caught:
        base_for("==3.6.2", pins=pins)
    kept = "(requests==2.32.0 has a release for it, numpy==1.13.3, pandas==0.20.3 have none)"
    assert f"take Python 3.11 {kept}" in str(caught.value)
    assert asked == ["3.11"]


def test_the_refusal_stands_where_nobody_can_say_what_would_be_kept() -> None:
    def pins(python: str) -> tuple[list[str], list[str]]:
        raise EdgepackError("no package index is reachable")

    with pytest.raises(IncompatibleError, match=r"take Python 3\.11; "):
        base_for("==3.6.2", pins=pins)


def test_what_is_not_pep_440_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match=r"'3\.11' does not say which Python; write it as PEP 440 has it"):
        base_for("3.11")
