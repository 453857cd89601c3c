"""Bundles and parts with one random byte changed, cut short, or with parts swapped: refused, and the part is named.

A sample in every run; 10,000 with ``EDGEPACK_WHOLE=1``.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepack.bundle.receive import import_media
from edgepack.bundle.write import write_bundle
from edgepack.bundle.write_parts import write_to_folder
from edgepack.errors import BadPartsError, EdgepackError, MissingPartsError
from edgepack.oci.store import Store
from edgepack.signing.keys import create_key
from tests.edgepack.support.bundles import damage, simple
from tests.support.sampling import WHOLE

KEY = create_key()
TRUST = [KEY.public]
TIMES = 10_000 if WHOLE else 45
SIZES = (60_000, 1000, 513, 9000)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles in parts, and in one file each."""
    folder = tmp_path_factory.mktemp("made")
    for name, more in (("mine", 0), ("theirs", 1)):
        store = simple(folder / name, [size + more for size in SIZES], tag=f"{name}:1")
        write_to_folder(store, [f"{name}:1"], folder / f"{name}-parts", key=KEY, part_size=70_000)
        write_bundle(store, [f"{name}:1"], folder / f"{name}.bundle", key=KEY)
    return folder


def flip(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def longer(data: bytes, draw: random.Random) -> bytes:
    return data + draw.randbytes(draw.randrange(1, 2000))


def test_altered_bundles_are_refused_before_anything_is_visible(made: Path, tmp_path: Path) -> None:
    draw = random.Random(16)  # noqa: S311
    device = Store.create(tmp_path / "device")
    whole = (made / "mine.bundle").read_bytes()
    parts = sorted((made / "mine-parts").iterdir())
    theirs = sorted((made / "theirs-parts").iterdir())
    stick = tmp_path / "stick"
    kinds: list[Callable[[bytes, random.Random], bytes]] = [flip, flip, cut, longer]
    for number in range(TIMES):
        kind = draw.choice(kinds)
        shutil.rmtree(stick, ignore_errors=True)
        stick.mkdir()
        what = number % 3
        named = ""
        if what == 0:
            path = stick / "one.bundle"
            path.write_bytes(kind(whole, draw))
        else:
            for part in parts:
                shutil.copyfile(part, stick / part.name)
            at = draw.randrange(len(parts))
            path = stick / parts[at].name
            path.write_bytes(kind(parts[at].read_bytes(), draw) if what == 1 else theirs[at].read_bytes())
            named = f"part {at + 1} of {len(parts)}"
        with pytest.raises(EdgepackError) as caught:
            import_media([path] if what == 0 else [stick], device, TRUST)
        said = f"{number} {kind.__name__} {what}: {caught.value}"
        assert caught.value.exit_code == 4 or isinstance(caught.value, MissingPartsError), said
        assert named in str(caught.value), said
        if what == 1:
            assert isinstance(caught.value, BadPartsError), said
        assert device.index().manifests == (), said
        assert damage(device) == [], said
        shutil.rmtree(device.root)  # what was good is kept, and would make up for what is bad next
        device = Store.create(tmp_path / "device")
    import_media([made / "mine-parts"], device, TRUST)
    assert set(device.tags()) == {"mine:1"}
