"""The login to a registry that is handed on: a short-lived token where it gives one, else what is known."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from edgepack.errors import InvalidReferenceError, NotFoundError, UsageError
from edgepack.hidden import HiddenObject, HiddenText
from edgepack.host.credentials import Credentials, PullToken
from edgepack.oci.docker_config import TOKEN_USER
from edgepack.oci.reference import Reference
from packager.registries.access import Access

Kind = Literal["password", "identity-token", "pull-token"]


@dataclass(frozen=True)
class RegistryLogin:
    """An ``address`` and what opens it: the ``token`` where there is one, else the ``credentials``."""

    address: str
    credentials: Credentials | None
    token: PullToken | None = None

    @property
    def kind(self) -> Kind:
        """What the secret is."""
        if self.token is not None:
            return "pull-token"
        return "identity-token" if self.credentials is not None and self.credentials.identity_token else "password"

    @property
    def username(self) -> str | None:
        """Who logs in; ``<token>`` with an identity token, as Docker has it; ``None`` with a pull token."""
        if self.token is not None or self.credentials is None:
            return None
        return TOKEN_USER if self.credentials.identity_token else self.credentials.username

    @property
    def secret(self) -> HiddenText:
        """The password or token."""
        if self.token is not None:
            return self.token.value
        return HiddenText() if self.credentials is None else self.credentials.secrets[0]

    @property
    def source(self) -> str:
        """Where it is from."""
        known = "nobody's login" if self.credentials is None else self.credentials.source
        return known if self.token is None else f"{self.address}, for {known}"

    @property
    def expires(self) -> datetime | None:
        """When it stops to work, where that can be told."""
        return self.token.expires if self.token is not None else expiry_of(self.secret)


@dataclass(frozen=True)
class Registry:
    """A registry that is asked for a login, and the repositories that are to be read there."""

    address: str
    repositories: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, images: Iterable[str] = ()) -> Registry:
        """``HOST[:PORT]`` or ``HOST[:PORT]/REPOSITORY``; without one, those that ``images``, names, have there.

        Raises ``UsageError``.
        """
        hint = "write it as HOST[:PORT] or HOST[:PORT]/REPOSITORY"
        slash = "/" in text
        if "@" in text:  # it may hold a password, and is not repeated
            raise UsageError("an address has no user name in it", where="--registry", hint=hint)
        try:
            found = Reference.parse(text if slash else f"{text}/x")
        except InvalidReferenceError:
            raise UsageError(f"{text!r} is not a registry", where="--registry", hint=hint) from None
        if not slash and found.registry != text:
            raise UsageError(f"{text!r} names no host", where="--registry", hint=f"{hint}, such as {text}.example")
        if slash:
            return cls(found.registry, (found.repository,))
        return cls(found.registry, tuple(sorted(set(_repositories(images, found.registry)))))


def _repositories(images: Iterable[str], registry: str) -> Iterable[str]:
    for name in images:
        try:
            found = Reference.parse(name)
        except InvalidReferenceError:
            continue
        if found.registry == registry and "/" in name:
            yield found.repository


def login_for(registry: Registry, access: Access, *, offline: bool = False, token: bool = True) -> RegistryLogin:
    """The login for ``registry``: with ``token``, one that it gives for pulling from its repositories, if it does.

    Raises ``NotFoundError`` when none is known, ``AuthenticationError`` when it is refused, and what the lookup and the
    registry raise.
    """
    lookup = access.logins.lookup(named=registry.address)
    if token and registry.repositories and not offline:
        from edgepack.oci.remote.login import log_in  # the client is slow to import

        reference = Reference(registry.address, registry.repositories[0])
        found = log_in(reference, lookup, access.policy(), registry.repositories)
        if found.token is not None:
            return RegistryLogin(registry.address, found.credentials, found.token)
    credentials = lookup(registry.address)
    if credentials is None or not credentials.secrets:
        raise NotFoundError(
            "there is no login for this registry",
            where=registry.address,
            hint=f"run docker login {registry.address}, or give --registry-credentials FILE",
        )
    return RegistryLogin(registry.address, credentials)


def expiry_of(secret: str) -> datetime | None:
    """When a password stops to work that says so itself: JSON web tokens (RFC 7519, 4.1.4), and those of Amazon's ECR.

    Nothing is verified: it is for showing.
    """
    parts = secret.split(".")
    value: Any = _decoded(parts[1]) if len(parts) == 3 else _decoded(secret)
    moment = value.get("exp" if len(parts) == 3 else "expiration")
    if not isinstance(moment, (int, float)) or isinstance(moment, bool):
        return None
    try:
        return datetime.fromtimestamp(moment, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _decoded(text: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), object_hook=HiddenObject)
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
