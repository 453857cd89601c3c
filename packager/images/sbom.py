"""The SBOM of an image that was built of a plan: a CycloneDX document, the same wherever the same image is built.

It has no times; its serial number is a hash of what it says. What each layer holds is read from the layer, hashes of
wheels and of Debian packages come from the locks.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepack import __version__
from edgepack.documents import canonical_json
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from packager.bases.debian import load_recipe
from packager.bases.debian.recipe import read_lock
from packager.bases.find import Base, is_recipe
from packager.images.attachments import Attachment, of_kind
from packager.images.plan import FilesLayer, LayerPlan
from packager.layers.paths import MODELS_ROOT
from packager.models.model import Model, ModelFile
from packager.sbom.components import SPEC, components, library_version
from packager.sbom.layers import MANIFEST, Found, LayerContent, found_in, read_layer
from packager.sbom.metadata import normalised
from packager.sbom.models import ModelInImage, digest_of, model_component, properties, sha256
from packager.sbom.package import Package
from packager.sbom.wheels import left_out_wholly, wheel_packages
from packager.wheels.groups import WheelGroup
from packager.wheels.locks import EXTRAS, SCORING, direct_requirements
from packager.wheels.trim import TrimRule

KIND = "sbom"
# Of a source directory with more files only the one hash over all of them is given.
_LISTED_FILES = 5000
_SERVER = "edgepack-server"
_READ_ELSEWHERE = frozenset({"wheel", "wheels", "server", "config"})


@dataclass(frozen=True)
class Contents:
    """What is in an image: in its ``base``, and in all of it but for wheels, whose files are at hand."""

    base: Found
    whole: Found

    @property
    def code(self) -> tuple[ModelFile, ...]:
        """The files of the user's code."""
        return tuple(file for file in self.whole.files if not file.path.startswith(f"{MODELS_ROOT}/"))


def read_contents(store: Store, image: Descriptor, of_base: int, cache: Path) -> Contents:
    """Read ``image``, of whose layers ``of_base`` are its base's; what was read is kept below ``cache``."""
    manifest = store.manifest(image)
    config = ImageConfig.from_bytes(store.read(manifest.config))
    layers = [
        LayerContent() if layer.kind in _READ_ELSEWHERE else read_layer(store, layer, diff_id, cache)
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    ]
    return Contents(found_in(layers[:of_base]), found_in(layers))


def sbom_attachment(data: bytes) -> Attachment:
    """The document as it is attached to its image."""
    return of_kind(KIND, mediatypes.CYCLONEDX, mediatypes.CYCLONEDX, data)


def sbom(
    plan: LayerPlan,
    image: Descriptor,
    contents: Contents,
    rules: Sequence[TrimRule],
    records: Mapping[str, Model],
    cache: Path,
) -> bytes:
    """The SBOM of ``image``, built of ``plan`` with ``rules``; ``records`` are of its models, by their ids."""
    found, whole = contents.base, contents.whole
    wheels = wheel_packages(_wheels(plan), rules, cache)
    models = _models(whole, records)
    # What steps of a Dockerfile installed above the base.
    known = {package.ref for package in (*found.packages, *wheels)}
    further = [package for package in whole.packages if package.ref not in known]
    root, name = f"image:{image.digest}", _name(plan, models)
    parts = [
        _base(plan.base, plan.platform, found, cache),
        *components([*wheels, *further], cache),
        _server(),
        *(_config(layer) for layer in plan.layers if isinstance(layer, FilesLayer) and layer.kind == "config"),
        *(_code(layer.title, contents.code) for layer in plan.layers if layer.kind == "code"),
        *map(model_component, models),
    ]
    return _document(
        {
            "type": "container",
            "bom-ref": root,
            "name": name,
            "version": str(image.digest),
            "hashes": [sha256(image.digest.hex)],
            "purl": f"pkg:oci/{name.lower()}@sha256%3A{image.digest.hex}?arch={plan.platform.architecture}",
            "properties": properties(
                {
                    "edgepack:platform": str(plan.platform),
                    **{
                        f"edgepack:left-out:{name}": f"by the rule {rule.name}: {rule.reason}"
                        for name, rule in left_out_wholly(wheels, rules)
                    },
                }
            ),
        },
        parts,
        _dependencies(
            root, found, [*wheels, *further], models, has_code=any(layer.kind == "code" for layer in plan.layers)
        ),
        _compositions(plan.base, wheels),
    )


