"""No credential becomes a part of an environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from packager.environments.document import to_json
from packager.environments.environment import Environment
from packager.layers.secrets import Secret, SecretSearch


def check_secrets(environment: Environment, secrets: Iterable[Secret]) -> None:
    """Raise ``EdgepackError`` when one of ``secrets``, or a private key, is in ``environment``."""
    search = SecretSearch(secrets)
    for text in _texts(to_json(environment)):
        search.check([text.encode("utf-8", "surrogateescape")], f"environment {environment.name}", keys=True)


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (str(key), *_texts(item))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
