"""Packages as components of CycloneDX, written by its own library: licences by SPDX's names, package URLs, hashes.

The library takes a third of a second to import, so that what it wrote is kept: of the same packages the same comes out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.host.files import atomic_write, make_dirs
from packager.sbom.package import Package

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

_FORMAT = 1
SPEC = "1.6"


def library_version() -> str:
    """The version of the library, which decides how it writes."""
    return version("cyclonedx-python-lib")


def components(packages: Sequence[Package], cache: Path) -> list[dict[str, Any]]:
    """The components of ``packages``, in the order of their package URLs."""
    listing = sorted(packages, key=lambda package: package.ref)
    key = json.dumps([_FORMAT, SPEC, library_version(), [package.to_json() for package in listing]], sort_keys=True)
    path = cache / f"components-{hashlib.sha256(key.encode()).hexdigest()}.json"
    try:
        known = json.loads(path.read_bytes())
        if isinstance(known, list) and len(known) == len(listing):
            return known
    except (OSError, ValueError):
        pass  # never written, or not readable: written again
    found = _written(listing) if listing else []
    make_dirs(path.parent)
    atomic_write(path, json.dumps(found, sort_keys=True).encode())
    return found


def _written(packages: Sequence[Package]) -> list[dict[str, Any]]:
    from cyclonedx.model.bom import Bom
    from cyclonedx.output.json import JsonV1Dot6

    document = json.loads(JsonV1Dot6(Bom(components=map(_component, packages))).output_as_string())
    return sorted(document["components"], key=lambda one: str(one["bom-ref"]))


def _component(package: Package) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        bom_ref=package.ref,
        purl=PackageURL.from_string(package.ref),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=package.sha256)] if package.sha256 else [],
        licenses=_licences(package.licences),
        properties=[Property(name=name, value=value) for name, value in package.properties],
    )


def _licences(names: Sequence[str]) -> list[License]:
    """Licences as CycloneDX has them: one expression alone, or any number of ids and names."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.license import DisjunctiveLicense, LicenseAcknowledgement, LicenseExpression

    factory, declared = LicenseFactory(), LicenseAcknowledgement.DECLARED
    found = [factory.make_from_string(name, license_acknowledgement=declared) for name in names]
    if len(found) > 1:
        # Beside others an expression would not be valid: there it is a name.
        found = [
            DisjunctiveLicense(name=one.value, acknowledgement=declared) if isinstance(one, LicenseExpression) else one
            for one in found
        ]
    return found
