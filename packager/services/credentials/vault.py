"""The system's keyring, where its user asks for it: the one module that imports ``keyring``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from edgepack.errors import EdgepackError, NotFoundError, package_errors

# Says that the credentials of services are kept there from now on.
VARIABLE = "EDGEPACK_KEYRING"
_SERVICE = "edgepack"


def is_asked() -> bool:
    """Whether the keyring is to be used."""
    return os.environ.get(VARIABLE, "").strip().lower() in ("1", "true", "yes", "on")


def put(entry: str, text: str) -> None:
    """Keep ``text`` as ``entry``; raises ``EdgepackError`` where there is no keyring, or it is locked."""
    with _keyring_errors():
        import keyring

        keyring.set_password(_SERVICE, entry, text)


def get(entry: str) -> str:
    """What is kept as ``entry``; raises as ``put``, and ``NotFoundError``."""
    with _keyring_errors():
        import keyring

        found: str | None = keyring.get_password(_SERVICE, entry)
    if found is None:
        raise NotFoundError(
            "is not in the keyring of this user", where=entry,
            hint="log in as who deployed the service, or replace its keys: delete it and deploy it again",
        )  # fmt: skip
    return found


def forget(entry: str) -> None:
    """Keep it no longer; one that is not there is fine. Raises as ``put``."""
    with _keyring_errors():
        import keyring

        if keyring.get_password(_SERVICE, entry) is not None:
            keyring.delete_password(_SERVICE, entry)


@contextmanager
def _keyring_errors() -> Iterator[None]:
    """Raise what the keyring refuses as an ``EdgepackError``, and ``MissingPartError`` without the package."""
    with package_errors("keyring"):
        from keyring.errors import KeyringError, KeyringLocked, NoKeyringError
    try:
        yield
    except NoKeyringError as error:
        raise EdgepackError(
            "there is none that works here", where="system keyring",
            hint=f"unset {VARIABLE}, and keys are kept in files of mode 0600",
        ) from error  # fmt: skip
    except KeyringLocked as error:
        raise EdgepackError(
            "is locked, so that the keys of services cannot be read or kept", where="system keyring",
            hint="nothing was changed; unlock it, as by logging in to the desktop, and try again",
        ) from error  # fmt: skip
    except KeyringError as error:
        raise EdgepackError(
            f"refuses ({type(error).__name__}: {error})", where="system keyring", hint="check it, and try again"
        ) from error
