"""What scoring containers do not use of the packages that entry scripts import most: tests, sources, headers, stubs.

Each entry is proven by tests/packager/test_trim_packages.py, which imports the package and predicts with it while every
file that is left out here is refused.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PackageTrim:
    """Files of ``distribution`` that stay out, by patterns as in ``TrimRule.paths``."""

    name: str
    distribution: str
    reason: str
    paths: tuple[str, ...]


def _tests(distribution: str, *paths: str) -> PackageTrim:
    return PackageTrim(f"{distribution}-tests", distribution, f"{distribution}'s own tests and their data", paths)


def _build(distribution: str, package: str, endings: str, *more: str) -> PackageTrim:
    paths = (*(f"{package}/**/*.{ending}" for ending in endings.split()), *more)
    reason = f"sources, headers and types, for compiling against {distribution} and for type checkers"
    return PackageTrim(f"{distribution}-build", distribution, reason, paths)


PACKAGES: tuple[PackageTrim, ...] = (
    _tests(
        "scipy", "scipy/**/tests/**", "scipy/**/conftest.py", "scipy/special/_precompute/**", "scipy/**/_test_*.so",
        "scipy/ndimage/_ctest*.so", "scipy/ndimage/_cytest*.so",
    ),
    _build("scipy", "scipy", "pyx pxd h pyi", "scipy/**/meson.build"),
    _tests("pandas", "pandas/**/tests/**", "pandas/conftest.py"),
    _build("pandas", "pandas", "pyi"),
    _tests("scikit-learn", "sklearn/**/tests/**", "sklearn/conftest.py"),
    _build("scikit-learn", "sklearn", "pyx pxd tp h cpp pyi", "sklearn/**/meson.build"),
    _tests("joblib", "joblib/test/**"),
    _tests("statsmodels", "statsmodels/**/tests/**", "statsmodels/conftest.py"),
    _tests("patsy", "patsy/test_*.py"),
    _tests("imbalanced-learn", "imblearn/**/tests/**"),
    _tests(
        "matplotlib", "matplotlib/**/tests/**", "mpl_toolkits/**/tests/**", "matplotlib/mpl-data/sample_data/**",
    ),
    _build("matplotlib", "matplotlib", "pyi"),
    _tests("pyarrow", "pyarrow/**/tests/**", "pyarrow/conftest.py"),
    _build("pyarrow", "pyarrow", "pyx pxd pxi h hpp cc", "pyarrow/include/**", "pyarrow/src/**"),
    _tests("onnx", "onnx/backend/test/**"),
    _build("onnx", "onnx", "h cc pyi proto"),
)  # fmt: skip
