"""The base image out of Debian packages: recipe, rules, lock, and what comes out."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edgepack.errors import (
    EdgepackError,
    MissingPartError,
    NotFoundError,
    UsageError,
    VerificationError,
)
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Platform
from edgepack.oci.layer import LayerEntry, NoCompression, write_layer
from edgepack.oci.store import Store
from packager.bases import cache, debian
from packager.bases.cache import BaseCache
from packager.bases.debian import BaseRecipe, entries, resolve
from packager.bases.debian.debs import merged_link, merged_path, read_package, unpacked, without_dangling
from packager.bases.debian.rules import Rule, Rules
from packager.layers.rules import rules_without
from packager.workspaces.workspace import Workspace
from tests.support.running import run

RECIPE = debian.load_recipe("debian12-python3.11")
PLATFORMS = [Platform.parse(name) for name in RECIPE.platforms]
NEWER = debian.load_recipe("debian13-python3.13")
RECIPES = (RECIPE, NEWER)
EVERY = [(recipe, Platform.parse(name)) for recipe in RECIPES for name in recipe.platforms]
# The locked layers hold bytecode of the recipe's Python, which a base for this machine makes.
needs_a_base_for_this_machine = pytest.mark.skipif(
    str(Platform.host()) not in RECIPE.platforms, reason="no base of the recipe runs here"
)


@dataclass(frozen=True)
class Built:
    """A base that was built, its layer, and its packages in case another build wants them."""

    recipe: BaseRecipe
    platform: Platform
    entries: dict[str, LayerEntry]
    diff_id: str
    size: int
    tar: Path
    workdir: Path


def build(recipe: BaseRecipe, platform: Platform, workdir: Path) -> Built:
    # As the cache of bases does it: for another processor by the Python of the base for this one.
    foreign = platform != Platform.host()
    compiler = Workspace(workdir / "none").bases.compiler(recipe.python_minor) if foreign else None
    entries = list(debian.base_entries(recipe, platform, workdir, compiler=compiler))
    store = Store.create(workdir / "store")
    layer = write_layer(entries, store, NoCompression(), kind="base")
    by_path = {entry.path: entry for entry in entries}
    tar = store.path(layer.descriptor.digest)
    return Built(recipe, platform, by_path, str(layer.diff_id), layer.unpacked_size, tar, workdir)


def name_of(case: tuple[BaseRecipe, Platform]) -> str:
    return f"{case[0].name} {case[1]}"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(case, marks=[pytest.mark.whole] if case == EVERY[-1] else [], id=name_of(case)) for case in EVERY
    ],
)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    workdir = tmp_path_factory.mktemp("base")
    yield build(*request.param, workdir)
    shutil.rmtree(workdir)


def content(base: Built, path: str) -> bytes:
    opener = base.entries[path].content
    assert opener is not None
    with opener() as file:
        return file.read()


# ---- Rules --------------------------------------------------------------------------------------------------------


def test_what_a_rule_keeps_stays() -> None:
    rule = Rule("r", "why", paths=("usr/share/doc/**",), keep=("usr/share/doc/*/copyright",))
    assert rule.leaves_out("usr/share/doc/a/changelog.gz")
    assert not rule.leaves_out("usr/share/doc/a/copyright")


def test_a_rule_without_patterns_leaves_nothing_out() -> None:
    assert not Rule("r", "why").leaves_out("")
    assert not Rule("r", "why").leaves_out("usr")


def test_rules_are_switched_off_by_name_and_an_unknown_name_is_refused() -> None:
    rules = Rules((Rule("docs", "why", paths=("doc/**",)), Rule("tools", "why", packages=("tar",))))
    assert rules.of_path("doc/a") is not None
    assert Rules(rules_without(rules, ["docs"])).of_path("doc/a") is None
    assert Rules(rules_without(rules, ["docs"])).of_package("tar") is not None
    with pytest.raises(UsageError, match=r"no rule is named dosc; did you mean 'docs'\? the rules are docs, tools"):
        rules_without(rules, ["dosc"])


def test_paths_and_links_follow_the_merge_of_usr() -> None:
    assert merged_path("./lib/x86_64-linux-gnu/libc.so.6") == "usr/lib/x86_64-linux-gnu/libc.so.6"
    assert merged_path("./usr/bin/dash") == "usr/bin/dash"
    assert merged_path("./libexec/a") == "libexec/a"
    assert merged_path("../../etc/passwd") == "etc/passwd"
    assert merged_link("./lib64/ld.so.2", "/lib/x/ld.so.2") == "../lib/x/ld.so.2"
    assert merged_link("./lib/x/liba.so", "../../usr/lib/x/liba.so.1") == "liba.so.1"
    assert merged_link("./etc/os-release", "../usr/lib/os-release") == "../usr/lib/os-release"


def test_links_to_what_was_left_out_go_too() -> None:
    links = {"a/x": "../b/file", "a/y": "x", "a/z": "../gone", "a/zz": "z", "c": "b"}
    entries = {path: LayerEntry(path, "symlink", 0o777, linkname=to) for path, to in links.items()}
    entries["b/file"] = LayerEntry.of_bytes("b/file", b"")
    assert sorted(without_dangling(entries)) == ["a/x", "a/y", "b/file", "c"]


# ---- Recipe, lock, errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_rule_says_why_and_every_platform_is_locked(recipe: BaseRecipe) -> None:
    assert all(rule.reason for rule in recipe.rules)
    releases = set()
    for platform in map(Platform.parse, recipe.platforms):
        lock = debian.read_lock(recipe, platform)
        assert lock is not None
        names = {package.name for package in lock.packages}
        assert names >= set(recipe.packages)
        # Nothing comes in that was neither asked for nor left out by a rule that says why.
        assert [name for name in names - set(recipe.packages) if recipe.rules.of_package(name) is None] == []
        releases |= {package.version for package in lock.packages if package.name.startswith("python3.")}
    assert len(releases) == 1
    assert debian.python_release(recipe).startswith(f"{recipe.python_minor}.")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_no_package_is_both_wanted_and_left_out(recipe: BaseRecipe) -> None:
    assert [name for name in recipe.packages if recipe.rules.of_package(name)] == []


def test_an_unknown_recipe_or_platform_is_named_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"'debian11'; .* choose from debian12-python3\.11"):
        debian.load_recipe("debian11")
    with pytest.raises(UsageError, match="cannot be built for linux/s390x; choose from linux/amd64, linux/arm64"):
        list(debian.base_entries(RECIPE, Platform.parse("linux/s390x"), tmp_path))


def test_only_a_lock_needs_mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPartError, match="mmdebstrap is not installed; run 'apt-get install mmdebstrap'"):
        resolve.newest_packages(RECIPE, PLATFORMS[0], tmp_path / "work")


def test_without_a_lock_nothing_is_built(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no lock"):
        list(debian.base_entries(replace(RECIPE, folder=tmp_path), PLATFORMS[0], tmp_path))


def test_a_file_that_is_no_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.deb").write_bytes(b"<html>not here</html>" * 10)
    with pytest.raises(VerificationError, match="is not a Debian package"):
        read_package(tmp_path / "a.deb")


@pytest.mark.real("dpkg-deb")
@pytest.mark.parametrize("compression", ["xz", "gzip", "none"])
def test_a_package_is_read_whatever_its_compression_and_the_length_of_its_names(
    tmp_path: Path, compression: str
) -> None:
    source, name = tmp_path / "source", "usr/lib/" + "long/" * 40 + "n" * 120
    (source / "DEBIAN").mkdir(parents=True)
    (source / "DEBIAN/control").write_text(
        "Package: probe\nVersion: 1:2-3\nArchitecture: all\nMaintainer: a <a@b.example>\nDescription: a probe\n"
    )
    (source / name).parent.mkdir(parents=True)
    (source / name).write_bytes(b"content")
    (source / "usr/out").write_bytes(b"what stays out")
    (source / "usr/second").hardlink_to(source / "usr/out")
    (source / "bin").mkdir()
    (source / "bin/su").write_bytes(b"program")
    (source / "bin/su").chmod(0o4755)
    (source / "bin/link").symlink_to("/bin/su")
    command = ["dpkg-deb", f"-Z{compression}", "--build", "--root-owner-group", source, tmp_path / "probe.deb"]
    run(*command)

    package = read_package(tmp_path / "probe.deb")
    rules = Rules((Rule("out", "why", paths=("usr/out",)),))
    found = {entry.path: entry for entry in unpacked(package, rules, tmp_path / "tree", "usr/share")}

    assert (package.locked.name, package.locked.version, package.locked.architecture) == ("probe", "1:2-3", "all")
    assert set(found) == {name, "usr/second", "usr/bin/su", "usr/bin/link"}
    assert (found["usr/bin/su"].mode, found["usr/bin/link"].linkname) == (0o755, "su")
    assert (tmp_path / "tree" / name).read_bytes() == b"content"
    assert (tmp_path / "tree/usr/second").read_bytes() == b"what stays out"


def test_a_damaged_package_is_refused(tmp_path: Path) -> None:
    def ar(*parts: tuple[str, bytes]) -> bytes:
        heads = (f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() for name, data in parts)
        return b"!<arch>\n" + b"".join(
            head + data + b"\n" * (len(data) % 2) for head, (_, data) in zip(heads, parts, strict=True)
        )

    for parts in (
        [("control.tar.xz", b"not xz"), ("data.tar", b"")],
        [("control.tar.gz", b"\x1f\x8b not gzip"), ("data.tar", b"")],
        [("control.tar.br", b""), ("data.tar", b"")],
        [("control.tar", b"x" * 512), ("data.tar", b"")],
        [("control.tar", bytes(1024)), ("data.tar", b"")],
    ):
        (tmp_path / "a.deb").write_bytes(ar(("debian-binary", b"2.0\n"), *parts))
        with pytest.raises(VerificationError, match=r"a\.deb: is not a Debian package"):
            read_package(tmp_path / "a.deb")


@pytest.mark.real("mmdebstrap")
def test_a_mirror_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    dead = ["deb http://127.0.0.1:9/debian bookworm main"]
    with pytest.raises(EdgepackError, match="no mirror of Debian could be read; check the network"):
        resolve.newest_packages(RECIPE, PLATFORMS[0], tmp_path, dead)


# ---- What comes out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base",
    [EVERY[0], *(pytest.param(other, marks=pytest.mark.whole) for other in EVERY[1:])],
    indirect=True,
    ids=name_of,
)
def test_a_build_elsewhere_gives_the_same_layer(base: Built, tmp_path: Path) -> None:
    again = build(base.recipe, base.platform, tmp_path / "elsewhere")
    assert (again.diff_id, again.size) == (base.diff_id, base.size)


@needs_a_base_for_this_machine
def test_the_layer_is_the_one_that_the_lock_names(base: Built) -> None:
    lock = debian.read_lock(base.recipe, base.platform)
    assert lock is not None
    assert (base.diff_id, base.size) == (lock.diff_id, lock.unpacked_size)


@needs_a_base_for_this_machine
def test_a_machine_with_another_python_makes_the_same_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytecode is then made by the base's own Python, for another processor by that of the base for this one."""
    monkeypatch.setattr(entries, "this_compiler", lambda python, release=None: None)
    monkeypatch.setattr(cache, "this_compiler", lambda python, release=None: None)
    bases = BaseCache(tmp_path)
    for platform in PLATFORMS:
        lock = debian.read_lock(RECIPE, platform)
        assert lock is not None
        manifest = bases.store.manifest(bases.build(RECIPE.name, platform))
        config = ImageConfig.from_bytes(bases.store.read(manifest.config))
        assert [str(diff_id) for diff_id in config.diff_ids] == [lock.diff_id]
    compiler = bases.compiler(RECIPE.python_minor)
    assert compiler is not None
    assert compiler.version == debian.python_release(RECIPE)
    assert str(tmp_path) in compiler.command[0]
    assert bases.compiler("3.99") is None