def _document(
    root: Mapping[str, Any],
    parts: Sequence[Mapping[str, Any]],
    dependencies: Mapping[str, Iterable[str]],
    compositions: Sequence[Mapping[str, Any]],
) -> bytes:
    value: dict[str, Any] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {
                "components": [
                    {"type": "library", "name": "cyclonedx-python-lib", "version": library_version()},
                    {"type": "application", "name": "edgepack", "version": __version__},
                ]
            },
            "component": dict(root),
        },
        "components": [dict(part) for part in parts],
        "dependencies": [
            {"ref": ref, **({"dependsOn": sorted(set(names))} if names else {})}
            for ref, names in sorted((ref, tuple(names)) for ref, names in dependencies.items())
        ],
        "compositions": list(compositions),
    }
    value["serialNumber"] = f"urn:uuid:{uuid.UUID(hex=Digest.of(canonical_json(value)).hex[:32], version=5)}"
    return canonical_json(value)


def _wheels(plan: LayerPlan) -> list[Any]:
    return [wheel for layer in plan.layers if isinstance(layer, WheelGroup) for wheel in layer.wheels]


def _name(plan: LayerPlan, models: Sequence[ModelInImage]) -> str:
    """What the image is about: its tag is not part of it, and may change."""
    if models:
        return "-".join(model.name for model in models)[:128]
    return next((layer.title.rpartition("/")[2] for layer in plan.layers if layer.kind == "code"), "image")


def _models(found: Found, records: Mapping[str, Model]) -> list[ModelInImage]:
    """The models by the folders of their versions."""
    files: dict[tuple[str, str], list[ModelFile]] = {}
    for file in found.files:
        below = file.path.removeprefix(f"{MODELS_ROOT}/")
        if below != file.path and below.count("/") >= 2:
            name, version, _ = below.split("/", 2)
            files.setdefault((name, version), []).append(file)
    return [
        ModelInImage(
            name, version, tuple(listed), found.manifests.get(f"{MODELS_ROOT}/{name}/{version}/{MANIFEST}", ""),
            records.get(f"{name}:{version}"),
        )
        for (name, version), listed in sorted(files.items())
    ]  # fmt: skip


def _base(base: Base, platform: Platform, found: Found, cache: Path) -> dict[str, Any]:
    inside = components(_with_hashes(base, platform, found.packages), cache)
    refs = _refs_in_base(found)
    for one in inside:
        one["bom-ref"] = refs[str(one["bom-ref"])]
    if not any(package.name.startswith("python3") for package in found.packages if package.kind != "pypi"):
        inside.append(
            {
                "type": "platform",
                "bom-ref": "base/python",
                "name": "CPython",
                "version": base.facts.python_version,
                "properties": properties({"edgepack:path": base.facts.python}),
            }
        )
    # What a base on this machine is called is its user's own matter.
    name = base.name if is_recipe(base.name) else base.reference
    return {
        "type": "container",
        "bom-ref": "base",
        "name": name or "base image",
        "version": str(base.descriptor.digest),
        "hashes": [sha256(base.descriptor.digest.hex)],
        "properties": properties({"edgepack:system": found.system, "edgepack:glibc": base.facts.glibc}),
        "components": inside,
    }


def _refs_in_base(found: Found) -> dict[str, str]:
    """The names in the document by package URL: short, and not those of Python's packages above the base."""
    short = {package.ref: f"base/{package.kind}/{package.name}" for package in found.packages}
    many = Counter(short.values())
    return {ref: name if many[name] == 1 else f"base/{ref}" for ref, name in short.items()}


