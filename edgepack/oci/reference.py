"""Image references: ``registry/repository:tag@digest`` (the distribution project's grammar, Docker's defaults)."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass

from edgepack.errors import InvalidReferenceError
from edgepack.oci.digest import Digest

DOCKER_HUB = "docker.io"
# Docker Hub's name in references is not the host that answers its API, nor the key of its credentials.
DOCKER_HUB_HOST = "registry-1.docker.io"
DEFAULT_TAG = "latest"
# distribution/reference: the name without its tag and digest has at most 255 characters.
MAX_NAME = 255

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# What an image is called in a workspace: a repository, perhaps with a registry before it, and a tag.
_NAME = re.compile(rf"(?:{_REGISTRY.pattern}/)?{_REPOSITORY.pattern}(?::(?P<tag>{_TAG.pattern}))?")
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
# How much of a model's name a repository has, and what ends the names that are made fit.
_FITTING = 128
_HASHED = re.compile(r"-[0-9a-f]{12}$")


@dataclass(frozen=True)
class Reference:
    """Where an image is: a registry (``host[:port]``), a repository in it, and a tag, a digest or both."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse ``[registry/]repository[:tag][@digest]``; raises ``InvalidReferenceError``.

        As Docker does: no registry means docker.io, one name there means ``library/``, and neither tag nor digest
        means ``latest``. The first part is a registry when it has a dot, a colon or a capital, or is localhost.
        """
        name, at, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if at else None
        head, slash, rest = name.partition("/")
        if slash and ("." in head or ":" in head or head == "localhost" or head != head.lower()):
            registry, path = head, rest
        else:
            registry, path = DOCKER_HUB, name
        repository, colon, tag_text = path.partition(":")
        tag = tag_text if colon else None
        if registry == "index.docker.io":
            registry = DOCKER_HUB
        if registry == DOCKER_HUB and "/" not in repository:
            if _IDENTIFIER.fullmatch(repository):
                raise InvalidReferenceError(
                    f"{text!r} is the identifier of an image, not its name", hint="write it as name@sha256:<digits>"
                )
            repository = f"library/{repository}"
        if tag is None and digest is None:
            tag = DEFAULT_TAG
        try:
            _check(registry, repository, tag)
        except ValueError as error:
            raise InvalidReferenceError(
                f"{text!r} is not an image reference: {error}", hint="write it as registry/repository:tag"
            ) from None
        return cls(registry, repository, tag, digest)

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest when there is one, or else the tag."""
        return str(self.digest) if self.digest is not None else self.tag or DEFAULT_TAG

    @property
    def api_host(self) -> str:
        """The ``host[:port]`` that answers the registry's API."""
        return DOCKER_HUB_HOST if self.registry == DOCKER_HUB else self.registry

    def __str__(self) -> str:
        text = self.name if self.tag is None else f"{self.name}:{self.tag}"
        return text if self.digest is None else f"{text}@{self.digest}"


def _check(registry: str, repository: str, tag: str | None) -> None:
    """Raise ``ValueError``, which says why, unless all three are valid."""
    if not _REGISTRY.fullmatch(registry):
        raise ValueError(f"{registry!r} is not a registry's host and port")
    if not repository or repository == "library/":
        raise ValueError("the repository is missing")
    if not _REPOSITORY.fullmatch(repository):
        in_lower_case = _REPOSITORY.fullmatch(repository.lower()) is not None
        why = "must be in lower case" if in_lower_case else "has a part that no name may have"
        raise ValueError(f"repository {repository!r} {why}")
    if len(repository) > MAX_NAME:
        raise ValueError(f"the repository is longer than {MAX_NAME} characters")
    if tag is not None and not _TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} is not a tag")


def image_tag(text: str) -> str:
    """The full form of an image's name: ``churn`` becomes ``churn:latest``; raises ``InvalidReferenceError``.

    Model names may have capitals and image repositories may not, so a tag is never derived in silence.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise InvalidReferenceError(
            f"{text!r} is not an image tag",
            hint="write it as name:tag, the name in lowercase, for example churn:1",
        )
    return text if match["tag"] else f"{text}:{DEFAULT_TAG}"


def names_registry(text: str) -> bool:
    """Whether a reference says which registry: its first part has a dot or colon, or is localhost."""
    host, slash, _ = text.partition("/")
    return bool(slash) and (host == "localhost" or "." in host or ":" in host)


def checked_tag(tag: str) -> str:
    """``tag`` when it is one; raises ``InvalidReferenceError``."""
    if not _TAG.fullmatch(tag):
        raise InvalidReferenceError(f"{tag!r} is not a tag", hint="use letters, digits, '_', '.' and '-'")
    return tag


def is_repository(text: str) -> bool:
    """Whether ``text`` may name a repository."""
    return len(text) <= MAX_NAME and _REPOSITORY.fullmatch(text) is not None


def host_of(registry: str) -> str:
    """The host of ``host[:port]``; an IPv6 address keeps its brackets."""
    return registry if registry.endswith("]") else registry.rpartition(":")[0] or registry


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address, without its port) is this machine: 127.0.0.0/8, ::1 or localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def repository_of(model_name: str) -> str:
    """The repository of an image registry that belongs to a model's name; each name has its own.

    It is the name itself where a repository may be called so. Others, such as those with capitals, are made fit and end
    in a hash of the name; so does a name that ends like one of these.
    """
    if len(model_name) <= _FITTING and is_repository(model_name) and not _HASHED.search(model_name):
        return model_name
    fit = re.sub(r"[^a-z0-9]+", "-", model_name.lower())[:_FITTING].strip("-") or "model"
    return f"{fit}-{hashlib.sha256(model_name.encode()).hexdigest()[:12]}"


def referrers_tag(subject: Digest) -> str:
    """The tag under which the referrers of ``subject`` are listed."""
    return f"sha256-{subject.hex}"


def is_referrers_tag(tag: str) -> bool:
    """Whether ``tag`` holds the referrers of an image, so that it is not the name of one."""
    return tag.startswith("sha256-") and len(tag) == len("sha256-") + 64


def short_name(reference: Reference) -> str:
    """The reference in Docker's short form: without ``docker.io/library/``."""
    return str(reference).removeprefix(f"{DOCKER_HUB}/").removeprefix("library/")