def test_the_base_keeps_to_its_budget(base: Built) -> None:
    # Python 3.13's is larger by OpenSSL 3.5 and the zstd that it links to, and has OpenMP.
    assert base.size <= (40_500_000 if base.recipe is NEWER else 40_000_000)
    blob = io.BytesIO()
    with tarfile.open(fileobj=blob, mode="w:gz", compresslevel=6) as archive:
        archive.add(base.tar, "layer")
    assert len(blob.getvalue()) <= 15_000_000


@pytest.mark.real("readelf")
def test_every_library_that_a_file_needs_is_in_the_base(base: Built) -> None:
    names = {path.rsplit("/", 1)[-1] for path in base.entries if path.startswith("usr/lib")}
    checked, missing = 0, []
    for path, entry in base.entries.items():
        if entry.kind == "file" and (data := content(base, path))[:4] == b"\x7fELF":
            checked += 1
            missing += [(path, name) for name in needed(data, base.workdir) if name not in names]
    assert missing == []
    assert checked > 40


def needed(data: bytes, folder: Path) -> list[str]:
    (folder / "elf").write_bytes(data)
    told = run("readelf", "-dW", folder / "elf")
    return [line.split("[")[1].rstrip("]") for line in told.splitlines() if "(NEEDED)" in line]


