"""An environment as a requirement file of pip."""

from __future__ import annotations

from edgepack.errors import UsageError
from packager.environments.conda import names_of
from packager.environments.environment import Environment


def requirements_text(environment: Environment) -> str:
    """What pip installs for ``environment``, as a requirement file; Python itself is not in it.

    Raises ``UsageError`` where there is more than that: packages of conda's, or constraints.
    """
    others = [name for name in names_of(environment.conda_packages) if name not in ("python", "pip")]
    if others:
        raise UsageError(
            f"has conda packages ({', '.join(others[:3])}{', …' if len(others) > 3 else ''})", where=environment.id,
            hint="show it with --format conda",
        )  # fmt: skip
    if environment.pip.constraints:
        raise UsageError(
            "has constraints, which are written into a file of their own", where=environment.id,
            hint="show it with --format json",
        )  # fmt: skip
    lines = (*environment.pip.option_lines(), *environment.pip.requirements)
    # Each hash on its line, as pip-compile and uv write them.
    return "".join(f"{line}\n" for line in lines).replace(" --hash=", " \\\n    --hash=")
