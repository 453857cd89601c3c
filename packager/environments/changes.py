"""Environments made from others: with another Python, another package, another channel. A value is never changed."""

from __future__ import annotations

from dataclasses import replace

from edgepack.documents import raise_all
from packager.environments.environment import Environment, check_environment, python_of
from packager.environments.match_spec import parse_match_spec, python_specifiers
from packager.environments.pip_requirements import parse_items, requirement_names


def with_python(environment: Environment, version: str) -> Environment:
    """``environment`` with this Python, such as ``3.11``; raises ``InvalidReferenceError``."""
    packages = tuple(text for text in environment.conda_packages if parse_match_spec(text).name != "python")
    return _checked(replace(environment, python=python_of(version), conda_packages=packages))


def with_conda_package(environment: Environment, text: str) -> Environment:
    """``environment`` with a conda package, in the place of one of the same name; raises ``InvalidReferenceError``."""
    spec = parse_match_spec(text)
    others = tuple(one for one in environment.conda_packages if parse_match_spec(one).name != spec.name)
    python = python_specifiers(spec) if spec.name == "python" else environment.python
    return _checked(replace(environment, conda_packages=(*others, spec.text), python=python))


def with_pip_package(environment: Environment, text: str) -> Environment:
    """``environment`` with what a line of a requirement file says, in the place of a requirement of the same name.

    Raises ``InvalidDocumentError``.
    """
    violations: list[str] = []
    said = parse_items([(f"package {text!r}", text)], violations)
    if not said.requirements and not violations:
        violations.append(f"package {text!r} is not a package")
    raise_all(f"environment {environment.name}", violations)
    names = set(requirement_names(said.requirements))
    pip = environment.pip
    others = tuple(line for line in pip.requirements if names.isdisjoint(requirement_names([line])))
    return _checked(replace(environment, pip=replace(pip, requirements=(*others, *said.requirements))))


def with_channel(environment: Environment, channel: str) -> Environment:
    """``environment`` with one more channel, after the others; raises ``InvalidDocumentError``."""
    channels = tuple(dict.fromkeys((*environment.conda_channels, channel)))
    return _checked(replace(environment, conda_channels=channels))


def _checked(environment: Environment) -> Environment:
    # The file that it was read from says something else now, and its version belongs to what was registered.
    return check_environment(replace(environment, conda_file=None, version=None, created=None))
