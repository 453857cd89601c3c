"""What a caller of a service shows, and what its target is told of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from edgepack.errors import UsageError
from edgepack.hidden import HiddenText
from edgepack.state.service_auth import KeyAuth, ServiceAuth, TokenAuth
from packager.services.configuration.values import Auth, ComputeType
from packager.services.credentials.folder import CredentialFolder
from packager.services.credentials.keys import ServiceKeys, digest_of
from packager.services.credentials.tokens import ISSUER, SECONDS, Token, make_token
from packager.services.service import Service

_CALLED = {Auth.KEY: "keys", Auth.TOKEN: "tokens"}
_WAYS = {
    Auth.NONE: "let its deployment configuration have authEnabled: true",
    Auth.KEY: "it asks for a key; see: edgepack service keys {name}",
    Auth.TOKEN: "it asks for a token; see: edgepack service token {name}",
}


def require(service: Service, auth: Auth) -> None:
    """Raise ``UsageError`` unless callers of ``service`` show what ``auth`` says."""
    if service.auth is auth:
        return
    where, hint = f"service {service.name}", _WAYS[service.auth].format(name=service.name)
    if service.compute_type is ComputeType.LOCAL:
        hint = "it answers this machine alone; deploy it to a device or Kubernetes"
    elif service.auth is Auth.NONE and auth is Auth.TOKEN:
        hint = "let its deployment configuration have tokenAuthEnabled: true, which Kubernetes takes"
    raise UsageError(f"has no {_CALLED[auth]}", where=where, hint=hint)


def keys_of(root: Path, service: Service) -> ServiceKeys:
    """Both keys of ``service``; raises ``UsageError`` where it asks for none, and ``NotFoundError``."""
    require(service, Auth.KEY)
    return CredentialFolder(root).get(service.name).keys


def token_of(root: Path, service: Service, seconds: int = SECONDS) -> Token:
    """A new token for ``service``; raises ``UsageError`` where it asks for none, and ``NotFoundError``."""
    require(service, Auth.TOKEN)
    signing = CredentialFolder(root).get(service.name).signing
    return make_token(signing, service.name, datetime.now(UTC), seconds)


def shown_to(root: Path, service: Service) -> tuple[HiddenText, ...]:
    """What a caller of ``service`` may show, the best first; read anew each time, so that it is never an earlier one.

    The secondary key is there too: while the primary one is replaced, a device takes a second to know the new one.
    """
    match service.auth:
        case Auth.NONE:
            return ()
        case Auth.KEY:
            keys = keys_of(root, service)
            return keys.primary, keys.secondary
        case Auth.TOKEN:
            return (token_of(root, service).text,)


def auth_of(root: Path, service: Service) -> ServiceAuth | None:
    """What the target of ``service`` is told: nothing that lets anybody call it."""
    if service.auth is Auth.NONE:
        return None
    found = CredentialFolder(root).get(service.name)
    if service.auth is Auth.KEY:
        return KeyAuth(digest_of(found.keys.primary), digest_of(found.keys.secondary))
    return TokenAuth(found.signing.public.to_pem().decode("ascii"), service.name, ISSUER)
