"""Files and whole distributions in wheels that no scoring container uses, as named rules.

Every rule can be switched off by its name. A rule is proven by a test that imports and scores without what it drops.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from packager.layers.rules import path_pattern
from packager.wheels.trim_packages import PACKAGES


@dataclass(frozen=True)
class TrimRule:
    """Leaves files of ``distribution`` (its normalised name) out.

    ``paths`` are patterns of ``path_pattern``, relative to the root of the wheel; ``while_only_for`` says that they
    are left out as long as nothing but that distribution asks for this one. With ``only_for`` the whole distribution is
    left out, as long as that holds. A rule that ``shortens`` keeps the files, without what only debuggers read.
    ``distribution`` ``*`` is any.
    """

    name: str
    distribution: str
    reason: str
    paths: tuple[str, ...] = ()
    only_for: str = ""
    shortens: bool = False
    while_only_for: str = ""

    def leaves_out(self, path: str) -> bool:
        """Whether the file ``path`` of the distribution stays out by this rule."""
        return not self.shortens and self._pattern.fullmatch(path) is not None

    def cuts(self, path: str) -> bool:
        """Whether the file ``path`` of the distribution stays without its symbols by this rule."""
        return self.shortens and self._pattern.fullmatch(path) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return path_pattern(self.paths)


def _only_for_onnxruntime(distribution: str, reason: str) -> TrimRule:
    return TrimRule(f"onnxruntime-{distribution}", distribution, reason, only_for="onnxruntime")


RULES: tuple[TrimRule, ...] = (
    TrimRule(
        "onnxruntime-second-engine",
        "onnxruntime",
        "the engine for programs in C; the Python binding holds its own",
        ("onnxruntime/capi/libonnxruntime.so*", "onnxruntime/capi/libonnxruntime.*.dylib"),
    ),
    TrimRule(
        "onnxruntime-tooling",
        "onnxruntime",
        "optimising, quantising and testing models happens before an image is built",
        tuple(
            f"onnxruntime/{folder}/**" for folder in ("backend", "datasets", "quantization", "tools", "transformers")
        ),
    ),
    TrimRule(
        "numpy-tests",
        "numpy",
        "numpy's own tests and the extension modules that only they import",
        ("numpy/**/*tests/**", "numpy/conftest.py", "numpy/_core/_*_tests.*.so", "numpy/_core/_simd.*.so"),
    ),
    TrimRule(
        "numpy-build",
        "numpy",
        "headers, static libraries and tools for compiling against numpy",
        (
            "numpy/_core/include/**",
            "numpy/_core/lib/**",
            "numpy/random/lib/**",
            "numpy/random/_examples/**",
            "numpy/distutils/**",
            "numpy/_pyinstaller/**",
            "numpy/**/*.pxd",
        ),
    ),
    TrimRule(
        "numpy-f2py",
        "numpy",
        "a compiler of Fortran; it stays where others use numpy, because scipy imports all that numpy names as public",
        ("numpy/f2py/**",),
        while_only_for="onnxruntime",
    ),
    TrimRule(
        "numpy-stubs",
        "numpy",
        "types that only a type checker reads",
        ("numpy/**/*.pyi", "numpy/py.typed", "numpy/typing/mypy_plugin.py"),
    ),
    TrimRule(
        "httptools-sources",
        "httptools",
        "Cython sources and stubs beside the compiled parser",
        ("httptools/**/*.pyx", "httptools/**/*.pxd", "httptools/**/*.pyi"),
    ),
    TrimRule(
        "symbols",
        "*",
        "names of symbols and lines of sources in compiled modules, which only debuggers read",
        ("**/*.so", "**/*.so.*"),
        shortens=True,
    ),
    *(TrimRule(one.name, one.distribution, one.reason, one.paths) for one in PACKAGES),
    _only_for_onnxruntime("coloredlogs", "only the tooling of older versions logs in colour"),
    _only_for_onnxruntime("flatbuffers", "only the tooling reads the ORT format in Python"),
    _only_for_onnxruntime("humanfriendly", "only coloredlogs uses it"),
    _only_for_onnxruntime("mpmath", "only sympy uses it"),
    _only_for_onnxruntime("packaging", "only the tooling compares versions"),
    _only_for_onnxruntime("protobuf", "the engine reads ONNX itself; only the tooling does in Python"),
    _only_for_onnxruntime("sympy", "only the tooling infers symbolic shapes"),
)


class Distribution(Protocol):
    """What ``kept`` must know of a wheel."""

    @property
    def name(self) -> str:
        """The normalised name."""

    @property
    def requires(self) -> tuple[str, ...]:
        """The normalised names of what it asks for."""


def file_rules(rules: Sequence[TrimRule], distribution: str) -> tuple[TrimRule, ...]:
    """Those of ``rules`` that leave single files of ``distribution`` out, or shorten them."""
    return tuple(rule for rule in rules if rule.distribution in (distribution, "*") and rule.paths)


def dropped(
    distributions: Iterable[Distribution], rules: Sequence[TrimRule], requested: Iterable[str] = ()
) -> dict[str, TrimRule]:
    """The distributions that stay out as a whole, with the rule that says so; never one that is in ``requested``."""
    asking = _asking(distributions)
    whole = {rule.distribution: rule for rule in rules if rule.only_for and rule.distribution not in set(requested)}
    found: dict[str, TrimRule] = {}
    while True:
        # What one of them asks for may go with it: mpmath, for which only sympy asks.
        more = {
            name: rule
            for name, rule in whole.items()
            if name not in found and asking.get(name) and asking[name] <= {rule.only_for, *found}
        }
        if not more:
            return found
        found |= more


def holding(rules: Sequence[TrimRule], distributions: Iterable[Distribution]) -> tuple[TrimRule, ...]:
    """Those of ``rules`` that hold in an image of ``distributions``: not what is left out for one, where others ask."""
    asking = _asking(distributions)
    return tuple(
        rule
        for rule in rules
        if not (rule.while_only_for and asking.get(rule.distribution, set()) - {rule.while_only_for})
    )


def _asking(distributions: Iterable[Distribution]) -> dict[str, set[str]]:
    """Who asks for each distribution."""
    asking: dict[str, set[str]] = {}
    for distribution in distributions:
        for name in distribution.requires:
            asking.setdefault(name, set()).add(distribution.name)
    return asking
