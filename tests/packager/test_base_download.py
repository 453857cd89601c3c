"""The packages of a lock come by HTTP from any mirror, by their hashes, and from nowhere else."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgepack.errors import DigestMismatchError, EdgepackError, NotFoundError, UsageError
from edgepack.oci.descriptor import Platform
from packager.bases import debian
from packager.bases.debian import download, sources
from packager.bases.debian.debs import LockedPackage, read_package
from packager.bases.debian.download import locked_packages
from packager.bases.debian.sources import Sources, find_sources, machine_archives
from tests.support.ports import free_port

RECIPE = debian.load_recipe("debian12-python3.11")


class Mirror:
    """A server of files by path; ``answers`` gives status codes that come first."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, list[int]] = {}
        self.asked: Counter[str] = Counter()
        self.logins: set[str | None] = set()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.asked[self.path] += 1
                mirror.logins.add(self.headers.get("Authorization"))
                first = mirror.answers.get(self.path)
                content = mirror.files.get(self.path)
                code = first.pop(0) if first else 404 if content is None else 200
                self.send_response(code)
                self.send_header("Content-Length", str(len(content or b"") if code == 200 else 0))
                self.end_headers()
                if code == 200:
                    self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    made = Mirror()
    yield made
    made.close()


def deb(name: str, version: str, source: str | None = None, architecture: str = "amd64") -> bytes:
    """A package with nothing in it (deb(5))."""
    control = f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n"
    control += f"Source: {source}\n" if source else ""
    parts = {"debian-binary": b"2.0\n", "control.tar.gz": tar({"./control": control.encode()}), "data.tar.gz": tar({})}
    archive = b"!<arch>\n"
    for member, content in parts.items():
        archive += f"{member:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        archive += content + b"\n" * (len(content) % 2)
    return archive


