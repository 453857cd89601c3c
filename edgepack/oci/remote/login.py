"""Logging in to a registry for its own sake: whether it takes a login, and a token that only reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from edgepack.hidden import HiddenText
from edgepack.host.credentials import CredentialLookup, Credentials, PullToken
from edgepack.oci.reference import Reference
from edgepack.oci.remote.session import Session
from edgepack.oci.remote.transport import Policy

Scheme = Literal["none", "basic", "bearer"]


@dataclass(frozen=True)
class Login:
    """What a registry asks for, what it took, and the token that it gave where it gives such."""

    scheme: Scheme
    credentials: Credentials | None
    token: PullToken | None


def log_in(
    reference: Reference, credentials: CredentialLookup, policy: Policy, repositories: Iterable[str] = ()
) -> Login:
    """Log in to the registry of ``reference``; with ``repositories`` ask it for a token that pulls from them alone.

    Raises ``AuthenticationError`` when it refuses the login, ``RegistryError`` and ``RegistryUnavailableError``.
    """
    session = Session(reference, policy, credentials)
    response = session.send("GET", f"{session.base}/v2/")
    session.expect(response, 200, what="access").close()
    found, wanted = session.authorizer, frozenset(f"repository:{name}:pull" for name in repositories)
    asked_at = datetime.now(UTC)
    token = found.token(wanted) if wanted else None
    if token is None:
        return Login(found.scheme, found.used, None)
    expires = asked_at + timedelta(seconds=token.seconds)
    return Login("bearer", found.used, PullToken(HiddenText(token.value), tuple(sorted(wanted)), expires))
