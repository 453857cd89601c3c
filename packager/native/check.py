"""Whether the compiled files of an image can be loaded on its base: processor, libraries, versions of their symbols.

The system's loader refuses such a file when it is imported, on the device; here it is refused before anything is
written. A library counts as there if the base or any file of the image has its name: which folders the loader will
search, and what a package loads beforehand, is not known.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from edgepack.errors import IncompatibleError
from edgepack.oci.descriptor import Platform
from packager.layers.elf import newest
from packager.native.files import NativeFile

_log = logging.getLogger(__name__)
# Of a device's own driver: an engine shows them to a container that may use the device.
_OF_DRIVERS = re.compile(r"lib(?:cuda|nvidia-.+|nvcuvid|OpenCL|ze_loader|vulkan)\.so(?:\..+)?")
# Debian's packages, for the libraries that are asked for most.
_PACKAGES = {
    "libGL.so.1": "libgl1", "libgomp.so.1": "libgomp1", "libgfortran.so.5": "libgfortran5",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libglib-2.0.so.0": "libglib2.0-0", "libpq.so.5": "libpq5", "libsndfile.so.1": "libsndfile1",
    "libstdc++.so.6": "libstdc++6", "libgcc_s.so.1": "libgcc-s1", "libcrypt.so.1": "libcrypt1", "libz.so.1": "zlib1g",
    "libX11.so.6": "libx11-6", "libSM.so.6": "libsm6", "libXext.so.6": "libxext6", "libatomic.so.1": "libatomic1",
}  # fmt: skip
# A module's name says for which Python and processor it is (PEP 3149); of another one Python does not see it.
_TAGGED = re.compile(r".+\.cpython-(\d)(\d+)[a-z]*-(\w+?)-linux-gnu\w*\.so")
_TAGS = {"x86_64": "amd64", "aarch64": "arm64", "arm": "arm", "i386": "386"}
_IN_OWN_BASES = frozenset({"libgomp.so.1"})
_SHOWN = 6


@dataclass(frozen=True)
class Origin:
    """Where compiled files come from: ``name`` is such as ``opencv-python 4.11`` or ``the source directory``.

    Of a wheel, files for other processors are passed over as long as some are for the right one: what they are for,
    the wheel decides when it runs.
    """

    name: str
    files: tuple[NativeFile, ...]
    is_wheel: bool = False

    @property
    def package(self) -> str:
        """The name of the wheel without its version; ``it`` for something else."""
        return self.name.partition(" ")[0] if self.is_wheel else "it"


@dataclass(frozen=True)
class Offer:
    """What a base has: ``python`` is its minor version, ``libraries`` have the versions of symbols of each."""

    name: str
    platform: Platform
    python: str
    glibc: str
    libraries: Mapping[str, tuple[str, ...]]


def check_native(offer: Offer, origins: Sequence[Origin], missing: Collection[str] = ()) -> None:
    """Raise ``IncompatibleError`` for compiled files that cannot be loaded on the base, naming each and what it needs.

    ``missing`` are the libraries that need not be there.
    """
    kept = [(origin, _for_this(origin, offer)) for origin in origins]
    provided: dict[str, tuple[str, ...]] = dict(offer.libraries)
    for file in (file for _, files in kept for file in files):
        for name in {PurePosixPath(file.path).name, file.elf.soname} - {""}:
            provided.setdefault(name, file.elf.provides)
    problems = [*_foreign(origins, offer), *_unmet(kept, provided, offer, missing)]
    if not problems:
        return
    shown = problems[:_SHOWN]
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more like these")
    raise IncompatibleError("; ".join(shown), where=f"base {offer.name} for {offer.platform}")


def _for_this(origin: Origin, offer: Offer) -> list[NativeFile]:
    return [file for file in origin.files if file.elf.machine == offer.platform.architecture]


def _foreign(origins: Iterable[Origin], offer: Offer) -> Iterator[str]:
    """Files for another processor, where nothing says that they are meant for another image."""
    for origin in origins:
        others = [file for file in origin.files if file.elf.machine not in (None, offer.platform.architecture)]
        if origin.is_wheel and len(others) < len(origin.files):
            continue
        for file in others:
            tag = _TAGGED.fullmatch(file.path)
            if tag is None or _TAGS.get(tag[3]) != file.elf.machine or origin.is_wheel:
                hint = "take the wheel for that platform" if origin.is_wheel else "put the one for this platform there"
                yield f"{file.path} of {origin.name} is compiled for {file.elf.machine}: {hint}, or leave it out"
            else:
                _log.info("%s of %s is for %s, and no use in this image", file.path, origin.name, file.elf.machine)
        if not origin.is_wheel:
            _note_other_pythons(origin, offer)


def _note_other_pythons(origin: Origin, offer: Offer) -> None:
    for file in origin.files:
        tag = _TAGGED.fullmatch(file.path)
        if tag and file.elf.machine == offer.platform.architecture and f"{tag[1]}.{tag[2]}" != offer.python:
            _log.warning(
                "%s of %s is for Python %s.%s, and the image's Python %s does not see it",
                file.path, origin.name, tag[1], tag[2], offer.python,
            )  # fmt: skip


def _unmet(
    kept: Iterable[tuple[Origin, Sequence[NativeFile]]],
    provided: Mapping[str, tuple[str, ...]],
    offer: Offer,
    missing: Collection[str],
) -> Iterator[str]:
    """A sentence for the libraries, and one for the versions, that files of one origin lack, with the first file."""
    for origin, files in kept:
        first, absent, older = "", list[str](), dict[str, str]()
        for file in files:
            for library in file.elf.needed:
                if library in provided or library in missing or library in absent or _OF_DRIVERS.fullmatch(library):
                    continue
                first = first or file.path
                absent.append(library)
            for library, versions in file.elf.versions.items():
                has = provided.get(library, ())
                lacking = [version for version in versions if version not in has]
                if has and lacking and library not in missing:
                    needs = f"{newest(lacking)} of {library}{_have(lacking, has)}"
                    older.setdefault(library, f"{file.path} of {origin.name} needs {needs}")
        if absent:
            which = "which neither the base nor a wheel has"
            yield f"{first} of {origin.name} needs {_listed(absent)}, {which}: {_way_to(absent, origin, offer)}"
        for text in older.values():
            yield f"{text}: use a newer base, or an older version of {origin.package}"


def _have(lacking: Sequence[str], has: Sequence[str]) -> str:
    """The highest of the versions that there are, of the kind that is lacking: GLIBC, GLIBCXX or another."""
    kind = newest(lacking).partition("_")[0]
    same = [version for version in has if re.fullmatch(rf"{re.escape(kind)}_[0-9.]+", version)]
    return f", and there is {newest(same)}" if same else ""


def _listed(libraries: Sequence[str]) -> str:
    shown = libraries[:_SHOWN] if len(libraries) > _SHOWN + 1 else libraries
    more = f" and {len(libraries) - len(shown)} more" if len(shown) < len(libraries) else ""
    return ", ".join(shown) + more


def _way_to(libraries: Sequence[str], origin: Origin, offer: Offer) -> str:
    name = origin.package
    if name in ("opencv-python", "opencv-contrib-python"):
        return f"take {name}-headless, which needs no display"
    ways = []
    if all(library in _IN_OWN_BASES for library in libraries):
        ways.append("take one of edgepack's own bases, which have it")
    packages = [_PACKAGES[library] for library in libraries if library in _PACKAGES]
    them = "it" if len(libraries) == 1 else "them"
    of = f" (Debian's {', '.join(packages[:_SHOWN])})" if packages else ""
    ways.append(f"give --base an image of your own with {them}{of}")
    options = " ".join(f"--without-library {library}" for library in libraries[:3])
    when = f"if what needs {them} is never used, or extra Dockerfile steps bring {them}"
    ways.append(f"or {options}{' …' if len(libraries) > 3 else ''} {when}")
    return ", ".join(ways)