def tar(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def locked(content: bytes, folder: Path) -> LockedPackage:
    (folder / "one.deb").write_bytes(content)
    return read_package(folder / "one.deb").locked


SSL = deb("libssl3", "1:3.0.22-1~deb12u2", "openssl (3.0.22-1)")
SSL_FILE = "libssl3_3.0.22-1~deb12u2_amd64.deb"
IN_MAIN = f"/debian/pool/main/o/openssl/{SSL_FILE}"
IN_SECURITY = f"/debian-security/pool/updates/main/o/openssl/{SSL_FILE}"
GCC = deb("libgcc-s1", "12.2.0-14+deb12u1", "libgcc")
GCC_IN_MAIN = "/debian/pool/main/libg/libgcc/libgcc-s1_12.2.0-14+deb12u1_amd64.deb"


def sources_of(mirror: Mirror, *archives: str) -> Sources:
    return Sources(tuple(f"{mirror.url}/{name}" for name in archives), f"{mirror.url}/snapshot", {})


def test_updates_of_security_come_from_their_own_archive_and_nothing_comes_twice(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.files = {IN_SECURITY: SSL, GCC_IN_MAIN: GCC}
    pins = [locked(SSL, tmp_path), locked(GCC, tmp_path)]
    where = sources_of(mirror, "debian", "debian-security")
    found = locked_packages(pins, tmp_path / "packages", where, "lock")
    assert [package.locked for package in found] == pins
    assert mirror.asked == {IN_MAIN: 1, IN_SECURITY: 1, GCC_IN_MAIN: 1}
    mirror.files = {}
    assert locked_packages(pins, tmp_path / "packages", where, "lock") == found
    assert mirror.asked.total() == 3


def test_an_archive_of_any_other_name_may_have_both(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files = {IN_SECURITY.replace("/debian-security/", "/mixed/"): SSL}
    assert locked_packages([locked(SSL, tmp_path)], tmp_path / "p", sources_of(mirror, "mixed"), "lock")


def test_a_version_that_the_mirrors_have_dropped_comes_from_the_snapshot_by_its_hash(
    mirror: Mirror, tmp_path: Path
) -> None:
    files = [{"architecture": "arm64", "hash": "aa"}, {"architecture": "amd64", "hash": "bb"}]
    mirror.files = {
        "/snapshot/mr/binary/libssl3/1%3A3.0.22-1~deb12u2/binfiles": json.dumps({"result": files}).encode(),
        "/snapshot/file/bb": SSL,
    }
    pin = locked(SSL, tmp_path)
    assert locked_packages([pin], tmp_path / "p", sources_of(mirror, "debian"), "lock")[0].locked == pin
    assert mirror.asked[IN_MAIN] == 1


@pytest.mark.parametrize("listing", [b"<html>", b'{"result": [{}]}', b'{"result": []}', b"[]"])
def test_a_package_that_nobody_has_is_named_and_nothing_else_takes_its_place(
    mirror: Mirror, tmp_path: Path, listing: bytes
) -> None:
    mirror.files = {IN_MAIN.replace("3.0.22-1~deb12u2", "3.0.19-1"): deb("libssl3", "3.0.19-1", "openssl")}
    mirror.files["/snapshot/mr/binary/libssl3/1%3A3.0.22-1~deb12u2/binfiles"] = listing
    with pytest.raises(
        NotFoundError, match=r"lock: libssl3 1:3\.0\.22-1~deb12u2 is no longer on .*EDGEPACK_DEBIAN_MIRRORS"
    ):
        locked_packages([locked(SSL, tmp_path)], tmp_path / "p", sources_of(mirror, "debian"), "lock")
    assert list((tmp_path / "p").iterdir()) == []


def test_other_bytes_than_locked_are_passed_over_and_refused_when_nobody_has_the_right_ones(
    mirror: Mirror, tmp_path: Path
) -> None:
    pin = locked(SSL, tmp_path)
    mirror.files = {IN_MAIN: b"<html>please log in</html>", "/other" + IN_MAIN: SSL + b"\n"}
    with pytest.raises(
        DigestMismatchError, match=r"libssl3 .* is not the package that was locked; do not use .*/debian"
    ):
        locked_packages([pin], tmp_path / "p", sources_of(mirror, "debian", "other/debian"), "lock")
    mirror.files["/good" + IN_MAIN] = SSL
    where = sources_of(mirror, "debian", "other/debian", "good/debian")
    assert locked_packages([pin], tmp_path / "p", where, "lock")[0].locked == pin


def test_a_mirror_that_cannot_be_reached_is_asked_once_and_named_when_there_is_no_other(
    mirror: Mirror, tmp_path: Path
) -> None:
    pins = [locked(SSL, tmp_path), locked(GCC, tmp_path)]
    dead = f"http://user:secret@127.0.0.1:{free_port()}/debian"  # nobody listens there
    mirror.files = {IN_MAIN: SSL, GCC_IN_MAIN: GCC}
    both = replace(sources_of(mirror, "debian"), archives=(dead, f"{mirror.url}/debian"))
    assert len(locked_packages(pins, tmp_path / "p", both, "lock")) == 2
    with pytest.raises(
        EdgepackError, match=r"lock: no mirror of Debian could be read .*refused.*check the network"
    ) as caught:
        locked_packages(pins, tmp_path / "q", Sources((dead,), dead, {}), "lock")
    assert "secret" not in str(caught.value)


def test_a_busy_server_is_asked_again_and_a_refusing_one_is_not(mirror: Mirror, tmp_path: Path) -> None:
    pin = locked(SSL, tmp_path)
    mirror.files = {IN_MAIN: SSL}
    mirror.answers = {IN_MAIN: [503, 429]}
    assert locked_packages([pin], tmp_path / "p", sources_of(mirror, "debian"), "lock")
    mirror.answers = {IN_MAIN: [403], "/snapshot/mr/binary/libssl3/1%3A3.0.22-1~deb12u2/binfiles": [403]}
    with pytest.raises(EdgepackError, match=r"no mirror of Debian could be read .*/debian: answered 403"):
        locked_packages([pin], tmp_path / "q", sources_of(mirror, "debian"), "lock")


def test_a_password_in_an_address_is_sent_as_a_header(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files = {IN_MAIN: SSL}
    address = mirror.url.replace("://", "://me:a%40b@") + "/debian"
    locked_packages([locked(SSL, tmp_path)], tmp_path / "p", Sources((address,), mirror.url, {}), "lock")
    assert mirror.logins == {"Basic bWU6YUBi"}


def test_a_proxy_is_asked_instead(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files = {f"http://mirror.invalid{IN_MAIN}": SSL}
    where = Sources(("http://mirror.invalid/debian",), mirror.url, {"http": mirror.url})
    assert locked_packages([locked(SSL, tmp_path)], tmp_path / "p", where, "lock")


# ---- Which sources ------------------------------------------------------------------------------------------------


def test_mirrors_that_are_given_take_the_place_of_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "machine_archives", lambda: ["http://apt.example/debian"])
    named = {"EDGEPACK_DEBIAN_MIRRORS": "http://a.example/debian/  https://b.example/d"}
    assert find_sources((), named).archives == ("http://a.example/debian", "https://b.example/d")
    assert find_sources(["http://c.example/debian"], named).archives == ("http://c.example/debian",)
    assert find_sources((), {}).archives == (
        "http://apt.example/debian",
        "https://deb.debian.org/debian",
        "https://deb.debian.org/debian-security",
    )
    with pytest.raises(UsageError, match="'ftp://x/debian' is not the address of a mirror"):
        find_sources(["ftp://x/debian"], {})


def test_without_a_proxy_of_the_environment_apts_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ['Acquire::http::Proxy "http://proxy.example:3142"', 'Acquire::https::Proxy "DIRECT"']
    monkeypatch.setattr(sources, "apt_settings", lambda: settings)
    monkeypatch.setattr(sources, "getproxies", dict)
    assert find_sources().proxies == {"http": "http://proxy.example:3142"}
    monkeypatch.setattr(sources, "getproxies", lambda: {"http": "http://other.example"})
    assert find_sources().proxies == {"http": "http://other.example"}


def test_only_mirrors_of_debian_are_taken_from_the_machine(tmp_path: Path) -> None:
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example/debian bookworm main\n"
        "deb http://mirror.example/debian/ trixie main\n"
        "deb https://other.example/linux/debian/12/prod bookworm main\n"
        "deb [signed-by=/usr/share/keyrings/vendor.gpg] https://vendor.example/debian bookworm main\n"
    )
    (folder / "off.sources").write_text("Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: a\n")
    (folder / "security.sources").write_text(
        "Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
    (tmp_path / "mirrors").write_text("https://cloud.example/debian\n")
    (folder / "cloud.sources").write_text(
        f"Types: deb\nURIs: mirror+file://{tmp_path}/mirrors mirror+file:{tmp_path}/absent\nSuites: bookworm\n"
    )
    assert machine_archives(tmp_path) == [
        "http://mirror.example/debian",
        "http://mirror.example/debian-security",
        "https://cloud.example/debian",
    ]


def test_a_machine_without_mirrors_of_debian_names_none(tmp_path: Path) -> None:
    assert machine_archives(tmp_path) == []


@pytest.mark.parametrize("platform", RECIPE.platforms)
def test_every_locked_package_says_where_it_is_in_an_archive(platform: str) -> None:
    lock = debian.read_lock(RECIPE, Platform.parse(platform))
    assert lock is not None
    assert all(pin.source and pin.size > 0 and len(pin.sha256) == 64 for pin in lock.packages)
