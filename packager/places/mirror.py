"""Bundles and a site's registry: images sent there under names by rule, and what the registry holds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.bundle.blobs import BundleSet
from edgepack.errors import NotFoundError, UsageError
from edgepack.host.progress import Progress, unseen
from edgepack.oci import mediatypes
from edgepack.oci.attachments import subjects
from edgepack.oci.copy import CopyReport, copy, digests
from edgepack.oci.digest import Digest
from edgepack.oci.reference import Reference, names_registry
from edgepack.signing.keys import PublicKey
from edgepack.signing.statement import verify_image
from packager.registries.access import Access

if TYPE_CHECKING:
    from edgepack.oci.remote import RemoteRepository


@dataclass(frozen=True)
class Mapping:
    """What images are called in a registry: ``to`` and their own name, of which ``rules`` replace the beginning."""

    to: str
    rules: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, to: str, rules: Sequence[str]) -> Mapping:
        """Read ``--to REGISTRY[/PATH]`` and ``--map FROM=TO``; raises ``UsageError``."""
        to = to.rstrip("/")
        Reference.parse(f"{to}/x:1")
        if not names_registry(f"{to}/x"):
            raise UsageError("does not name a registry", where=to, hint="write it as --to registry.plant.local/ml")
        found = []
        for rule in rules:
            old, equals, new = rule.partition("=")
            if not old or not equals or not new:
                raise UsageError(
                    f"{rule!r} is not FROM=TO", where="--map", hint="write it as --map vision=cameras/vision"
                )
            found.append((old.strip("/"), new.strip("/")))
        return cls(to, tuple(sorted(found, key=lambda one: -len(one[0]))))

    def name(self, image: str) -> str:
        """What the image is called there; the registry in its own name, where it has one, is left out."""
        own = image.partition("/")[2] if names_registry(image) else image
        repository, colon, tag = own.rpartition(":")
        if not colon:
            repository, tag = own, "latest"
        for old, new in self.rules:
            if repository == old or repository.startswith(f"{old}/"):
                repository = new + repository[len(old) :]
                break
        return f"{self.to}/{repository}:{tag}"


@dataclass(frozen=True)
class Mirrored:
    """An image that a registry has now."""

    name: str
    reference: str
    digest: Digest
    report: CopyReport


def mirror(
    bundle: BundleSet,
    mapping: Mapping,
    access: Access,
    trusted: Collection[PublicKey],
    *,
    allow_unsigned: bool = False,
    progress: Progress = unseen,
) -> Iterator[Mirrored]:
    """Send every image of ``bundle`` to a registry, with what is attached to it; digests stay as they are.

    Signatures are verified before anything is sent. Raises ``SignatureError``, ``NotFoundError`` for parts that are
    missing and for what the bundle left out and the registry lacks, ``RegistryError``.
    """
    if bundle.missing:
        from edgepack.bundle.parts import numbers

        raise NotFoundError(f"lacks {numbers(bundle.missing)}", where=bundle.where, hint="give all parts")
    names: dict[str, str] = {}
    for image in bundle.contents.images:
        reference = mapping.name(image.name)
        Reference.parse(reference)
        if reference in names:
            raise UsageError(f"{names[reference]} and {image.name} would both be {reference}", where="--map")
        names[reference] = image.name
        if not allow_unsigned or bundle.referrers(image.descriptor.digest, mediatypes.STATEMENT_ARTIFACT):
            verify_image(bundle, image.descriptor.digest, trusted)
    for reference, image in zip(names, bundle.contents.images, strict=True):
        with _repository(reference, access) as repository:
            root = image.descriptor
            report = copy(bundle, repository, root, progress=progress)
            repository.tag(repository.reference.tag or "latest", root)
            attached = [one for part in subjects(bundle, root) for one in bundle.referrers(part.digest)]
            report += repository.attach_all(attached, bundle)
        yield Mirrored(image.name, reference, root.digest, report)


def held(references: Sequence[str], access: Access) -> frozenset[Digest]:
    """All blobs of the images ``references`` name in registries; of a repository without a tag, of all its tags.

    Raises ``NotFoundError``, ``RegistryError``.
    """
    found: set[Digest] = set()
    for text in references:
        if not names_registry(text):
            raise UsageError(
                "does not name a registry", where=text, hint="write it as registry.plant.local/ml/sentiment:3"
            )
        with _repository(text, access) as repository:
            named = ":" in text.rpartition("/")[2] or "@" in text
            tags: Sequence[str | None] = [None] if named else repository.tags()
            for tag in tags:
                root = repository.resolve(tag)
                found |= digests(repository, root)
                for part in subjects(repository, root):
                    for artifact in repository.referrers(part.digest):
                        found |= digests(repository, artifact)
    return frozenset(found)


@contextmanager
def _repository(text: str, access: Access) -> Iterator[RemoteRepository]:
    from edgepack.oci.remote import RemoteRepository
    from packager.registries.known_blobs import known_blobs

    reference = Reference.parse(text)
    lookup = access.logins.lookup(named=reference.registry)
    with known_blobs(reference.registry) as known:
        yield RemoteRepository(reference, policy=access.policy(), credentials=lookup, known=known)
