"""The device's folder: its store, its trusted keys, its records, its runtimes."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import cast

from edge_agent.runtimes.base import Placed, Runtime
from edge_agent.runtimes.select import RuntimeName, choose
from edge_agent.state.database import StateFile, damaged_state, read_state
from edge_agent.state.goals import Wanted
from edge_agent.state.records import ServiceRecord
from edge_agent.state.reserve import Reserve
from edgepack.errors import (
    DigestMismatchError,
    EdgepackError,
    MissingPartError,
    NotFoundError,
    SignatureError,
    UsageError,
    disk_errors,
)
from edgepack.host.files import make_dirs
from edgepack.host.locks import LockedError, is_locked, locked_within
from edgepack.host.ownership import check_own, check_way
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.oci.upkeep import is_lost, recover_index
from edgepack.signing.keys import TrustStore

_log = logging.getLogger(__name__)
# runc is used where crun is missing.
_CHOICES = {"runc": "crun", "podman": "docker"}
_LOCK = ".lock"
# The folder of the services' locks, and the lock of who brings blobs with names of their own: no service is called so.
_LOCKS = "locks"
_RECEIVING = ".receiving"
_NAME_CHARACTERS = 255
IMPORT_AGAIN = "import the bundle that contains it with: edge-agent import"
# The folder of the device's store of blobs, below its root.
STORE = "store"
# An update waits for the health of several services; a command that waits longer than this waits for something stuck.
PATIENCE_SECONDS = 600.0


class Device:
    """Everything below ``root``, which is created when something is first stored.

    Its locks, from the widest to the narrowest: ``changing`` excludes everything else; ``using`` excludes who uses one
    of the same services, so that others change side by side; ``receiving`` excludes other imports; ``using()`` of no
    service keeps what is in the store from being removed, and excludes ``changing`` only.
    """

    def __init__(self, root: Path, runtime: str = "auto", patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.root = root.absolute()
        self._patience_seconds = patience_seconds
        self._runtime = runtime
        self._runtimes: dict[str, Runtime] = {}

    def create(self) -> None:
        """Create the folder; an existing one keeps its owner and mode.

        Raises ``UnsafePermissionsError`` when other users could change what is in it.
        """
        with disk_errors(self.root):
            self._check_own()
            self._require_writable()
            if not self.root.is_dir():
                # A service's own user must reach its unpacked files, and see nothing else in here.
                make_dirs(self.root, 0o711)

    @property
    def exists(self) -> bool:
        """Whether anything was ever applied here; raises ``UnsafePermissionsError`` as ``create`` does."""
        with disk_errors(self.root):
            self._check_own()
            return self.state_path.exists()

    def _require_writable(self) -> None:
        """Raise ``UsageError`` for who may not make the folder, or anything in it, with what to do about it."""
        place = next((one for one in (self.root, *self.root.parents) if one.exists()), self.root)
        # Root may write where modes forbid it; a read-only file system is told when it is written to.
        if os.geteuid() != 0 and place.is_dir() and not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
            raise UsageError(
                f"this user cannot write to {place}", where=self.root,
                hint="run it as root, or give a folder of your own: edge-agent --state-dir DIR",
            )  # fmt: skip

    def _check_own(self) -> None:
        check_way(self.root)
        for path in (self.root / "state", self.root / "state" / "agent.db", self.root / "state" / "agent.db-wal"):
            check_own(path)

    @cached_property
    def store(self) -> Store:
        """The blobs that the device holds; its folder is made by the first command that changes the device."""
        return Store(self.root / STORE, keeps_unfinished=True)

    @cached_property
    def state(self) -> StateFile:
        """The device's records, readable by its owner alone: a service's environment may hold secrets."""
        folder = self._private("state")
        self._check_state()
        return StateFile(folder / "agent.db")

    def services(self) -> dict[str, ServiceRecord]:
        """Every recorded service by its name; writes nothing, and needs no space and no right to write."""
        return self.recorded()[0]

    def recorded(self) -> tuple[dict[str, ServiceRecord], Wanted]:
        """Every service, and all that is desired, as of one moment; writes nothing, as ``services``."""
        if not self.exists:
            if self._ran:
                what = "the device's state is missing although services were started"
                hint = "apply the desired state again"
                raise EdgepackError(what, where=self.state_path, hint=hint)
            return {}, Wanted()
        self._check_state()
        return read_state(self.state_path)

    @property
    def state_path(self) -> Path:
        """The file of the device's records."""
        return self.root / "state" / "agent.db"

    @property
    def _ran(self) -> bool:
        """Whether there are records of services that were started."""
        with disk_errors(self.root):
            return any((self.root / "run").glob("*/*/spec.json"))

    def _check_state(self) -> None:
        """Raise ``EdgepackError`` for an empty database beside services that were run: its content was lost."""
        with disk_errors(self.root), suppress(FileNotFoundError):
            files = [path for path in self.state_path.parent.glob("agent.db*") if path.suffix != ".db-shm"]
            if files and not any(path.stat().st_size for path in files) and self._ran:
                raise damaged_state(self.state_path, "it is empty although services were started")

    def make_room(self) -> None:
        """Free what is held in reserve, where the disk is full: what follows must not fail for a few kilobytes."""
        self._reserve.use()

    @property
    def _reserve(self) -> Reserve:
        return Reserve(self.root / "state" / "reserve")

    @cached_property
    def trust(self) -> TrustStore:
        """The keys whose signatures are trusted."""
        self.create()
        return TrustStore(self.root / "trust")

    def runtime_for(self, record: ServiceRecord | None) -> Runtime:
        """The runtime for a service: that of ``--runtime``, or else the one that runs it, or else one that works."""
        if self._runtime == "auto" and record is not None:
            return self.runtime_named(record.runtime)
        return self._chosen(self._runtime)

    def check_place(self, record: ServiceRecord | None = None) -> None:
        """Raise ``IncompatibleError`` where the service, or any, cannot run from this folder, whatever its image.

        A runtime that is not there yet says nothing about it.
        """
        with suppress(MissingPartError):
            runtime = self.runtime_for(record)
            if isinstance(runtime, Placed):
                runtime.check_place()

    def runtime_named(self, name: str) -> Runtime:
        """The runtime called ``name``; raises ``MissingPartError`` when it does not work now."""
        known = [one for one in self._runtimes.values() if one.name == name]
        return known[0] if known else self._chosen(_CHOICES.get(name, name))

    def _chosen(self, name: str) -> Runtime:
        if name not in self._runtimes:
            self._runtimes[name] = choose(cast(RuntimeName, name), self.root, self.store)
        return self._runtimes[name]

    def _private(self, name: str) -> Path:
        self.create()
        folder = self.root / name
        make_dirs(folder, 0o700)
        return folder

    @property
    def name(self) -> str:
        """The device's name, whatever its host is called: bytes that are no text are escaped, spaces become ``_``."""
        name = os.fsencode(socket.gethostname()).decode("utf-8", "backslashreplace")
        return "_".join(name.split())[:_NAME_CHARACTERS] or "unnamed"

    @property
    def busy(self) -> bool:
        """Whether a command is changing the device, or a service of it, now."""
        with disk_errors(self.root):
            locks = self.root / _LOCKS
            services = [path.name for path in locks.iterdir()] if locks.is_dir() else []
        return is_locked(self.root / _LOCK) or any(self.busy_with(one) for one in services if one != _RECEIVING)

    def busy_with(self, service: str) -> bool:
        """Whether a command is changing ``service``, or the whole device, now."""
        with disk_errors(self.root):
            return is_locked(self.root / _LOCK) or is_locked(self.root / _LOCKS / service)

    @contextmanager
    def changing(self, patience_seconds: float | None = None) -> Iterator[None]:
        """Hold the device's lock alone: for what is removed from the store, and what concerns every service.

        A second command waits for the first, and fails with ``EdgepackError`` when that takes longer than its patience.
        """
        self.create()
        with self._locked(self.root / _LOCK, patience_seconds):
            if self.store.digests():  # else an absent index is a new store's
                recover_index(self.store)
            with self._filling():
                yield

    @contextmanager
    def using(self, *services: str, patience_seconds: float | None = None) -> Iterator[None]:
        """Hold the locks of ``services``, and keep what is in the store from being removed.

        Other services may be used at the same time. Waits and fails as ``changing`` does. Without a service it is for
        what is brought into the store, and excludes nobody else who is.
        """
        self.create()
        if self.store.digests() and is_lost(self.store):
            # Written anew by one alone; while others go on, which takes hours for a download, it stays as it is.
            with suppress(LockedError), self.changing(0):
                pass
        with ExitStack() as held:
            held.enter_context(self._locked(self.root / _LOCK, patience_seconds, shared=True))
            # In one order, so that two who want the same ones never wait for each other.
            for name in sorted(set(services)):
                held.enter_context(self._locked(self._private(_LOCKS) / name, patience_seconds))
            held.enter_context(self._filling())
            yield

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """As ``using`` without a service, and one at a time: an import may remove what another one left unfinished."""
        with self.using(), self._locked(self._private(_LOCKS) / _RECEIVING, None):
            yield

    @contextmanager
    def _locked(self, path: Path, patience_seconds: float | None, *, shared: bool = False) -> Iterator[None]:
        def tell(holder: str) -> None:
            _log.info("%s is changing %s; waiting until it is done", holder, self.root)

        patience = self._patience_seconds if patience_seconds is None else patience_seconds
        with locked_within(path, patience, tell if patience else lambda _: None, shared=shared):
            yield

    @contextmanager
    def _filling(self) -> Iterator[None]:
        """Make the store where there is none, and take what is held in reserve again at the end."""
        Store.create(self._private("store"))
        try:
            yield
        finally:
            self._reserve.fill()

    def manifest_of(self, image: Digest) -> Digest:
        """The image manifest for this device's platform: ``image`` itself, or its entry in the index ``image``.

        Raises ``NotFoundError`` when it was not imported and ``IncompatibleError`` when it is for other platforms.
        """
        from edgepack.oci.platforms import platform_manifest

        return platform_manifest(self.store, self.store.describe(image), Platform.host()).digest

    def is_image(self, image: Digest, manifest: Digest) -> bool:
        """Whether ``manifest`` is what runs here for ``image``, as far as can be said: the store may lack it by now."""
        try:
            return self.manifest_of(image) == manifest
        except EdgepackError:
            return True

    def check_signed(self, image: Digest, *, allow_unsigned: bool) -> None:
        """Raise ``SignatureError`` unless a trusted key signed ``image``, ``NotFoundError`` when it is not stored."""
        from edgepack.signing.statement import verify_image

        if not self.store.has_digest(image):
            raise NotFoundError("is not on this device", where=f"image {image}", hint=IMPORT_AGAIN)
        damaged = self._damaged_statements(image)
        try:
            verify_image(self.store, image, self.trust.keys())
        except SignatureError as error:
            if damaged:
                what = f"its statement is damaged on this device (blob {damaged[0]})"
                raise DigestMismatchError(what, where=f"image {image}", hint=IMPORT_AGAIN) from error
            if not allow_unsigned:
                raise SignatureError(
                    error.what, where=error.where,
                    hint="sign the image with a key that this device trusts, or give --allow-unsigned",
                ) from error  # fmt: skip
            _log.warning("image %s runs without a trusted signature, because of --allow-unsigned", image)

    def _damaged_statements(self, image: Digest) -> list[Digest]:
        """The blobs of statements on ``image`` that are not what they were; they are removed."""
        found = []
        for artifact in self.store.referrers(image, mediatypes.STATEMENT_ARTIFACT):
            if not self.store.check(artifact):
                found.append(artifact.digest)
                continue
            found += [blob.digest for blob in self.store.manifest(artifact).layers if not self.store.check(blob)]
        return found
