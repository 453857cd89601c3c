"""A registry, or a neighbour that serves its store like one, as a place that images are fetched from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from edge_agent.config.configuration import NeighbourSource, RegistrySource
from edge_agent.sources.meter import PlaceMeter
from edgepack.errors import AuthenticationError, EdgepackError, NotFoundError, RegistryError, UsageError
from edgepack.host.credentials import CredentialLookup, Credentials, anonymous
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.docker_config import Helper, Logins, login_file
from edgepack.oci.reference import Reference, is_repository
from edgepack.oci.remote import Policy, RemoteRepository
from edgepack.oci.remote.catalog import repositories

_log = logging.getLogger(__name__)
# A neighbour may be switched off, and is near.
_NEAR_ATTEMPTS, _NEAR_SECONDS = 2, 5.0
# What the kernel holds beside is past the limit before it is counted.
_LIMITED_BUFFER = 64 << 10
# A neighbour answers for an image by its digest under any name.
_ANY = "image"


class RegistryPlace:
    """The registry ``registry`` (``host[:port]``), reached as ``policy`` says.

    An image is looked for in the repositories called ``names`` below ``prefix``, in ``prefix`` itself, and in all that
    the registry lists below it.
    """

    def __init__(
        self,
        name: str,
        registry: str,
        policy: Policy,
        credentials: CredentialLookup,
        *,
        prefix: str = "",
        names: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._registry = registry
        self._policy = policy
        self._credentials = credentials
        self._prefix = prefix.strip("/")
        self._names = tuple(names)
        self._found: RemoteRepository | None = None
        self._unlisted: EdgepackError | None = None

    def find(self, target: str | Digest) -> Descriptor:
        """See ``Place``; the repository that has it is asked from then on."""
        refused: EdgepackError | None = None
        missed = []
        for repository, tag in self._candidates(target):
            remote = RemoteRepository(
                Reference(self._registry, repository, tag, None), credentials=self._credentials, policy=self._policy
            )
            try:
                found = remote.resolve(target if isinstance(target, Digest) else tag)
            except NotFoundError:
                remote.close()
                missed.append(repository)
                continue
            except AuthenticationError as error:  # what some answer for a repository that they do not have
                refused = refused or error
                continue
            self.close()
            self._found = remote
            return found
        if refused is None and not missed:  # nobody could be asked
            refused = self._unlisted
        if refused is not None:
            raise refused
        shown = ", ".join(missed[:5]) + (f" and {len(missed) - 5} more" if len(missed) > 5 else "")
        raise NotFoundError(
            f"does not have {target}" + (f" in {shown}" if shown else ""), where=self.name,
            hint="push it there, or give another source",
        )  # fmt: skip

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """See ``Place``."""
        return self._repository.open(descriptor, offset)

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """See ``Place``; by the registry's list or the fallback tag."""
        return self._repository.require_referrers(subject, artifact_type)

    def close(self) -> None:
        """Close its connections."""
        if self._found is not None:
            self._found.close()

    @property
    def _repository(self) -> RemoteRepository:
        if self._found is None:
            raise NotFoundError("does not have the image", where=self.name)
        return self._found

    def _candidates(self, target: str | Digest) -> Iterator[tuple[str, str | None]]:
        """Where the image may be: repositories, and the tag to ask for."""
        seen = set()
        for repository, tag in self._all_candidates(target):
            if is_repository(repository) and (repository, tag) not in seen:
                seen.add((repository, tag))
                yield repository, tag

    def _all_candidates(self, target: str | Digest) -> Iterator[tuple[str, str | None]]:
        if isinstance(target, str):
            name, _, tag = target.partition(":")
            tag = tag or "latest"
            if self._prefix == name or self._prefix.endswith(f"/{name}"):
                yield self._prefix, tag
            yield self._below(name), tag
            return
        for name in self._names:
            yield self._below(name), None
        if self._prefix:
            yield self._prefix, None
        try:
            for name in repositories(Reference(self._registry, self._below(_ANY)), self._credentials, self._policy):
                if not self._prefix or name.startswith(f"{self._prefix}/"):
                    yield name, None
        except (NotFoundError, RegistryError) as error:
            _log.debug("%s lists no repositories: %s", self.name, error)
            self._unlisted = error

    def _below(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name


def registry_place(
    source: RegistrySource, meter: PlaceMeter, names: Sequence[str] = (), *, limited: bool = False
) -> RegistryPlace:
    """The place of a configured registry; its credentials are looked up when it asks for some."""
    policy = _policy(meter, source.registry if source.plain_http else None, source.ca_file, limited=limited)
    return RegistryPlace(source.name, source.registry, policy, _lookup(source), prefix=source.prefix, names=names)


def _policy(meter: PlaceMeter, plain_http: str | None, ca_file: Path | None, *, limited: bool) -> Policy:
    caps = meter.caps
    return Policy(
        attempts=caps.attempts,
        backoff=caps.backoff,
        read_timeout=caps.read_timeout,
        plain_http=() if plain_http is None else (plain_http,),
        ca_file=ca_file,
        receive_buffer=_LIMITED_BUFFER if limited else None,
        meter=meter,
    )


def _lookup(source: RegistrySource) -> CredentialLookup:
    if source.credential_helper is not None:
        return Helper(source.credential_helper, f"source {source.name}")
    if source.credentials_file is not None:
        return _FromFile(source.credentials_file)
    return Logins.default()


class _FromFile:
    """A lookup in a file that is read when it is asked: it may be written anew at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, registry: str) -> Credentials | None:
        return login_file(self._path)(registry)


def neighbour_place(
    source: NeighbourSource, meter: PlaceMeter, names: Sequence[str] = (), *, limited: bool = False
) -> RegistryPlace:
    """The place of a neighbour; raises ``UsageError`` for an address that is none."""
    scheme, _, rest = source.url.partition("://")
    registry = rest.strip("/")
    if scheme not in ("http", "https") or not registry:
        raise UsageError("is not an address of a neighbour", where=source.url, hint="write it as http://HOST:PORT")
    policy = _policy(meter, registry if scheme == "http" else None, source.ca_file, limited=limited)
    near = replace(policy, attempts=min(_NEAR_ATTEMPTS, policy.attempts), connect_timeout=_NEAR_SECONDS)
    return RegistryPlace(source.name, registry, near, anonymous, names=(*names, _ANY))
