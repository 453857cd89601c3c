"""Which repositories a registry has, where it tells: ``GET /v2/_catalog`` (distribution, docs/spec/api.md)."""

from __future__ import annotations

from collections.abc import Iterator

from edgepack.documents import parse_foreign
from edgepack.host.credentials import CredentialLookup
from edgepack.oci.reference import Reference, is_repository
from edgepack.oci.remote.referrers import pages_of
from edgepack.oci.remote.session import Session
from edgepack.oci.remote.transport import Policy

_PAGE = 1000


def repositories(reference: Reference, credentials: CredentialLookup, policy: Policy) -> Iterator[str]:
    """The repositories of the registry of ``reference`` that it shows to this login, page by page.

    Many registries show none: raises ``NotFoundError`` and ``AuthenticationError`` then, and what ``Session`` raises.
    """
    session = Session(reference, policy, credentials)
    for page in pages_of(session, f"{session.base}/v2/_catalog?n={_PAGE}", {}, "list of repositories"):
        found = parse_foreign(page, "list of repositories").get("repositories") or ()
        yield from (name for name in found if isinstance(name, str) and is_repository(name))
