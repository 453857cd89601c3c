"""Tars as other tools write them are read, member by member; what may not be unpacked is still named."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from edgepack.errors import UnsafeArchiveError
from edgepack.oci.tar.stream import Member, TarStream, checked_kind
from edgepack.oci.unpack import unpack_layer
from tests.edgepack.support.small_images import member, tar_of

LONG = "a/" * 100 + "n" * 200


def read(data: bytes) -> list[tuple[Member, bytes]]:
    stream = TarStream(io.BytesIO(data))
    return [(found, b"".join(stream.chunks())) for found in stream]


def written_by_tar(folder: Path, *options: str) -> bytes:
    return subprocess.run(["tar", "-C", folder, "-cf", "-", *options, "."], stdout=subprocess.PIPE, check=True).stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / LONG).parent.mkdir(parents=True)
    (folder / LONG).write_bytes(b"long")
    (folder / "link").symlink_to("n" * 150)
    (folder / "file").write_bytes(b"x" * 700)
    os.link(folder / "file", folder / "second")
    with (folder / "zz-sparse").open("wb") as file:  # 60 regions, more than fit in one header
        for number in range(60):
            file.seek(number * 65536)
            file.write(b"data")
    return folder


@pytest.mark.parametrize(
    "options",
    [
        ("--format=gnu",),
        ("--format=posix",),
        ("--format=posix", "--pax-option=globexthdr.name=global,comment=made by a test,mtime=7"),
        ("--format=gnu", "--sparse"),
        *(("--format=posix", "--sparse", f"--sparse-version={version}") for version in ("0.0", "0.1", "1.0")),
    ],
    ids=" ".join,
)
def test_what_gnu_tar_writes_is_read(tree: Path, options: tuple[str, ...]) -> None:
    data = written_by_tar(tree, *options)
    sparse = "--sparse" in options

    found = {os.path.normpath(one.name): (one, content) for one, content in read(data)}

    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert set(found) == {os.path.normpath(name) for name in tar.getnames()}
    assert found[LONG][1] == b"long"
    assert (found["link"][0].kind, found["link"][0].linkname) == ("symlink", "n" * 150)
    files = [found[name] for name in ("file", "second")]
    assert sorted(one.kind for one, _ in files) == ["file", "hardlink"]
    assert sorted(content for _, content in files) == [b"", b"x" * 700]
    special, stored = found["zz-sparse"]
    assert special.special == ("a sparse file" if sparse else "")
    assert stored.count(b"data") == 60
    if sparse:
        assert len(stored) < 1 << 20
        with pytest.raises(UnsafeArchiveError, match=r"zz-sparse: is a sparse file, which is not unpacked"):
            checked_kind(special)


@pytest.mark.parametrize(
    ("kind", "special"),
    [
        (tarfile.CHRTYPE, "a device node"),
        (tarfile.BLKTYPE, "a device node"),
        (tarfile.FIFOTYPE, "a FIFO"),
        (tarfile.CONTTYPE, "an entry of the unknown type b'7'"),
        (b"Z", "an entry of the unknown type b'Z'"),
    ],
)
def test_a_member_that_is_not_unpacked_is_read_and_what_follows_it_too(
    tmp_path: Path, kind: bytes, special: str
) -> None:
    data = tar_of(member("odd", kind=kind), member("after", b"content"))

    (odd, _), (after, content) = read(data)

    assert (odd.kind, odd.special) == ("special", special)
    assert (after.kind, content) == ("file", b"content")
    with pytest.raises(UnsafeArchiveError, match=r"odd: is an? .*, which is not unpacked"):
        unpack_layer(io.BytesIO(data), tmp_path)


@pytest.mark.parametrize("key", ["path", "linkpath", "size", "uid", "gid", "GNU.sparse.name"])
def test_a_global_header_that_engines_and_other_readers_understand_differently_is_refused(key: str) -> None:
    data = tarfile.TarInfo.create_pax_global_header({key: "1"}) + tar_of(member("file", b"x"))

    with pytest.raises(UnsafeArchiveError, match=f"a PAX header with {key} for all entries that follow"):
        read(data)


def test_a_global_header_is_ignored_as_container_engines_do() -> None:
    header = tarfile.TarInfo.create_pax_global_header({"mtime": "7", "SCHILY.xattr.user.a": "b"})

    ((found, content),) = read(header + tar_of(member("file", b"x")))

    assert (found.name, found.mtime, content) == ("file", 0, b"x")


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_what_has_no_content_may_not_have_a_size(kind: bytes) -> None:
    info = tarfile.TarInfo("odd")
    info.type, info.size = kind, 512

    with pytest.raises(UnsafeArchiveError, match="odd: only a regular file may have a size, and this has 512 bytes"):
        read(info.tobuf(tarfile.USTAR_FORMAT) + bytes(512) + tar_of(member("after", b"x")))
