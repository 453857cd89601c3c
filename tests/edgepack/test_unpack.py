"""Unpacking layers: what a hostile tar may hold is refused by name, and nothing ever reaches out of the tree."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.errors import UnsafeArchiveError
from edgepack.oci.unpack import UnpackLimits, unpack_layer
from edgepack.oci.whiteouts import OverlayWhiteouts
from tests.support.sampling import times

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def info(
    name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0, mode: int = 0o644
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size, made.mode, made.mtime = kind, link, size, mode, 1_700_000_000
    return made


def tar(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = bytearray()
    for member in members:
        header, data = member if isinstance(member, tuple) else (member, b"")
        out += header.tobuf(form, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512)
    return bytes(out + bytes(1024))


def file(name: str, data: bytes = b"x", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    return info(name, size=len(data), mode=mode), data


def unpack(data: bytes, target: Path, **options: object) -> Path:
    target.mkdir()
    unpack_layer(io.BytesIO(data), target, **options)  # type: ignore[arg-type]
    return target


def test_keeps_contents_modes_times_and_links(tmp_path: Path) -> None:
    root = unpack(
        tar(
            info("./", tarfile.DIRTYPE, mode=0o755),
            info("a/", tarfile.DIRTYPE, mode=0o700),
            file("a/tool", b"#!x", 0o755),
            info("a/again", tarfile.LNKTYPE, link="a/tool"),
            info("a/near", tarfile.SYMTYPE, link="tool"),
            info("a/up", tarfile.SYMTYPE, link="../a/tool"),
            file("deep/without/parents"),
        ),
        tmp_path / "t",
    )
    tool = root / "a/tool"
    assert tool.read_bytes() == b"#!x"
    assert stat.S_IMODE(tool.stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o700
    assert (root / "a").stat().st_mtime == tool.stat().st_mtime == 1_700_000_000
    assert (root / "a/again").stat().st_ino == tool.stat().st_ino
    assert str((root / "a/near").readlink()) == "tool"
    assert (root / "a/up").resolve() == tool
    assert (root / "deep/without/parents").read_bytes() == b"x"


def test_long_and_foreign_names_in_both_formats(tmp_path: Path) -> None:
    name = "/".join(["ordner" * 6] * 5) + "/grüße"
    for number, form in enumerate((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)):
        root = unpack(tar(file(name), info("l", tarfile.SYMTYPE, link=name), form=form), tmp_path / str(number))
        assert (root / "l").read_bytes() == b"x"


def test_absolute_links_become_links_inside_of_the_tree(tmp_path: Path) -> None:
    root = unpack(
        tar(file("etc/passwd", b"theirs"), info("usr/share/p", tarfile.SYMTYPE, link="/etc/passwd")), tmp_path / "t"
    )
    assert str((root / "usr/share/p").readlink()) == "../../etc/passwd"
    assert (root / "usr/share/p").read_bytes() == b"theirs"


def test_set_id_bits_are_dropped(tmp_path: Path) -> None:
    root = unpack(tar(file("su", mode=0o6755), info("d", tarfile.DIRTYPE, mode=0o2777)), tmp_path / "t")
    assert stat.S_IMODE((root / "su").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o777


@as_root
def test_owners_are_kept_for_root_only(tmp_path: Path) -> None:
    header, data = file("f")
    header.uid, header.gid = 1234, 4321
    kept = unpack(tar((header, data)), tmp_path / "kept") / "f"
    dropped = unpack(tar((header, data)), tmp_path / "dropped", keep_owner=False) / "f"
    assert (kept.stat().st_uid, kept.stat().st_gid) == (1234, 4321)
    assert (dropped.stat().st_uid, dropped.stat().st_gid) == (0, 0)


def pax(name: str, **records: str) -> tuple[tarfile.TarInfo, bytes]:
    header = info(name)
    header.pax_headers = records
    return header, b""


def cut(data: bytes, amount: int) -> bytes:
    return data[:-amount]


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


HOSTILE = {
    "an absolute name": (tar(file("/abs")), "/abs"),
    "a name that climbs": (tar(file("a/../../up")), "a/../../up"),
    "a climbing folder": (tar(info("../d", tarfile.DIRTYPE)), "../d"),
    "the root as a file": (tar(file("./")), "./"),
    "a file with a folder's name": (tar(file("f/")), "f/"),
    "through a link to outside": (tar(info("l", tarfile.SYMTYPE, link="/"), file("l/etc")), "l/etc"),
    "through a link to inside": (tar(file("d/f"), info("l", tarfile.SYMTYPE, link="d"), file("l/g")), "l/g"),
    "through a file": (tar(file("f"), file("f/g")), "f/g"),
    "a folder over a link": (tar(info("l", tarfile.SYMTYPE, link="d"), info("l", tarfile.DIRTYPE)), "l"),
    "a link that climbs": (tar(info("a/l", tarfile.SYMTYPE, link="../../etc")), "a/l"),
    "a link that climbs behind a name": (tar(info("a/l", tarfile.SYMTYPE, link="b/../../../etc")), "a/l"),
    "an absolute link that climbs": (tar(info("l", tarfile.SYMTYPE, link="/../etc")), "l"),
    "an empty link": (tar(info("l", tarfile.SYMTYPE)), "l"),
    "an overlong link": (tar(info("l", tarfile.SYMTYPE, link="a" * 5000)), "l"),
    "a path that is too deep": (tar(file("d/" * 257 + "f")), "more than 256 folders deep"),
    "a folder that is too deep": (tar(info("d/" * 3000, tarfile.DIRTYPE)), "more than 256 folders deep"),
    "a path that is too long": (tar(file("/".join(["n" * 250] * 13))), "more than 3072 bytes"),
    "an overlong name": (tar(file("n" * 300)), "n" * 300),
    "a hard link out": (tar(info("h", tarfile.LNKTYPE, link="../../etc/passwd")), "h"),
    "an absolute hard link": (tar(info("h", tarfile.LNKTYPE, link="/etc/passwd")), "h"),
    "a hard link to nothing": (tar(info("h", tarfile.LNKTYPE, link="absent")), "h"),
    "a hard link to a link": (tar(info("s", tarfile.SYMTYPE, link="/x"), info("h", tarfile.LNKTYPE, link="s")), "h"),
    "a hard link through a link": (
        tar(info("s", tarfile.SYMTYPE, link="/etc"), info("h", tarfile.LNKTYPE, link="s/passwd")), "h",
    ),
    "a hard link to itself": (tar(info("h", tarfile.LNKTYPE, link="h")), "h"),
    "a character device": (tar(info("dev/n", tarfile.CHRTYPE)), "dev/n"),
    "a block device": (tar(info("dev/b", tarfile.BLKTYPE)), "dev/b"),
    "a FIFO": (tar(info("p", tarfile.FIFOTYPE)), "p"),
    "a contiguous file": (tar(info("c", tarfile.CONTTYPE)), "c"),
    "an unknown type": (tar(info("u", b"Z")), "u"),
    "a GNU sparse file": (tar(info("s", tarfile.GNUTYPE_SPARSE), form=tarfile.GNU_FORMAT), "s"),
    "a PAX sparse file": (tar(pax("s", **{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})), "s"),
    "a PAX path that climbs": (tar(pax("s", path="../s")), "../s"),
    "a PAX path with a zero byte": (tar(pax("s", path="a\0b")), "a"),
    "a PAX size that is no number": (tar(pax("s", size="-5")), "s"),
    "a name twice": (tar(file("f"), file("f")), "f"),
    "a name twice in two spellings": (tar(file("f"), file("./f")), "./f"),
    "a folder twice": (tar(info("d", tarfile.DIRTYPE), info("d/", tarfile.DIRTYPE)), "d"),
    "a folder with a size": (tar((info("d", tarfile.DIRTYPE, size=512), b"x" * 512)), "d"),
    "a whiteout": (tar(info(".wh.gone")), ".wh.gone"),
    "an opaque folder": (tar(info("d/.wh..wh..opq")), "d/.wh..wh..opq"),
    "a size larger than the content": (cut(tar(file("f", b"y" * 2000)), 2048), "cut short|inside an entry"),
    "a damaged first header": (damaged(tar(file("f")), 3), "damaged header"),
    "a damaged header in the middle": (damaged(tar(file("f"), file("g")), 1024 + 3), "damaged header"),
    "bytes behind the end": (tar(file("f")) + b"more", "after the end"),
    "a global header": (
        tarfile.TarInfo.create_pax_global_header({"path": "x"}) + tar(file("f")), "for all entries",
    ),
    "a long name for nothing": (
        cut(tar(file("n" * 120), form=tarfile.GNU_FORMAT), 2048) + bytes(1024), "n" * 120,
    ),
    "a huge header": (tar(info("x", tarfile.XHDTYPE, size=1 << 40), form=tarfile.GNU_FORMAT), "bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_refuses_and_names(case: str, tmp_path: Path) -> None:
    data, named = HOSTILE[case]
    outside = sorted(tmp_path.iterdir())
    with pytest.raises(UnsafeArchiveError, match=named.replace(".", r"\.")):
        unpack(data, tmp_path / "t")
    assert sorted(tmp_path.iterdir()) == [*outside, tmp_path / "t"]


def test_control_characters_of_a_name_are_not_shown(tmp_path: Path) -> None:
    with pytest.raises(UnsafeArchiveError) as raised:
        unpack(tar(file("/\x1b[2Jx")), tmp_path / "t")
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize(
    ("limits", "said"),
    [(UnpackLimits(content_bytes=99), "more than 99 bytes"), (UnpackLimits(entries=1), "more than 1 entries")],
)
def test_refuses_more_than_its_limits(limits: UnpackLimits, said: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeArchiveError, match=said):
        unpack(tar(file("a", b"x" * 50), file("b", b"x" * 50)), tmp_path / "t", limits=limits)


def test_refuses_a_target_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/evil").symlink_to("/")
    with pytest.raises(UnsafeArchiveError, match="not empty"):
        unpack_layer(io.BytesIO(tar(file("evil/x"))), tmp_path / "t")


@as_root
def test_overlay_whiteouts(tmp_path: Path) -> None:
    root = unpack(tar(info("d/.wh.gone"), info("e/.wh..wh..opq")), tmp_path / "t", whiteouts=OverlayWhiteouts())
    gone = (root / "d/gone").stat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(root / "e", "trusted.overlay.opaque") == b"y"


@as_root
@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", ".wh..wh.x"])
def test_whiteouts_of_impossible_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeArchiveError, match="whiteout"):
        unpack(tar(info(name)), tmp_path / "t", whiteouts=OverlayWhiteouts())


# What is allowed, said a second time and simply: a tree of dictionaries, no file system.

Tree = dict[tuple[str, ...], tuple[str, object]]


class RefusedError(Exception):
    pass


def model(members: list[tarfile.TarInfo]) -> Tree:
    tree: Tree = {(): ("dir", None)}
    announced: set[tuple[str, ...]] = set()
    for number, member in enumerate(members):
        path = steps(member.name)
        if (not path or member.name.endswith("/.")) and member.type != tarfile.DIRTYPE:
            raise RefusedError
        parents = path if member.type == tarfile.DIRTYPE else path[:-1]
        for length in range(1, len(parents) + 1):
            if tree.setdefault(parents[:length], ("dir", None))[0] != "dir":
                raise RefusedError
        if member.type == tarfile.DIRTYPE:
            if path in announced:
                raise RefusedError
            announced.add(path)
            continue
        if path in tree:
            raise RefusedError
        if member.type == tarfile.REGTYPE:
            tree[path] = ("file", number)
        elif member.type == tarfile.LNKTYPE:
            target = tree.get(steps(member.linkname), ("", None))
            if target[0] != "file":
                raise RefusedError
            tree[path] = target
        elif member.type == tarfile.SYMTYPE:
            at = () if member.linkname.startswith("/") else path[:-1]
            came_down = False
            for step in member.linkname.split("/"):
                if step == ".." and (came_down or not at):
                    raise RefusedError
                at = at[:-1] if step == ".." else at
                came_down |= step not in ("", ".", "..")
            if not member.linkname:
                raise RefusedError
            tree[path] = ("symlink", None)
        else:
            raise RefusedError
    return tree


def steps(name: str) -> tuple[str, ...]:
    if name.startswith("/") or ".." in name.split("/"):
        raise RefusedError
    return tuple(step for step in name.split("/") if step not in ("", "."))


def found(root: Path) -> Tree:
    tree: Tree = {(): ("dir", None)}
    for path in root.rglob("*"):
        kind = "symlink" if path.is_symlink() else "dir" if path.is_dir() else "file"
        tree[path.relative_to(root).parts] = (kind, int(path.read_bytes()) if kind == "file" else None)
    return tree


step = st.sampled_from(["a", "b", "c", "..", "."])
some_path = st.builds(
    lambda start, parts: start + "/".join(parts),
    st.sampled_from(["", "", "", "/"]),
    st.lists(step, min_size=1, max_size=4),
)
plain_path = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)
some_member = st.builds(
    info,
    st.one_of(plain_path, plain_path, some_path),
    st.sampled_from(
        [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
    ),
    link=st.one_of(plain_path, some_path),
)


@settings(max_examples=times(400, 100), deadline=None)
@given(st.lists(some_member, min_size=1, max_size=6))
def test_any_tar_gives_the_tree_of_the_model_or_is_refused(members: list[tarfile.TarInfo]) -> None:
    for member in members:
        if member.type not in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            member.linkname = ""
    contents = [str(number).encode() if item.type == tarfile.REGTYPE else b"" for number, item in enumerate(members)]
    for member, content in zip(members, contents, strict=True):
        member.size = len(content)
    data = tar(*zip(members, contents, strict=True))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        root = Path(folder) / "t"
        try:
            expected = model(members)
        except RefusedError:
            with pytest.raises(UnsafeArchiveError):
                unpack(data, root)
            return
        assert found(unpack(data, root)) == expected
        for path in root.rglob("*"):
            assert stays_inside(path, root)


def stays_inside(path: Path, root: Path) -> bool:
    """Whether following ``path`` as the kernel does never leaves ``root``."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a ring of links
        return True


@settings(max_examples=times(200, 100), deadline=None)
@given(st.data())
def test_a_changed_byte_is_refused_or_harmless(data: st.DataObject) -> None:
    good = tar(file("a/b", b"hello"), info("a/l", tarfile.SYMTYPE, link="b"), pax("long", path="c" * 120))
    at = data.draw(st.integers(0, len(good) - 1))
    changed = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        root = Path(folder) / "t"
        try:
            unpack(changed, root)
        except UnsafeArchiveError:
            pass
        else:
            assert all(stays_inside(path, root) for path in root.rglob("*"))
        assert list(Path(folder).iterdir()) == [root]
