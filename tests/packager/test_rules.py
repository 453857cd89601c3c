"""What the patterns of all rules mean, for base images and for wheels."""

from __future__ import annotations

import pytest

from packager.bases.debian.rules import Rule
from packager.layers.rules import path_pattern
from packager.wheels.trim import TrimRule


def test_a_star_stays_within_one_folder_and_two_stars_do_not() -> None:
    rule = Rule("r", "why", paths=("usr/*/doc", "usr/share/man/**", "lib/cp[0-9].py"))
    assert [rule.leaves_out(path) for path in ("usr/share/doc", "usr/share/a/doc")] == [True, False]
    assert [rule.leaves_out(path) for path in ("usr/share/man/a/b", "usr/share/man")] == [True, False]
    assert [rule.leaves_out(path) for path in ("lib/cp4.py", "lib/cpx.py", "lib/cp4_py")] == [True, False, False]


@pytest.mark.parametrize(
    ("pattern", "matched", "others"),
    [
        ("a/*.py", ("a/b.py", "a/.py"), ("a/b/c.py", "a/b.pyc", "b.py")),
        ("a/?.py", ("a/b.py",), ("a/bc.py", "a//.py")),
        ("a/**", ("a/b", "a/b/c"), ("a", "b/a/c", "ab/c")),
        ("**/*.so", ("x.so", "a/x.so", "a/b/x.so"), ("x.so.1", "a/so")),
        ("a/**/b*/c", ("a/b/c", "a/x/bb/c", "a/x/y/b/c"), ("a/c", "a/xb/y/c", "b/c")),
        ("a.b/[0-9]+", ("a.b/4+",), ("axb/4+", "a.b/44", "a.b/x+")),
    ],
)
def test_rules_for_bases_and_for_wheels_read_patterns_alike(
    pattern: str, matched: tuple[str, ...], others: tuple[str, ...]
) -> None:
    base, wheel = Rule("r", "why", paths=(pattern,)), TrimRule("r", "*", "why", (pattern,))
    for leaves_out in (base.leaves_out, wheel.leaves_out):
        assert [path for path in (*matched, *others) if leaves_out(path)] == list(matched)


def test_no_pattern_matches_no_path() -> None:
    assert path_pattern(()).fullmatch("") is None
