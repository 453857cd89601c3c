"""How commands show environments."""

from __future__ import annotations

from typing import Any

from packager.environments.curated import CURATED
from packager.environments.document import digest_of, to_json
from packager.environments.environment import Environment


def environment_json(environment: Environment) -> dict[str, Any]:
    """An environment as the JSON interface shows it."""
    return {"id": environment.id, "digest": digest_of(environment), **to_json(environment)}


def environment_row(environment: Environment) -> dict[str, object]:
    """An environment as a line of a table."""
    pip, conda = len(environment.pip.requirements), len(environment.conda_packages)
    counts = [f"{pip} pip"] * bool(pip) + [f"{conda} conda"] * bool(conda)
    return {
        "environment": environment.id,
        "python": environment.python_version,
        "packages": ", ".join(counts) or None,
        "base": _base(environment),
        "created": "with edgepack" if environment.name in CURATED else environment.created,
    }


def environment_rows(environment: Environment) -> list[dict[str, object]]:
    """An environment as a table of its fields; what it does not have is left out."""
    pip = environment.pip
    fields: list[tuple[str, object]] = [
        ("environment", environment.id),
        ("for", CURATED.get(environment.name)),
        ("created", environment.created),
        ("digest", digest_of(environment)),
        ("python", environment.python_version),
        ("interpreter", environment.interpreter_path),
        ("base", _base(environment)),
        ("base registry", environment.base_registry_address),
        ("base registry user", environment.base_registry_username),
        ("packages", "those of the base" if environment.user_managed_dependencies else None),
        ("inferencing stack", environment.inferencing_stack_version),
        *(("conda channel", channel) for channel in environment.conda_channels),
        *(("conda package", package) for package in environment.conda_packages),
        *(("pip option", line) for line in pip.option_lines()),
        *(("pip requirement", _without_hashes(line)) for line in pip.requirements),
        *(("pip constraint", _without_hashes(line)) for line in pip.constraints),
        *((f"variable {name}", value) for name, value in sorted(environment.variables.items())),
    ]
    return [{"field": name, "value": value} for name, value in fields if value]


def _without_hashes(line: str) -> str:
    """A requirement as a person reads it: with the number of its hashes."""
    words = line.split(" ")
    hashes = [word for word in words if word.startswith("--hash=")]
    rest = " ".join(word for word in words if word not in hashes)
    return rest if not hashes else f"{rest} ({len(hashes)} hash{'es' if len(hashes) > 1 else ''})"


def _base(environment: Environment) -> str | None:
    if environment.base_dockerfile is not None:
        lines = environment.base_dockerfile.count("\n") + 1
        return f"a Dockerfile of {lines} line{'s' if lines > 1 else ''}"
    return environment.base_image
