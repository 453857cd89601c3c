"""The check of every compiled file of an image against its base, before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from edgepack.oci.descriptor import Platform
from edgepack.oci.sources import BlobSource
from packager.bases.find import Base
from packager.inference.entry_script import EntryScript
from packager.models.model import Model
from packager.native.check import Offer, Origin, check_native
from packager.native.files import files_of_code, files_of_layers, files_of_wheel, may_be_native
from packager.wheels.cache import Wheel
from packager.wheels.groups import WheelGroup
from packager.wheels.trim import TrimRule, file_rules


def check_image(
    base: Base,
    platform: Platform,
    wheels: Iterable[WheelGroup],
    rules: Sequence[TrimRule],
    *,
    script: EntryScript | None = None,
    models: Iterable[Model] = (),
    source: BlobSource,
    missing: Collection[str] = (),
) -> None:
    """Raise ``IncompatibleError`` for compiled files that cannot be loaded on ``base``: of wheels, script and models.

    The blobs of ``models`` are in ``source``; ``missing`` are libraries that need not be there.
    """
    facts = base.facts
    if not facts.libraries:
        return  # nothing is known of a base whose facts were made up
    offer = Offer(base.name, platform, facts.python_version, facts.glibc, facts.libraries)
    origins = [_of_wheel(wheel, rules) for group in wheels for wheel in group.wheels]
    if script is not None:
        origins.append(Origin("the source directory", files_of_code(script.entries)))
    for model in models:
        if may_be_native(file.path for file in model.files):
            layers = [layer.descriptor for layer in model.layers]
            origins.append(Origin(f"model {model.id}", files_of_layers(source, layers)))
    check_native(offer, origins, missing)


def _of_wheel(wheel: Wheel, rules: Sequence[TrimRule]) -> Origin:
    trimmed = file_rules(rules, wheel.name)
    files = tuple(file for file in files_of_wheel(wheel) if not any(rule.leaves_out(file.path) for rule in trimmed))
    return Origin(wheel.title, files, is_wheel=True)
