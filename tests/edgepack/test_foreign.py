"""Layers as other tools make them are unpacked as container engines do, and nothing in them reaches out of the tree."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.errors import UnsafeArchiveError
from edgepack.oci.foreign import check_foreign_layer, unpack_foreign_layer
from edgepack.oci.tar.stream import TarStream
from edgepack.oci.unpack import UnpackLimits, unpack_layer
from edgepack.oci.whiteouts import KeptWhiteouts, OverlayWhiteouts
from tests.support.sampling import times

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"", mode: int = 0o644) -> Entry:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size, made.mode, made.mtime = kind, link, len(data), mode, 1_700_000_000
    return made, data


def file(name: str, data: bytes = b"x") -> Entry:
    return entry(name, data=data)


def folder(name: str, mode: int = 0o755) -> Entry:
    return entry(name, tarfile.DIRTYPE, mode=mode)


def link(name: str, target: str) -> Entry:
    return entry(name, tarfile.SYMTYPE, target)


def hard(name: str, target: str) -> Entry:
    return entry(name, tarfile.LNKTYPE, target)


def tar(*entries: Entry, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = bytearray()
    for header, data in entries:
        out += header.tobuf(form, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512)
    return bytes(out + bytes(1024))


def unpack(data: bytes, target: Path) -> Path:
    target.mkdir()
    unpack_foreign_layer(io.BytesIO(data), target, whiteouts=KeptWhiteouts())
    return target


def tree(root: Path) -> dict[str, str]:
    """What is there: a file's text, a link's, ``/`` for a folder, ``|`` for a FIFO."""
    found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_dir():
            found[name] = "/"
        else:
            found[name] = "|" if path.is_fifo() else path.read_text()
    return found


DEVICE = entry("dev/null", tarfile.CHRTYPE)
TAKEN = {
    "device nodes": ((DEVICE, entry("dev/sda", tarfile.BLKTYPE), file("a")),
                     {"dev": "/", "dev/.wh.null": "", "dev/.wh.sda": "", "a": "x"}),
    "a device node and another name of it": ((DEVICE, hard("n", "dev/null")),
                                             {"dev": "/", "dev/.wh.null": "", ".wh.n": ""}),
    "a FIFO": ((entry("run/p", tarfile.FIFOTYPE), hard("run/q", "run/p")), {"run": "/", "run/p": "|", "run/q": "|"}),
    "an absolute hard link": ((file("usr/bin/a"), hard("b", "/usr/bin/a")),
                              {"usr": "/", "usr/bin": "/", "usr/bin/a": "x", "b": "x"}),
    "a hard link with dots": ((file("a"), hard("b", "./d/../a")), {"a": "x", "b": "x"}),
    "a hard link to a link": ((link("a", "z"), hard("b", "a"), hard("c", "b")), dict.fromkeys("abc", "-> z")),
    "a hard link through a link": ((file("d/f"), link("l", "d"), hard("h", "l/f")),
                                   {"d": "/", "d/f": "x", "l": "-> d", "h": "x"}),
    "a link with dots behind a name": ((link("a/l", "b/../../c"),), {"a": "/", "a/l": "-> b/../../c"}),
    "a link above the root": ((link("a/l", "../../../etc/x"), link("m", "/../../etc")),
                              {"a": "/", "a/l": "-> ../etc/x", "m": "-> etc"}),
    "an absolute link": ((link("a/b/l", "/etc/../x"), link("r", "/")),
                         {"a": "/", "a/b": "/", "a/b/l": "-> ../../etc/../x", "r": "-> ."}),
    "through a link": ((link("lib", "usr/lib"), file("lib/a"), link("abs", "/usr/lib"), file("abs/b"), file("c")),
                       {"lib": "-> usr/lib", "abs": "-> usr/lib", "usr": "/", "usr/lib": "/", "usr/lib/a": "x",
                        "usr/lib/b": "x", "c": "x"}),
    "through links to outside": ((link("l", "../../.."), file("l/etc/passwd", b"own")),
                                 {"l": "-> .", "etc": "/", "etc/passwd": "own"}),
    "absolute names and dots": ((file("/a/./b"), file("c/../d"), folder("/")), {"a": "/", "a/b": "x", "d": "x"}),
    "a name twice": ((file("a", b"1"), file("./a", b"2")), {"a": "2"}),
    "a folder twice": ((folder("a"), file("a/b"), folder("a/")), {"a": "/", "a/b": "x"}),
    "a file in place of a folder and back": ((file("a/b/c"), file("a/b"), file("a/b2"), folder("a/b2"), file("a/b2/d")),
                                             {"a": "/", "a/b": "x", "a/b2": "/", "a/b2/d": "x"}),
    "a folder in place of a link": ((link("a", "/etc"), folder("a"), file("a/b")), {"a": "/", "a/b": "x"}),
    "a file with a folder's name": ((file("a/"),), {"a": "x"}),
    "a whiteout before its file": ((file("d/.wh.a", b""), file("d/a")), {"d": "/", "d/a": "x", "d/.wh.a": ""}),
    "a whiteout behind its file": ((file("d/a"), file("d/.wh.a", b"")), {"d": "/", "d/a": "x"}),
    "a whiteout twice": ((file(".wh.a", b""), file(".wh.a", b"")), {".wh.a": ""}),
    "a whiteout before its folder": ((file(".wh.d", b""), folder("d"), file("d/a")),
                                     {"d": "/", "d/a": "x", "d/.wh..wh..opq": "", ".wh.d": ""}),
    "a whiteout behind its folder": ((file("d/a"), file(".wh.d", b"")), {"d": "/", "d/a": "x", "d/.wh..wh..opq": ""}),
    "a whiteout above names": ((file(".wh.d", b""), file("d/e/f")),
                               {"d": "/", "d/e": "/", "d/e/f": "x", "d/.wh..wh..opq": "", ".wh.d": ""}),
    "a whiteout that is no empty file": ((file(".wh.a", b"text"), folder("d/.wh.b"), link("d/.wh.c", "x")),
                                         {".wh.a": "", "d": "/", "d/.wh.b": "", "d/.wh.c": ""}),
    "a whiteout through a link": ((link("l", "d"), file("l/.wh.a", b"")), {"l": "-> d", "d": "/", "d/.wh.a": ""}),
    "an opaque root, twice": ((file(".wh..wh..opq", b""), file(".wh..wh..opq", b"")), {".wh..wh..opq": ""}),
    "records of AUFS": ((folder(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs", b""), file("a")),
                        {"a": "x"}),
    "nothing": ((), {}),
}  # fmt: skip


@pytest.mark.parametrize("case", TAKEN)
def test_what_engines_take_is_taken(case: str, tmp_path: Path) -> None:
    entries, expected = TAKEN[case]
    root = unpack(tar(*entries), tmp_path / "t")
    assert tree(root) == expected
    check_foreign_layer(iter(TarStream(io.BytesIO(tar(*entries)), as_engines=True)))


def test_global_headers_and_sizes_of_what_has_no_content_are_passed_over(tmp_path: Path) -> None:
    header = tarfile.TarInfo.create_pax_global_header({"path": "y", "uid": "7", "GNU.sparse.name": "z", "size": "9"})
    odd = bytearray(tar(file("a"), hard("b", "a"))[:-1024])
    sized = tarfile.TarInfo("b")
    sized.type, sized.linkname, sized.size = tarfile.LNKTYPE, "a", 1
    odd[1024:1536] = sized.tobuf(tarfile.USTAR_FORMAT)
    assert tree(unpack(header + bytes(odd) + bytes(1024), tmp_path / "t")) == {"a": "x", "b": "x"}


@pytest.mark.parametrize(
    "options",
    [("gnu",), *(("posix", f"--sparse-version={version}") for version in ("0.0", "0.1", "1.0"))],
    ids=" ".join,
)
@pytest.mark.parametrize("parts", [0, 1, 3, 60])
def test_sparse_files_get_their_holes(tmp_path: Path, options: tuple[str, ...], parts: int) -> None:
    (tmp_path / "in").mkdir()
    with (tmp_path / "in/f").open("wb") as out:
        for number in range(parts):
            out.seek(number * 100_000)
            out.write(b"%05d" % number * 100)
        out.truncate(parts * 100_000 + 70_000)
    argv = ["tar", "-C", tmp_path / "in", "-cf", "-", "--sparse", f"--format={options[0]}", *options[1:], "."]
    data = subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout
    assert len(data) < 900_000
    root = unpack(data, tmp_path / "t")
    assert (root / "f").read_bytes() == (tmp_path / "in/f").read_bytes()


def damaged(**records: str) -> bytes:
    header = tarfile.TarInfo("f")
    header.size, header.pax_headers = 512, {f"GNU.sparse.{key}": value for key, value in records.items()}
    return tar((header, records.get("data", "").encode().ljust(512, b"x")))


REFUSED = {
    "a name that leads out": (tar(file("../a")), "leads out"),
    "a name that leads out by and by": (tar(file("a/../../b")), "leads out"),
    "a hard link that leads out": (tar(hard("a", "../../etc/passwd")), "leads out"),
    "a hard link to what is not there": (tar(hard("a", "/etc/passwd")), "not an earlier file"),
    "a hard link to a folder": (tar(folder("d"), hard("a", "d")), "not an earlier file"),
    "a hard link to itself": (tar(file("a"), hard("a", "a")), "not an earlier file"),
    "a hard link in place of what it is in": (tar(file("d/a"), hard("d", "d/a")), "not an earlier file"),
    "through a file": (tar(file("a"), file("a/b")), "not a directory"),
    "through a FIFO": (tar(entry("a", tarfile.FIFOTYPE), file("a/b")), "not a directory"),
    "through a ring of links": (tar(link("a", "b"), link("b", "a"), file("a/c")), "ring of links"),
    "through a link to itself": (tar(link("a", "a/b"), file("a/c")), "ring of links"),
    "a link to nothing": (tar(link("a", "")), "a link to nothing"),
    "an overlong link": (tar(link("a", "a" * 5000)), "cannot be unpacked"),
    "an overlong name": (tar(file("n" * 300)), "cannot be unpacked"),
    "a deep name": (tar(file("a/" * 300 + "b")), "deep|folders|levels"),
    "the root as a file": (tar(file("./")), "directory's name"),
    "a whiteout of nothing": (tar(file(".wh.", b"")), "invalid name"),
    "a whiteout of the folder itself": (tar(file(".wh..", b"")), "invalid name"),
    "a whiteout of the folder above": (tar(file("d/.wh...", b"")), "invalid name"),
    "a contiguous file": (tar(entry("a", tarfile.CONTTYPE)), "unknown type"),
    "an unknown type": (tar(entry("a", b"Z")), "unknown type"),
    "many folders replaced": (tar(*[folder("d"), file("d")] * 1002), "too many folders"),
    "a sparse map behind its file": (damaged(size="100", map="50,100"), "damaged map"),
    "a sparse map that goes back": (damaged(size="900", map="500,10,0,10"), "damaged map"),
    "a sparse map of words": (damaged(size="900", map="a,b"), "damaged map"),
    "a sparse map of one number": (damaged(size="900", map="1"), "damaged map"),
    "a sparse map with less content": (damaged(size="9000", map="0,600"), "less content"),
    "a sparse map with more content": (damaged(size="9000", map="0,500"), "more content"),
    "a sparse map without end": (damaged(major="1", minor="0", realsize="9", data="7" * 512), "damaged map"),
    "a huge sparse file": (damaged(size=str(1 << 50), map="0,512"), "more than"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_engines_refuse_or_nobody_can_make_is_refused(case: str, tmp_path: Path) -> None:
    data, said = REFUSED[case]
    with pytest.raises(UnsafeArchiveError, match=said):
        unpack(data, tmp_path / "t")
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_contents_modes_owners_and_times_are_as_in_the_strict_form(tmp_path: Path) -> None:
    data = tar(
        folder("d", 0o1777), entry("d/su", data=b"y", mode=0o6755), link("d/l", "su"), hard("d/h", "d/su"),
        entry("d/p", mode=0o600, data=b"z" * 3000),
    )  # fmt: skip
    before = os.umask(0o077)
    try:
        loose = unpack(data, tmp_path / "loose")
        (tmp_path / "strict").mkdir()
        unpack_layer(io.BytesIO(data), tmp_path / "strict")
    finally:
        os.umask(before)
    for path in (loose, *loose.rglob("*")):
        other = (tmp_path / "strict" / path.relative_to(loose)).lstat()
        mine = path.lstat()
        assert (mine.st_mode, mine.st_uid, mine.st_size) == (other.st_mode, other.st_uid, other.st_size)
        assert mine.st_mtime == other.st_mtime or path == loose


@as_root
def test_for_overlays_hidden_names_are_whiteouts_of_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    entries = (DEVICE, file(".wh.a", b""), file("a", b"1"), file(".wh.d", b""), folder("d"), file("e/.wh.b", b""))
    unpack_foreign_layer(io.BytesIO(tar(*entries)), tmp_path / "t", whiteouts=OverlayWhiteouts())
    root = tmp_path / "t"
    for name in ("dev/null", "e/b"):
        found = (root / name).lstat()
        assert stat.S_ISCHR(found.st_mode)
        assert found.st_rdev == 0
    assert (root / "a").read_text() == "1"
    assert os.getxattr(root / "d", "trusted.overlay.opaque") == b"y"


# What umoci, another tool, makes of the same layers.


@as_root
@pytest.mark.real("umoci")
@pytest.mark.parametrize(
    "case",
    [case for case in TAKEN if not case.startswith(("a whiteout", "an opaque", "records", "a file with", "a device"))],
)
def test_umoci_makes_the_same_tree(case: str, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    subprocess.run(["umoci", "init", "--layout", layout], check=True, capture_output=True)
    subprocess.run(["umoci", "new", "--image", f"{layout}:x"], check=True, capture_output=True)
    (tmp_path / "layer.tar").write_bytes(tar(*TAKEN[case][0]))
    add = ["umoci", "raw", "add-layer", "--image", f"{layout}:x", tmp_path / "layer.tar"]
    subprocess.run(add, check=True, capture_output=True)
    done = subprocess.run(
        ["umoci", "unpack", "--image", f"{layout}:x", tmp_path / "bundle"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    theirs = tree_of_a_container(tmp_path / "bundle/rootfs")
    ours = tree_of_a_container(unpack(tar(*TAKEN[case][0]), tmp_path / "t"))
    assert {name: what for name, what in theirs.items() if what != "device"} == ours


def tree_of_a_container(root: Path) -> dict[str, str]:
    """What a process whose root it is finds: links by where they lead, not by their text."""
    found = {}
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        name = str(path.relative_to(root))
        if name.rpartition("/")[2].startswith(".wh."):
            continue
        if stat.S_ISLNK(mode):
            found[name] = f"-> {leads_to(path, root)}"
        elif stat.S_ISDIR(mode):
            found[name] = "/"
        elif stat.S_ISREG(mode):
            found[name] = path.read_text()
        else:
            found[name] = "|" if stat.S_ISFIFO(mode) else "device"
    return found


def leads_to(path: Path, root: Path) -> str:
    text = str(path.readlink())
    base = "/" if text.startswith("/") else f"/{path.parent.relative_to(root)}"
    return os.path.normpath(f"{base}/{text}").replace("//", "/")


# Whatever a layer holds, nothing of it is outside, and unpacking does what the plan says.


names = st.lists(st.sampled_from(["a", "b", "c", "..", ".", ".wh.a", ".wh..wh..opq"]), min_size=1, max_size=4)
paths = st.builds(lambda start, parts: start + "/".join(parts), st.sampled_from(["", "", "", "/"]), names)
kinds = st.sampled_from(
    [
        tarfile.REGTYPE,
        tarfile.DIRTYPE,
        tarfile.SYMTYPE,
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CHRTYPE,
    ]
)


@settings(max_examples=times(400, 100), deadline=None)
@given(st.lists(st.tuples(paths, kinds, paths), min_size=1, max_size=9))
def test_nothing_is_outside_whatever_the_layer_holds(members: list[tuple[str, bytes, str]]) -> None:
    entries = []
    for name, kind, target in members:
        linked = target if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
        entries.append(entry(name, kind, linked, b"new" if kind == tarfile.REGTYPE else b""))
    data = tar(*entries)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        outside = {name: Path(place, name) for name in ("a", "b", "c")}
        for path in outside.values():
            path.write_text("old")
        root = Path(place, "x/t")
        root.parent.mkdir()
        try:
            unpack(data, root)
        except UnsafeArchiveError:
            pass
        else:
            check_foreign_layer(iter(TarStream(io.BytesIO(data), as_engines=True)))
            for path in root.rglob("*"):
                text = str(path.readlink()) if path.is_symlink() else ""
                assert not text.startswith("/")
                depth = len(path.relative_to(root).parts) - 1
                climbs = next((n for n, part in enumerate(text.split("/")) if part != ".."), len(text.split("/")))
                assert climbs <= depth
        assert [path.read_text() for path in outside.values()] == ["old"] * 3
        assert sorted(path.name for path in Path(place).iterdir()) == ["a", "b", "c", "x"]
        shutil.rmtree(root)


def test_limits_hold(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    with pytest.raises(UnsafeArchiveError, match="more than 1 entries"):
        unpack_foreign_layer(
            io.BytesIO(tar(file("a"), file("a"))),
            tmp_path / "t",
            whiteouts=KeptWhiteouts(),
            limits=UnpackLimits(entries=1),
        )