def _with_hashes(base: Base, platform: Platform, packages: Sequence[Package]) -> list[Package]:
    """The packages of a recipe's image with the hashes of their files, which its lock has."""
    lock = read_lock(load_recipe(base.name), platform) if is_recipe(base.name) else None
    known = {(one.name, one.version, one.architecture): one.sha256 for one in (lock.packages if lock else ())}
    return [
        replace(one, sha256=known.get((one.name, one.version, one.architecture), one.sha256))
        if one.kind == "deb"
        else one
        for one in packages
    ]


def _server() -> dict[str, Any]:
    licence = [{"license": {"id": "Apache-2.0", "acknowledgement": "declared"}}]
    return {"type": "application", "bom-ref": "server", "name": _SERVER, "version": __version__, "licenses": licence}


def _config(layer: FilesLayer) -> dict[str, Any]:
    (entry,) = layer.entries
    with entry.content() as file:  # type: ignore[misc]  # one file, which is in memory
        digest = Digest.of(file.read()).hex
    return {"type": "file", "bom-ref": "config", "name": f"/{entry.path}", "hashes": [sha256(digest)]}


def _code(title: str, files: Sequence[ModelFile]) -> dict[str, Any]:
    """The user's code: each file, or of very many the one hash over all of them."""
    about = {"edgepack:files": str(len(files)), "edgepack:hash-of": "the list of its files"}
    found: dict[str, Any] = {
        "type": "application", "bom-ref": "code", "name": title, "hashes": [sha256(digest_of(files))],
        "properties": properties(about),
    }  # fmt: skip
    if len(files) <= _LISTED_FILES:
        found["components"] = [
            {"type": "file", "bom-ref": f"code/{file.path}", "name": f"/{file.path}", "hashes": [sha256(file.sha256)]}
            for file in files
        ]
    return found


def _dependencies(
    root: str, found: Found, wheels: Sequence[Package], models: Sequence[ModelInImage], *, has_code: bool
) -> dict[str, list[str]]:
    """Who needs whom, of what is in the image; a user's code needs what nobody else does."""
    refs = {package.name: package.ref for package in wheels}
    graph: dict[str, list[str]] = {
        package.ref: [refs[name] for name in package.requires if name in refs] for package in wheels
    }
    server = [refs[name] for name in _server_needs() if name in refs]
    graph["server"] = server
    needed = {ref for names in graph.values() for ref in names}
    graph |= {model.ref: [] for model in models}
    graph["config"] = []
    if has_code:
        graph["code"] = [ref for ref in refs.values() if ref not in needed]
    inside = _refs_in_base(found)
    debs = {package.name: inside[package.ref] for package in found.packages if package.kind != "pypi"}
    pypi = {package.name: inside[package.ref] for package in found.packages if package.kind == "pypi"}
    for package in found.packages:
        known = pypi if package.kind == "pypi" else debs
        graph[inside[package.ref]] = [known[name] for name in package.requires if name in known]
    graph["base"] = []
    graph[root] = ["base", "server", "config", *(["code"] if has_code else []), *(model.ref for model in models)]
    if not has_code:
        graph[root] += [ref for ref in refs.values() if ref not in needed]
    return graph


def _server_needs() -> list[str]:
    lines = [line for stack in (SCORING, *EXTRAS) for line in direct_requirements(stack)]
    return [normalised(match[0]) for line in lines if (match := re.match(r"[A-Za-z0-9._-]+", line))]


def _compositions(base: Base, wheels: Sequence[Package]) -> list[dict[str, Any]]:
    """How much is known: all of a recipe's image, of another base what its package managers say."""
    bundled = sorted(
        package.ref for package in wheels if any(name == "edgepack:bundled" for name, _ in package.properties)
    )
    found: list[dict[str, Any]] = [
        {"aggregate": "complete" if is_recipe(base.name) else "incomplete", "assemblies": ["base"]}
    ]
    if bundled:
        # Their libraries of others are named, and which versions they are nobody says.
        found.append({"aggregate": "incomplete", "assemblies": bundled})
    return found
