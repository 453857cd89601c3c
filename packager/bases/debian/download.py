"""The packages of a lock by HTTP, from any mirror of Debian: their hashes decide, so that no mirror need be trusted.

A version that the mirrors have dropped comes from the archive of everything that Debian has published. Nothing of
Debian's is needed here: no apt, no dpkg, no root.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import ProxyHandler, Request, build_opener

import edgepack
from edgepack.errors import DigestMismatchError, EdgepackError, NotFoundError, disk_errors
from edgepack.host.progress import Progress, unseen
from edgepack.limits import LIMITS
from edgepack.text import redacted
from packager.bases.debian.debs import LockedPackage, Package, read_package
from packager.bases.debian.sources import MIRRORS_VARIABLE, Sources

_log = logging.getLogger(__name__)
_TIMEOUT = 30.0
_ATTEMPTS = 3
_AT_ONCE = 4
_BUSY = (408, 429, 500, 502, 503, 504)


class _UnreachableError(Exception):
    """A server did not answer, or not with what was asked for."""


class _AbsentError(Exception):
    """A server does not have it."""


def locked_packages(
    pins: Sequence[LockedPackage], folder: Path, sources: Sources, where: object, progress: Progress = unseen
) -> list[Package]:
    """The packages of ``pins``, in ``folder``; what is there already is not downloaded again.

    ``where`` names the lock. Raises ``NotFoundError`` naming a package that no source has, ``DigestMismatchError`` for
    one that they have with other contents, ``EdgepackError`` when none can be reached, ``NoSpaceError``.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        download = _Download(sources, where)
        total = sum(pin.size for pin in pins)
        with progress("download Debian packages", total) as advance, ThreadPoolExecutor(_AT_ONCE) as pool:

            def fetched(pin: LockedPackage) -> Path:
                path = download.to(pin, folder)
                advance(pin.size)
                return path

            paths = list(pool.map(fetched, pins))
        return [read_package(path) for path in paths]


class _Download:
    """Asks the sources one after the other; one that cannot be reached is not asked again."""

    def __init__(self, sources: Sources, where: object) -> None:
        self._sources = sources
        self._where = where
        self._opener = build_opener(ProxyHandler(None if sources.proxies is None else dict(sources.proxies)))
        self._dead: dict[str, str] = {}
        self._lock = threading.Lock()

    def to(self, pin: LockedPackage, folder: Path) -> Path:
        """The package's file, which has the bytes that the lock names."""
        path = folder / f"{pin.name}_{pin.version.replace(':', '%3a')}_{pin.architecture}.deb"
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == pin.sha256:
            return path
        others: list[str] = []
        for source, find in self._places(pin):
            if source in self._dead:
                continue
            try:
                content = find()
            except _AbsentError:
                continue
            except _UnreachableError as error:
                with self._lock:
                    is_known = source in self._dead  # by another download at the same time
                    self._dead[source] = str(error)
                if not is_known:
                    _log.info("%s cannot be read (%s)", redacted(source), error)
                continue
            if hashlib.sha256(content).hexdigest() == pin.sha256:
                path.write_bytes(content)
                return path
            others.append(source)
        raise self._failure(pin, others)

    def _places(self, pin: LockedPackage) -> Iterator[tuple[str, Callable[[], bytes]]]:
        for archive in self._sources.archives:
            for pool in _pools(archive):
                address = f"{archive}/{quote(_pool_path(pool, pin), safe='/+~')}"
                yield archive, lambda address=address: self._get(address, pin.size)  # type: ignore[misc]
        yield self._sources.snapshot, lambda: self._from_snapshot(pin)

    def _from_snapshot(self, pin: LockedPackage) -> bytes:
        """By the machine-usable interface of snapshot.debian.org, which knows files by their SHA-1."""
        version = quote(pin.version, safe="")
        listing = self._get(
            f"{self._sources.snapshot}/mr/binary/{pin.name}/{version}/binfiles", LIMITS.snapshot_listing_bytes
        )
        try:
            hashes = [
                str(file["hash"]) for file in json.loads(listing)["result"] if file["architecture"] == pin.architecture
            ]
        except (ValueError, KeyError, TypeError):
            raise _UnreachableError("its answer is not a list of files") from None
        if not hashes:
            raise _AbsentError
        return self._get(f"{self._sources.snapshot}/file/{quote(hashes[0], safe='')}", pin.size)

    def _get(self, address: str, limit: int) -> bytes:
        """At most ``limit`` bytes and one more of the body at ``address``."""
        request = _request(address)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._opener.open(request, timeout=_TIMEOUT) as answer:
                    return bytes(answer.read(limit + 1))
            except urllib.error.HTTPError as error:
                if error.code in (404, 410):
                    raise _AbsentError from None
                if error.code not in _BUSY or attempt == _ATTEMPTS:
                    raise _UnreachableError(f"answered {error.code}") from None
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                if attempt == _ATTEMPTS or not isinstance(error, http.client.IncompleteRead | ConnectionResetError):
                    raise _UnreachableError(_reason(error)) from None
            time.sleep(attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _failure(self, pin: LockedPackage, others: Sequence[str]) -> EdgepackError:
        tried = [*self._sources.archives, self._sources.snapshot]
        asked = [redacted(source) for source in tried if source not in self._dead]
        dead = "; ".join(f"{redacted(source)}: {reason}" for source, reason in self._dead.items())
        if others:
            what = f"{pin.name} {pin.version} is not the package that was locked"
            hint = f"do not use the mirror {redacted(others[0])}"
            return DigestMismatchError(what, where=self._where, hint=hint)
        give = f"name another mirror in {MIRRORS_VARIABLE}, or a base image by --base"
        if not asked:
            return EdgepackError(
                f"no mirror of Debian could be read ({dead})", where=self._where, hint=f"check the network, {give}"
            )
        what = f"{pin.name} {pin.version} is no longer on {', '.join(asked)}"
        return NotFoundError(f"{what}{f' ({dead})' if dead else ''}", where=self._where, hint=give)


def _pools(archive: str) -> tuple[str, ...]:
    """The folders of an archive below which packages are: those for security updates are apart."""
    if archive.endswith("-security"):
        return ("pool/updates/main",)
    return ("pool/main",) if archive.endswith("/debian") else ("pool/main", "pool/updates/main")


def _pool_path(pool: str, pin: LockedPackage) -> str:
    """The path of a package in an archive: by source package, without the version's epoch."""
    folder = pin.source[:4] if pin.source.startswith("lib") else pin.source[:1]
    version = pin.version.rpartition(":")[2]
    return f"{pool}/{folder}/{pin.source}/{pin.name}_{version}_{pin.architecture}.deb"


def _request(address: str) -> Request:
    """A request for ``address``; a name and a password in it become a header (RFC 7617)."""
    parts = urlsplit(address)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    request = Request(bare)  # noqa: S310 - http or https, see find_sources
    request.add_header("User-Agent", f"edgepack/{edgepack.__version__}")
    if parts.username is not None:
        import base64

        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    return request


def _reason(error: Exception) -> str:
    """Why a server could not be asked, in the system's words where it has some: not ``[Errno 111] …``."""
    reason = getattr(error, "reason", None) or error
    return (reason.strerror if isinstance(reason, OSError) else None) or str(reason)
