"""Where a workstation keeps the credentials of its services: a file of mode 0600 for each, in the workspace's folder.

They are in no database, for a team's is shared, and in no log. A file has both keys and the key that signs tokens, so
that callers keep their keys when a service asks for tokens for a while. Where the user asks for the system's keyring,
the file says only that they are there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgepack.documents import Fields, parse_object, raise_all
from edgepack.errors import EdgepackError, NotFoundError, UsageError, disk_errors
from edgepack.hidden import HiddenObject, HiddenText
from edgepack.host.files import atomic_write, fsync_dir, make_dirs
from edgepack.host.ownership import check_secret
from edgepack.limits import LIMITS
from edgepack.signing.keys import PrivateKey, create_key
from packager.fleet.reach import UnseenError
from packager.fleet.registry import MaybeSentError
from packager.services.configuration.rules import Keys
from packager.services.credentials import vault
from packager.services.credentials.keys import ServiceKeys, Which, is_key, new_key

_log = logging.getLogger(__name__)

SCHEMA = "edgepack.service-credentials/v1"
_FOLDER = "credentials"
# All of a file whose credentials are in the system's keyring, by the file's path.
_IN_KEYRING = b'{"keyring": true}\n'


@dataclass(frozen=True)
class Credentials:
    """The keys of a service, and what signs its tokens; what shows them shows neither."""

    keys: ServiceKeys = field(repr=False)
    signing: PrivateKey = field(repr=False)


class CredentialFolder:
    """The credentials of the services of the workspace at ``root``."""

    def __init__(self, root: Path) -> None:
        self._folder = root.absolute() / _FOLDER

    def find(self, name: str) -> Credentials | None:
        """The credentials of a service, read anew; ``None`` where this workstation has none.

        Raises ``UnsafePermissionsError`` where other users could read them, ``InvalidDocumentError``.
        """
        path = self._path(name)
        try:
            with disk_errors(path), path.open("rb") as file:
                check_secret(path)
                data = file.read(LIMITS.key_file_bytes)
        except FileNotFoundError:
            return None
        if data == _IN_KEYRING:
            data = vault.get(str(path)).encode()
        return _read(data, path)

    def get(self, name: str) -> Credentials:
        """The same; raises ``NotFoundError`` without."""
        found = self.find(name)
        if found is None:
            raise NotFoundError(
                "its keys are not on this workstation", where=f"service {name}",
                hint="ask where it was deployed, or replace both keys here: edgepack service keys "
                f"{name} --regenerate primary",
            )  # fmt: skip
        return found

    @contextmanager
    def changed(self, name: str, given: Keys) -> Iterator[Credentials]:
        """Keep the keys that are ``given``, and make those that are missing, for what is done in the block.

        When that fails with an ``EdgepackError``, what there was before is there again, unless the target was told
        all the same. Only one process at a time may change a service.
        """
        former = self.find(name)
        found = _merged(former, given, name)
        if found != former:
            self._write(name, found)
        try:
            yield found
        except (UnseenError, MaybeSentError):  # it will take them, if it has not yet
            raise
        except EdgepackError:
            if former is not None and found != former:
                self._write(name, former)
            raise

    @contextmanager
    def regenerated(self, name: str, which: Which, own: HiddenText | None = None) -> Iterator[Credentials]:
        """As ``changed``, with another key in place of one of the two; the other one stays."""
        former = self.find(name)
        key = own or new_key()
        if former is not None and key in (former.keys.primary, former.keys.secondary):
            raise UsageError("is one of its keys already", where=f"{which} key of service {name}", hint="give another")
        given = Keys(primary=key) if which == "primary" else Keys(secondary=key)
        with self.changed(name, given) as found:
            yield found

    def remove(self, name: str) -> None:
        """Forget the credentials of a service; one without any is fine.

        What a keyring does not give up now stays there, which is logged: nothing takes those keys any more.
        """
        path = self._path(name)
        with disk_errors(path):
            if not path.exists():
                return
            if self._is_in_keyring(name):
                try:
                    vault.forget(str(path))
                except EdgepackError as error:
                    _log.warning(
                        "%s: %s; the keys of service %s, which nothing takes any more, stay there as the entry %s",
                        error.where, error.what, name, path,
                    )  # fmt: skip
            path.unlink()
            fsync_dir(self._folder)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _write(self, name: str, value: Credentials) -> None:
        make_dirs(self._folder, 0o700)
        document = {
            "schema": SCHEMA, "primary": value.keys.primary, "secondary": value.keys.secondary,
            "signing_key": value.signing.to_pem().decode("ascii"),
        }  # fmt: skip
        path, text = self._path(name), json.dumps(document, indent=2)
        if vault.is_asked() or self._is_in_keyring(name):
            # First there: until the file says so, what it has counts.
            vault.put(str(path), text)
            text = _IN_KEYRING.decode("ascii")
        atomic_write(path, text.encode("ascii"), 0o600)

    def _is_in_keyring(self, name: str) -> bool:
        try:
            return self._path(name).read_bytes() == _IN_KEYRING
        except FileNotFoundError:
            return False


def _merged(former: Credentials | None, given: Keys, name: str) -> Credentials:
    """``former`` with the keys that are ``given`` and those that are still missing."""
    if former is None:
        former = Credentials(ServiceKeys(new_key(), new_key()), create_key())
    keys = ServiceKeys(given.primary or former.keys.primary, given.secondary or former.keys.secondary)
    if keys.primary == keys.secondary:
        raise UsageError(
            "the primary and the secondary key would be the same", where=f"service {name}", hint="give another key"
        )
    return former if keys == former.keys else replace(former, keys=keys)


def _read(data: bytes, path: Path) -> Credentials:
    violations: list[str] = []
    fields = Fields(HiddenObject(parse_object(data, path)), "", violations)
    fields.schema(SCHEMA)
    texts = {name: fields.take(name, str, required=True) or "" for name in ("primary", "secondary", "signing_key")}
    fields.finish()
    for name in ("primary", "secondary"):
        if texts[name] and not is_key(texts[name]):
            fields.wrong(name, "is not a key")
    raise_all(path, violations, hint="put back a copy of the file, or remove it, and deploy the service again")
    keys = ServiceKeys(HiddenText(texts["primary"]), HiddenText(texts["secondary"]))
    return Credentials(keys, PrivateKey.from_pem(texts["signing_key"].encode(), path))
