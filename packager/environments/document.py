"""An environment as JSON: ``edgepack.environment/v1``, written canonically and read strictly."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from edgepack.documents import Fields, canonical_json, parse_object, raise_all
from packager.environments.environment import Environment, check_environment
from packager.environments.pip_requirements import PipRequirements

SCHEMA = "edgepack.environment/v1"


def content_json(environment: Environment) -> dict[str, Any]:
    """What ``environment`` asks for, without what it is called: equal for environments that are the same software."""
    pip = environment.pip
    return {
        "schema": SCHEMA,
        "python": environment.python,
        "conda": {"channels": list(environment.conda_channels), "packages": list(environment.conda_packages)},
        "pip": {
            "requirements": list(pip.requirements),
            "constraints": list(pip.constraints),
            "index_url": pip.index_url,
            "extra_index_urls": list(pip.extra_index_urls),
            "find_links": list(pip.find_links),
            "trusted_hosts": list(pip.trusted_hosts),
            "only_binary": list(pip.only_binary),
            "no_binary": list(pip.no_binary),
            "no_index": pip.no_index,
            "pre": pip.pre,
            "prefer_binary": pip.prefer_binary,
            "require_hashes": pip.require_hashes,
        },
        "variables": dict(environment.variables),
        "base": {
            "image": environment.base_image,
            "dockerfile": environment.base_dockerfile,
            "registry": {
                "address": environment.base_registry_address,
                "username": environment.base_registry_username,
            },
        },
        "user_managed_dependencies": environment.user_managed_dependencies,
        "interpreter_path": environment.interpreter_path,
        "inferencing_stack_version": environment.inferencing_stack_version,
    }


def digest_of(environment: Environment) -> str:
    """``sha256:…`` of what it asks for: not of its name, its version, or how its conda file was written."""
    return f"sha256:{hashlib.sha256(canonical_json(content_json(environment))).hexdigest()}"


def to_json(environment: Environment) -> dict[str, Any]:
    """``environment`` as a JSON object."""
    return {
        **content_json(environment),
        "name": environment.name,
        "version": environment.version,
        "created": environment.created,
        "conda_file": environment.conda_file,
    }


def to_bytes(environment: Environment) -> bytes:
    """``environment`` in its canonical form."""
    return canonical_json(to_json(environment))


def from_bytes(data: bytes, where: object = "environment") -> Environment:
    """The environment in ``data``; raises ``InvalidDocumentError`` with every violation."""
    return from_json(parse_object(data, where), where)


def from_json(value: Mapping[str, Any], where: object = "environment") -> Environment:
    """The environment that ``to_json`` wrote; raises ``InvalidDocumentError`` with every violation.

    Lists and fields that are empty may be missing, and nothing else may be there.
    """
    return check_environment(read_json(value, where), where)


def read_json(value: Mapping[str, Any], where: object = "environment") -> Environment:
    """The same where what the fields say was checked before; each requirement takes a while to check."""
    violations: list[str] = []
    fields = Fields(value, "", violations)
    fields.schema(SCHEMA)
    conda, base = fields.child("conda"), fields.child("base")
    registry = base.child("registry")
    found = Environment(
        name=fields.take("name", str, required=True) or "",
        version=fields.take("version", int),
        created=fields.take("created", str),
        python=fields.take("python", str),
        conda_channels=_texts(conda, "channels"),
        conda_packages=_texts(conda, "packages"),
        conda_file=fields.take("conda_file", str),
        pip=_pip(fields.child("pip")),
        variables=_variables(fields),
        base_image=base.take("image", str),
        base_dockerfile=base.take("dockerfile", str),
        base_registry_address=registry.take("address", str),
        base_registry_username=registry.take("username", str),
        user_managed_dependencies=fields.take("user_managed_dependencies", bool, False) or False,
        interpreter_path=fields.take("interpreter_path", str),
        inferencing_stack_version=fields.take("inferencing_stack_version", str),
    )
    for each in (registry, base, conda, fields):
        each.finish()
    raise_all(where, violations)
    return found


def _pip(fields: Fields) -> PipRequirements:
    found = PipRequirements(
        requirements=_texts(fields, "requirements"),
        constraints=_texts(fields, "constraints"),
        index_url=fields.take("index_url", str),
        extra_index_urls=_texts(fields, "extra_index_urls"),
        find_links=_texts(fields, "find_links"),
        trusted_hosts=_texts(fields, "trusted_hosts"),
        only_binary=_texts(fields, "only_binary"),
        no_binary=_texts(fields, "no_binary"),
        no_index=fields.take("no_index", bool, False) or False,
        pre=fields.take("pre", bool, False) or False,
        prefer_binary=fields.take("prefer_binary", bool, False) or False,
        require_hashes=fields.take("require_hashes", bool, False) or False,
    )
    fields.finish()
    return found


def _texts(fields: Fields, key: str) -> tuple[str, ...]:
    found = fields.take(key, list, []) or []
    for at, item in enumerate(found):
        if not isinstance(item, str):
            fields.wrong(f"{key}[{at}]", "must be text")
    return tuple(item for item in found if isinstance(item, str))


def _variables(fields: Fields) -> dict[str, str]:
    found = fields.take("variables", dict, {}) or {}
    for name, item in found.items():
        if not isinstance(item, str):
            fields.wrong(f"variables.{name}", "must be text")
    return {name: item for name, item in found.items() if isinstance(item, str)}
