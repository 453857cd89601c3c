"""How the client reaches one registry: with TLS or without, trusting which authorities."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgepack.errors import UsageError
from edgepack.oci.reference import Reference, host_of, is_loopback
from edgepack.oci.remote.engines import Certificates, EngineFiles, certificates

# "ask": TLS where the registry answers so, plain HTTP where it does not, as engines do with insecure registries.
Scheme = Literal["https", "http", "ask"]


@dataclass(frozen=True)
class HostAccess:
    """The scheme of a registry, and the certificates beside the system's."""

    scheme: Scheme
    certificates: Certificates = field(default_factory=Certificates)

    def context(self, *, shown: bool) -> ssl.SSLContext:
        """What TLS is verified by: the system's authorities and those of ``certificates``, as engines verify it.

        ``shown``: with our own certificate, which is for the registry and nobody else. Raises ``UsageError`` for files
        that hold none.
        """
        context = ssl.create_default_context()
        # Python 3.13 asks more of authorities than engines and older Pythons do, such as a key usage, which those made
        # by hand lack; and only it takes one that is not the root of its chain, as engines do.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        for path in self.certificates.authorities:
            with _certificates_in(path):
                context.load_verify_locations(cafile=str(path))
        if shown and self.certificates.shown is not None:
            certificate, key = self.certificates.shown
            with _certificates_in(certificate):
                # With a password, OpenSSL does not ask the terminal for one.
                context.load_cert_chain(str(certificate), str(key), password="")
        return context


@contextmanager
def _certificates_in(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UsageError("there is no such file", where=path, hint="give a file of certificates in PEM") from None
    except (OSError, ssl.SSLError):
        raise UsageError(
            "holds no certificates that can be read", where=path, hint="give a file of certificates in PEM"
        ) from None


def host_access(
    reference: Reference,
    *,
    plain_http: Iterable[str] = (),
    ca_file: Path | None = None,
    insecure: bool = False,
    files: EngineFiles | None = None,
) -> HostAccess:
    """How to reach the registry of ``reference``: as the caller says, or as this machine's engines are told.

    Without either it has TLS, but for a registry on this machine.
    """
    files = EngineFiles.default() if files is None else files
    if lacks_tls(reference.registry, plain_http):
        return HostAccess("http")
    found = certificates(reference.registry, files)
    if ca_file is not None:
        found = Certificates((ca_file, *found.authorities), found.shown)
    if found:
        return HostAccess("https", found)
    if insecure or is_loopback(host_of(reference.api_host)):
        return HostAccess("http")
    return HostAccess("https" if files.insecure(reference.name) is None else "ask")


def lacks_tls(registry: str, plain_http: Iterable[str]) -> bool:
    """Whether ``plain_http``, items ``HOST[:PORT]``, has the registry; one without a port is for all of its ports."""
    names = {registry.lower(), host_of(registry).lower()}
    return any(one.lower() in names for one in plain_http)
