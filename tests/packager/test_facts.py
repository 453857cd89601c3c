"""What a base image offers, read from its files, and the cache of it."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from edgepack.errors import IncompatibleError, UnsafeArchiveError
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from packager.bases.facts import BaseFacts, base_facts, check_base
from tests.packager.support.bases import AMD64, ARM64, MUSL, debian, elf, layer_tar, libc, make_base

Files = Mapping[str, bytes | str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def facts_of(store: Store, *layers: Files) -> BaseFacts:
    root = make_base(store, layers)
    return base_facts(store, root, store.manifest(root), store.root / "cache")


def test_debians_python_is_found_with_its_glibc_and_processor(store: Store) -> None:
    facts = facts_of(store, debian())
    assert (facts.python, facts.python_version) == ("/usr/bin/python3.11", "3.11")
    assert (facts.glibc, facts.architecture, facts.musl) == ("2.36", "amd64", False)
    assert len(facts.unpacked_sizes) == 1
    assert facts.unpacked_sizes[0] % 512 == 0


OFFICIAL: Files = {"usr/local/bin/python3.12": elf(), "usr/local/bin/python3": "python3.12"}


@pytest.mark.parametrize(
    "layers",
    [(debian(), OFFICIAL), (OFFICIAL, debian()), ({**OFFICIAL, **debian()},), ({**debian(), **OFFICIAL},)],
    ids=["above", "below", "before", "after"],
)
def test_the_python_of_an_official_image_wins_over_debians(store: Store, layers: tuple[Files, ...]) -> None:
    facts = facts_of(store, *layers)
    assert (facts.python, facts.python_version) == ("/usr/local/bin/python3.12", "3.12")


def test_an_official_python_wins_though_it_is_the_older_one(store: Store) -> None:
    assert facts_of(store, debian(), {"usr/local/bin/python3.9": elf()}).python == "/usr/local/bin/python3.9"


def test_the_newer_of_two_pythons_side_by_side_wins(store: Store) -> None:
    facts = facts_of(store, {"usr/bin/python3.9": elf(), "usr/bin/python3.11": elf(), **libc()})
    assert facts.python_version == "3.11"


def test_the_python_that_path_leads_to_wins(store: Store) -> None:
    conda: Files = {"opt/conda/bin/python3.13": elf(), "opt/conda/lib/libstdc++.so.6": elf()}
    venv: Files = {"opt/venv/bin/python3.12": "/usr/local/bin/python3.12", "opt/venv/bin/python3": "python3.12"}

    def python(path: str, *layers: Files) -> str | None:
        root = make_base(store, [*layers], env={"PATH": path})
        return base_facts(store, root, store.manifest(root), store.root / "cache").python

    assert python("/opt/conda/bin:/usr/local/bin:/usr/bin", debian(), OFFICIAL, conda) == "/opt/conda/bin/python3.13"
    assert python("/opt/venv/bin:/usr/local/bin:/usr/bin", debian(), OFFICIAL, venv) == "/opt/venv/bin/python3.12"
    assert python("/usr/bin:/usr/local/bin", debian(), OFFICIAL, conda) == "/usr/bin/python3.11"
    assert python("/nothing:/usr/sbin", debian(), OFFICIAL, conda) == "/usr/local/bin/python3.12"


@pytest.mark.parametrize("whiteout", ["usr/local/bin/.wh.python3.12", "usr/local/.wh.bin", "usr/local/.wh..wh..opq"])
def test_what_an_upper_layer_removes_is_not_found(store: Store, whiteout: str) -> None:
    assert facts_of(store, debian(), OFFICIAL, {whiteout: b""}).python == "/usr/bin/python3.11"


def test_an_upper_layers_own_python_stays_when_it_hides_the_lower_folder(store: Store) -> None:
    hidden = {"usr/local/bin/python3.13": elf(), "usr/local/bin/.wh..wh..opq": b""}
    assert facts_of(store, debian(), OFFICIAL, hidden).python_version == "3.13"


def test_the_upper_layers_glibc_counts(store: Store) -> None:
    assert facts_of(store, libc("2.31"), libc("2.36")).glibc == "2.36"


@pytest.mark.parametrize("path", ["lib/x86_64-linux-gnu/libc-2.31.so", "./lib64/libc.so.6", "usr/lib64/libc.so.6"])
def test_glibc_is_found_where_distributions_put_it(store: Store, path: str) -> None:
    facts = facts_of(store, {**libc("2.31", path=path), "./usr/bin/python3.9": elf()})
    assert (facts.glibc, facts.python) == ("2.31", "/usr/bin/python3.9")


def test_a_second_architectures_libraries_do_not_count(store: Store) -> None:
    facts = facts_of(store, {**libc("2.36", "386"), **debian()})
    assert facts.architecture == "amd64"


def test_libraries_that_only_look_like_programs_are_no_python(store: Store) -> None:
    files = {"opt/usr/bin/python3.11": elf(), "usr/bin/python3.11-config": b"#!/bin/sh", "usr/bin/python3": elf()}
    assert facts_of(store, files).python is None


def test_a_layer_that_is_no_tar_is_refused(store: Store, tmp_path: Path) -> None:
    layer = store.put_bytes(b"x" * 1024, mediatypes.LAYER)
    config = store.put_bytes(ImageConfig(AMD64).to_bytes(), mediatypes.CONFIG)
    root = store.put_bytes(Manifest(config, (layer,)).to_bytes(), mediatypes.MANIFEST)
    with pytest.raises(UnsafeArchiveError, match="is not a tar"):
        base_facts(store, root, store.manifest(root), tmp_path / "cache")


def test_a_base_with_device_nodes_sparse_files_and_a_global_header_is_read(store: Store, tmp_path: Path) -> None:
    def info(name: str, kind: bytes, size: int = 0) -> tarfile.TarInfo:
        made = tarfile.TarInfo(name)
        made.type, made.size = kind, size
        return made

    odd = tarfile.TarInfo.create_pax_global_header({"comment": "made by a tool"})
    odd += info("./dev/null", tarfile.CHRTYPE).tobuf() + info("./run/initctl", tarfile.FIFOTYPE).tobuf()
    odd += info("./var/log/lastlog", tarfile.GNUTYPE_SPARSE, 512).tobuf(tarfile.GNU_FORMAT) + bytes(512)
    layer = store.put_bytes(odd + layer_tar(debian()), mediatypes.DOCKER_LAYER)
    config = store.put_bytes(ImageConfig(AMD64).to_bytes(), mediatypes.CONFIG)
    root = store.put_bytes(Manifest(config, (layer,)).to_bytes(), mediatypes.MANIFEST)

    facts = base_facts(store, root, store.manifest(root), tmp_path / "cache")

    assert (facts.python, facts.glibc, facts.architecture) == ("/usr/bin/python3.11", "2.36", "amd64")
    assert facts.unpacked_sizes == (layer.size,)


def test_a_layer_that_cannot_be_decompressed_says_so(store: Store, tmp_path: Path) -> None:
    layer = store.put_bytes(b"x" * 1024, mediatypes.LAYER_GZIP)
    config = store.put_bytes(ImageConfig(AMD64).to_bytes(), mediatypes.CONFIG)
    root = store.put_bytes(Manifest(config, (layer,)).to_bytes(), mediatypes.MANIFEST)
    with pytest.raises(UnsafeArchiveError, match=f"^layer {layer.digest}: damaged gzip"):
        base_facts(store, root, store.manifest(root), tmp_path / "cache")


# ---- Fitting ------------------------------------------------------------------------------------------------------


def test_a_base_that_fits_passes(store: Store) -> None:
    check_base(facts_of(store, debian()), AMD64, "mine")
    check_base(facts_of(store, debian("arm64")), ARM64, "mine")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (debian("arm64"), "its binaries are built for arm64, not for linux/amd64"),
        ({"usr/bin/python3.11": elf(), **MUSL}, "has musl, for which onnxruntime has no wheels"),
        ({"usr/bin/python3.11": elf()}, "has no glibc"),
        (libc(), "has no Python 3"),
        (
            {**libc(), "usr/bin/python3.9": elf()},
            "has Python 3.9 at /usr/bin/python3.9, and the scoring server needs 3.11 or later",
        ),
    ],
    ids=["architecture", "musl", "no-glibc", "no-python", "old-python"],
)
def test_a_base_that_does_not_fit_is_refused_with_a_way_out(store: Store, files: Files, says: str) -> None:
    with pytest.raises(IncompatibleError, match=f"base mine: {says}; give a base ") as error:
        check_base(facts_of(store, files), AMD64, "mine")
    assert error.value.exit_code == 1


# ---- The cache ----------------------------------------------------------------------------------------------------


def test_facts_are_read_once(store: Store, tmp_path: Path) -> None:
    root = make_base(store, [debian()])
    manifest = store.manifest(root)
    first = base_facts(store, root, manifest, tmp_path / "cache")
    store.path(manifest.layers[0].digest).unlink()
    assert base_facts(store, root, manifest, tmp_path / "cache") == first


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"python": 3, "unpacked_sizes": []}', b"\xff\xfe", b"null",
     b'{"python":1,"python_version":null,"glibc":null,"musl":false,"architecture":null,"unpacked_sizes":[512]}',
     b'{"python":null,"python_version":null,"glibc":null,"musl":false,"architecture":null,"unpacked_sizes":[]}',
     b'{"python":null,"python_version":null,"glibc":null,"musl":false,"architecture":null,"unpacked_sizes":["x"]}'],
)  # fmt: skip
def test_a_damaged_cache_is_made_again(store: Store, tmp_path: Path, content: bytes) -> None:
    root = make_base(store, [debian()])
    manifest = store.manifest(root)
    first = base_facts(store, root, manifest, tmp_path / "cache")
    (cached,) = (tmp_path / "cache/facts").iterdir()
    whole = cached.read_bytes()
    cached.write_bytes(content)
    assert base_facts(store, root, manifest, tmp_path / "cache") == first
    assert cached.read_bytes() == whole


def test_every_truncation_of_the_cache_is_made_again(store: Store, tmp_path: Path) -> None:
    root: Descriptor = make_base(store, [debian()])
    manifest = store.manifest(root)
    first = base_facts(store, root, manifest, tmp_path / "cache")
    (cached,) = (tmp_path / "cache/facts").iterdir()
    whole = cached.read_bytes()
    for length in range(len(whole)):
        cached.write_bytes(whole[:length])
        assert base_facts(store, root, manifest, tmp_path / "cache") == first
