"""Addresses: what a header with credentials is meant for, and where an answer leads."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import LocationValueError

from edgepack.errors import RegistryError
from edgepack.oci.reference import is_loopback

# What to do about answers that no registry gives.
NO_REGISTRY = "check that the address is that of an image registry"


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port: what a header with credentials is meant for."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of an absolute ``url``; raises ``RegistryError``."""
        try:
            parsed = urllib3.util.parse_url(url)
        except LocationValueError:
            raise RegistryError("gave an address that cannot be parsed") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise RegistryError("gave an address that is neither http nor https")
        port = parsed.port if parsed.port is not None else 443 if parsed.scheme == "https" else 80
        return cls(parsed.scheme, parsed.host.lower(), port)

    @property
    def private(self) -> bool:
        """Whether credentials may travel there: with TLS, or without leaving this machine."""
        return self.scheme == "https" or is_loopback(self.host)

    @property
    def short(self) -> str:
        """``host[:port]`` as in a reference, without the scheme's own port."""
        return self.host if self.port == (443 if self.scheme == "https" else 80) else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def joined(base: str, location: str) -> str:
    """A Location or realm, relative to ``base`` or absolute, its query untouched; raises ``RegistryError``."""
    try:
        found = urljoin(base, location)
    except ValueError:
        raise RegistryError("gave an address that cannot be parsed", where=Origin.of(base), hint=NO_REGISTRY) from None
    try:
        Origin.of(found)
    except RegistryError as error:
        raise RegistryError(error.what, where=Origin.of(base), hint=NO_REGISTRY) from None
    return found
