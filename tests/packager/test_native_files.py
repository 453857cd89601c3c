"""Compiled files against their base: processor, libraries and versions of symbols, before anything is written."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgepack.errors import IncompatibleError, VerificationError
from edgepack.names import ModelRef
from edgepack.oci.digest import Digest
from edgepack.oci.layer import LayerEntry
from edgepack.oci.store import Store
from packager.bases.facts import BaseFacts, base_facts
from packager.images.build import BuildOptions
from packager.inference.entry_script import read_entry_script
from packager.layers.elf import Elf, machine_of, newest, read_elf
from packager.native.check import Offer, Origin, check_native
from packager.native.files import NativeFile, files_of_code, files_of_layers, files_of_wheel, may_be_native
from packager.wheels.cache import WheelCache
from packager.wheels.symbols import without_symbols
from tests.packager.support.bases import AMD64, ARM64, debian, elf, make_base
from tests.packager.support.wheels import make_wheel, sha256
from tests.packager.support.workspaces import make_workspace
from tests.support.running import run

import _ctypes  # isort: skip  (a compiled module that every Python has)

MODULE = Path(_ctypes.__file__)
LIBC = ("GLIBC_2.17", "GLIBC_2.34", "GLIBC_2.36")
OFFER = Offer("debian12-python3.11", AMD64, "3.11", "2.36", {"libc.so.6": LIBC, "libm.so.6": ("GLIBC_2.29",)})


def wheel(name: str, *files: NativeFile) -> Origin:
    return Origin(f"{name} 1.0", files, is_wheel=True)


def file(path: str, machine: str = "amd64", **more: Any) -> NativeFile:
    return NativeFile(path, Elf(machine, **more))


def refusal(*origins: Origin, offer: Offer = OFFER, missing: Iterable[str] = ()) -> str:
    with pytest.raises(IncompatibleError) as caught:
        check_native(offer, origins, frozenset(missing))
    return str(caught.value)


# ---- Reading ------------------------------------------------------------------------------------------------------


@pytest.mark.real("readelf")
@pytest.mark.parametrize("strip", [False, True], ids=["whole", "without symbols"])
def test_a_compiled_file_is_read_as_readelf_reads_it(tmp_path: Path, strip: bool) -> None:
    found = [path for path in Path("/usr/lib").glob("*-linux-gnu/lib*.so.*") if not path.is_symlink()][:40]
    read = 0
    for path in (MODULE, *found):
        data = path.read_bytes()
        elf = read_elf(without_symbols(data) if strip else data)
        if elf is None:
            continue
        read += 1
        said = run("readelf", "-dVW", path)
        assert list(elf.needed) == re.findall(r"\(NEEDED\).*\[(.*)\]", said), path
        assert [elf.soname] == (re.findall(r"\(SONAME\).*\[(.*)\]", said) or [""]), path
        needs = said.partition("Version needs section")[2]
        named = re.findall(r"Name: (\S+)  Flags: (\S+)", needs)
        versions = sorted(version for versions in elf.versions.values() for version in versions)
        assert sorted(name for name, flags in named if flags != "WEAK") == versions, path
        defined = said.partition("Version definition section")[2].partition("Version needs section")[0]
        names = re.findall(r"Rev: 1  Flags: (\S+) .*Name: (\S+)", defined)
        assert [name for flags, name in names if "BASE" not in flags] == list(elf.provides), path
    assert read > 3


def test_a_damaged_file_is_told_by_its_processor_alone_and_takes_no_time() -> None:
    data = MODULE.read_bytes()
    machine = machine_of(data)
    for length in range(20, 4000, 7):
        elf = read_elf(data[:length])
        assert elf is None or elf.machine == machine
    for at in range(len(data) // 97):
        changed = bytearray(data)
        changed[at * 97 : at * 97 + 8] = b"\xff" * 8
        read_elf(bytes(changed))
    assert read_elf(b"\x7fELF") is None
    assert read_elf(b"#!/bin/sh\n" * 9) is None


def test_the_files_of_a_wheel_are_read_once_and_kept_beside_it(tmp_path: Path) -> None:
    cache = WheelCache(tmp_path / "cache")
    path = make_wheel(
        tmp_path, "probe", files={"probe/_c.so": MODULE.read_bytes(), "probe/a.py": b"", "probe/empty.so": b""}
    )
    kept = cache.add(path, Digest(sha256(path)))
    first = files_of_wheel(kept)
    assert [one.path for one in first] == ["probe/_c.so"]
    assert first[0].elf == read_elf(MODULE.read_bytes())
    shutil.copyfile(kept.path, tmp_path / "aside.whl")
    kept.path.write_bytes(b"")
    assert files_of_wheel(kept) == first  # not read again
    shutil.copyfile(tmp_path / "aside.whl", kept.path)
    (beside,) = kept.path.parent.glob("native-*.json")
    for damaged in (b"", b"{", b"[[1]]", b'[["a", {"machine": "amd64"}]]'):
        beside.write_bytes(damaged)
        assert files_of_wheel(kept) == first
    beside.unlink()
    kept.path.write_bytes(b"not a zip")
    with pytest.raises(VerificationError, match="is not a valid wheel"):
        files_of_wheel(kept)


def test_a_base_says_its_libraries_and_the_versions_that_they_have(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    library = MODULE.read_bytes()
    lower = {**debian(), "usr/lib/libold.so.1": library, "usr/lib/libkept.so.1.2": library}
    lower |= {"usr/lib/libkept.so.1": "libkept.so.1.2", "usr/lib/i386/libother.so.1": elf("386")}
    upper = {"usr/lib/.wh.libold.so.1": b"", "usr/lib/libnew.so.2": elf("amd64")}
    root = make_base(store, [lower, upper])
    facts = base_facts(store, root, store.manifest(root), tmp_path / "cache")
    assert set(facts.libraries) == {"libc.so.6", "libkept.so.1", "libkept.so.1.2", "libnew.so.2"}
    assert base_facts(store, root, store.manifest(root), tmp_path / "cache") == facts
    (cached,) = (tmp_path / "cache/facts").iterdir()
    # As an earlier version wrote it, which did not look for libraries.
    value = json.loads(cached.read_bytes())
    del value["libraries"]
    cached.write_text(json.dumps(value))
    assert base_facts(store, root, store.manifest(root), tmp_path / "cache") == facts
    assert BaseFacts("", "", "", musl=False, architecture=None).libraries == {}


def test_the_compiled_files_of_code_are_found_by_their_content() -> None:
    found = files_of_code(
        [LayerEntry.of_bytes("app/helper", MODULE.read_bytes()), LayerEntry.of_bytes("app/score.py", b"import os"),
         LayerEntry("app/link", "symlink", linkname="helper"), LayerEntry.of_bytes("app/empty.so", b"")]
    )  # fmt: skip
    assert [one.path for one in found] == ["app/helper"]


def test_a_models_compiled_files_are_read_and_its_weights_are_not(tmp_path: Path) -> None:
    from edgepack.oci.layer import NoCompression, write_layer

    store = Store.create(tmp_path / "store")
    entries = [
        LayerEntry.of_bytes("m/1/model.bin", MODULE.read_bytes()),
        LayerEntry.of_bytes("m/1/ops.so", MODULE.read_bytes()),
    ]
    layer = write_layer(entries, store, NoCompression(), kind="model")
    assert [one.path for one in files_of_layers(store, [layer.descriptor])] == ["m/1/ops.so"]
    assert may_be_native(["a/ops.so.1"])
    assert not may_be_native(["a/model.onnx", "b/solo.txt"])


# ---- Judging ------------------------------------------------------------------------------------------------------


def test_what_the_base_and_the_wheels_have_is_enough() -> None:
    bundled = file("numpy.libs/libopenblas-1a2b.so", soname="libopenblas-1a2b.so", provides=("OPENBLAS_1",))
    module = file("numpy/_core.so", needed=("libc.so.6", "libopenblas-1a2b.so", "libm.so.6"),
                  versions={"libc.so.6": ("GLIBC_2.34",), "libopenblas-1a2b.so": ("OPENBLAS_1",)})  # fmt: skip
    driver = file("torch/lib/libc10_cuda.so", needed=("libcuda.so.1", "libnvidia-ml.so.1"))
    check_native(OFFER, [wheel("numpy", module, bundled), wheel("torch", driver)])


def test_a_library_that_nothing_has_is_named_with_its_file_and_the_ways_out() -> None:
    needs = file("lightgbm/lib/lib_lightgbm.so", needed=("libgomp.so.1", "libc.so.6"))
    said = refusal(wheel("lightgbm", needs))
    for part in (
        "base debian12-python3.11 for linux/amd64: lightgbm/lib/lib_lightgbm.so of lightgbm 1.0 needs libgomp.so.1, ",
        "take one of edgepack's own bases, which have it", "Debian's libgomp1", "--without-library libgomp.so.1",
        "or extra Dockerfile steps bring it",
    ):  # fmt: skip
        assert part in said
    check_native(OFFER, [wheel("lightgbm", needs)], {"libgomp.so.1"})
    said = refusal(wheel("opencv-python", file("cv2/cv2.abi3.so", needed=("libGL.so.1", "libgthread-2.0.so.0"))))
    assert "needs libGL.so.1, libgthread-2.0.so.0, which" in said
    assert "take opencv-python-headless" in said


def test_a_version_of_symbols_that_the_base_lacks_is_named_with_what_it_has() -> None:
    said = refusal(
        wheel("fast", file("fast/_c.so", versions={"libc.so.6": ("GLIBC_2.17", "GLIBC_2.38", "GLIBC_2.40")}))
    )
    assert "fast/_c.so of fast 1.0 needs GLIBC_2.40 of libc.so.6, and there is GLIBC_2.36: use a newer base" in said
    offer = replace(
        OFFER, libraries={**OFFER.libraries, "libstdc++.so.6": ("GLIBCXX_3.4.9", "GLIBCXX_3.4.30", "CXXABI_1.3")}
    )
    said = refusal(
        wheel("fast", file("fast/_c.so", versions={"libstdc++.so.6": ("GLIBCXX_3.4.32", "CXXABI_1.3")})), offer=offer
    )
    assert "needs GLIBCXX_3.4.32 of libstdc++.so.6, and there is GLIBCXX_3.4.30" in said
    # A library that says no versions is taken as it is, as the loader does.
    offer = replace(OFFER, libraries={**OFFER.libraries, "libplain.so.1": ()})
    check_native(offer, [wheel("fast", file("fast/_c.so", versions={"libplain.so.1": ("X_1",)}))])


def test_all_that_is_wrong_is_told_at_once() -> None:
    said = refusal(*(wheel(f"w{at}", file(f"w{at}/c.so", needed=(f"lib{at}.so.1",))) for at in range(9)))
    assert all(f"w{at}/c.so of w{at} 1.0" in said for at in range(6))
    assert "and 3 more like these" in said


def test_code_for_another_processor_is_refused_unless_its_name_says_so(caplog: pytest.LogCaptureFixture) -> None:
    said = refusal(Origin("the source directory", (file("var/app/fast.so", "arm64"),)))
    assert "var/app/fast.so of the source directory is compiled for arm64: put the one for this platform there" in said
    both = (file("a/f.cpython-311-aarch64-linux-gnu.so", "arm64"), file("a/f.cpython-311-x86_64-linux-gnu.so"))
    check_native(OFFER, [Origin("the source directory", both)])
    check_native(replace(OFFER, platform=ARM64), [Origin("the source directory", both)])
    assert refusal(Origin("the source directory", (file("a/f.cpython-311-x86_64-linux-gnu.so", "arm64"),)))
    with caplog.at_level(logging.WARNING):
        check_native(OFFER, [Origin("the source directory", (file("a/f.cpython-310-x86_64-linux-gnu.so"),))])
    assert "is for Python 3.10, and the image's Python 3.11 does not see it" in caplog.text


def test_a_wheel_may_bring_files_for_several_processors_but_not_only_for_another() -> None:
    check_native(OFFER, [wheel("debugpy", file("d/attach_arm64.so", "arm64"), file("d/attach_amd64.so"))])
    assert "is compiled for arm64: take the wheel for that platform" in refusal(wheel("x", file("x/c.so", "arm64")))


def test_the_highest_version_is_chosen_by_its_numbers() -> None:
    assert newest(["GLIBC_2.4", "GLIBC_2.38", "GLIBC_2.17"]) == "GLIBC_2.38"
    assert newest(["OPENSSL_3.0.0"]) == "OPENSSL_3.0.0"


def test_a_build_checks_code_and_models_and_leaves_the_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packager.images.build.scoring_wheels", lambda *_, **__: ())
    workspace = make_workspace(tmp_path)
    code = tmp_path / "code"
    code.mkdir()
    (code / "score.py").write_text("def init(): pass\ndef run(data): return data\n")
    (code / "fast.so").write_bytes(elf("arm64"))
    before = workspace.store.digests()

    def build(tag: str, *refs: str, **more: Any) -> None:
        options = BuildOptions("tiny:1", script=read_entry_script("score.py", code), **more)
        workspace.builder.build([ModelRef.parse(ref) for ref in refs], tag, [AMD64], options)

    with pytest.raises(IncompatibleError, match=r"fast\.so of the source directory is compiled for arm64"):
        build("app:1")
    assert workspace.store.digests() == before
    (code / "fast.so").unlink()
    (tmp_path / "ops.so").write_bytes(elf("arm64"))
    workspace.models.register("ops", tmp_path / "ops.so")
    with pytest.raises(IncompatibleError, match=r"ops\.so of model ops:1 is compiled for arm64"):
        build("app:1", "ops")
    assert "app:1" not in workspace.store.tags()
    build("app:1")