def test_nothing_may_change_user_and_only_temporary_folders_are_writable_by_all(base: Built) -> None:
    assert [path for path, entry in base.entries.items() if entry.mode & 0o6000] == []
    writable = [path for path, entry in base.entries.items() if entry.kind != "symlink" and entry.mode & 0o002]
    assert writable == ["tmp", "var/tmp"]
    assert {base.entries[path].mode for path in writable} == {0o1777}


def test_scanners_find_the_distribution_its_packages_and_their_licenses(base: Built) -> None:
    number = {"bookworm": b"12", "trixie": b"13"}[base.recipe.suite]
    assert b'VERSION_ID="' + number + b'"' in content(base, "usr/lib/os-release")
    status = content(base, "var/lib/dpkg/status").decode()
    packages = [part.split("\n")[0].removeprefix("Package: ") for part in status.strip().split("\n\n")]
    assert packages == sorted(base.recipe.packages)
    assert status.count("\nStatus: install ok installed\n") == len(packages)
    licensed = {path.split("/")[3] for path in base.entries if path.startswith("usr/share/doc/")}
    assert licensed == set(packages)


def test_the_user_the_shell_and_the_certificates_are_there(base: Built) -> None:
    assert b"nonroot:x:10001:10001:" in content(base, "etc/passwd")
    assert base.entries["usr/bin/sh"].linkname == "dash"
    assert base.entries["usr/bin/dash"].mode == 0o755
    bundle = content(base, "etc/ssl/certs/ca-certificates.crt")
    assert bundle.count(b"-----BEGIN CERTIFICATE-----\n") == bundle.count(b"-----END CERTIFICATE-----\n") > 100


@needs_a_base_for_this_machine
def test_bytecode_comes_with_its_source_and_is_never_checked_against_it(base: Built) -> None:
    compiled = [path for path in base.entries if path.endswith(".pyc")]
    assert len(compiled) > 100
    for path in compiled:
        source = path.replace("__pycache__/", "").replace(
            f".cpython-{base.recipe.python_minor.replace('.', '')}.pyc", ".py"
        )
        assert source in base.entries
        flags = int.from_bytes(content(base, path)[4:8], "little")
        assert flags == 0b01  # hash-based, unchecked (PEP 552)
