"""The device's own key: made once, and never replaced or shown."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from edgepack.errors import NotFoundError, disk_errors
from edgepack.host.files import atomic_write, locked, make_dirs
from edgepack.host.ownership import check_own
from edgepack.signing.keys import PrivateKey, create_key

FOLDER = "identity"


def device_key(root: Path) -> PrivateKey:
    """The key of the device in ``root``, a new one where it has none yet; the folder ``root`` must be there.

    Raises ``UnsafePermissionsError`` where another user could have put it there, ``UsageError`` for a damaged file.
    """
    folder = root / FOLDER
    make_dirs(folder, 0o700)
    with locked(folder / ".lock"):
        with suppress(NotFoundError):
            return read_device_key(root)
        key = create_key()
        atomic_write(folder / "device.key", key.to_pem(), 0o600)
    return key


def read_device_key(root: Path) -> PrivateKey:
    """The key of the device in ``root``; raises ``NotFoundError`` where it has none, and as ``device_key`` does."""
    path = root / FOLDER / "device.key"
    check_own(path)
    try:
        with disk_errors(path):
            data = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError("this device has no identity yet", where=path, hint="make one: edge-agent init") from None
    return PrivateKey.from_pem(data, path)
