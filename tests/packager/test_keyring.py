"""Keys of services in the system's keyring: a backend of its own stands for the desktop's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.errors import EdgepackError, NotFoundError
from packager.services.configuration.rules import Keys
from packager.services.credentials.folder import CredentialFolder

keyring = pytest.importorskip("keyring")
from keyring.backend import KeyringBackend  # noqa: E402 - once it is known to be there
from keyring.backends.fail import Keyring as NoKeyring  # noqa: E402
from keyring.errors import KeyringLocked  # noqa: E402


class Desktop(KeyringBackend):  # type: ignore[misc, unused-ignore]
    """A keyring in memory, which can be locked."""

    priority = 1  # type: ignore[assignment, unused-ignore]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def _check(self) -> None:
        if self.is_locked:
            raise KeyringLocked("locked")

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        del self.entries[service, username]


@pytest.fixture
def desktop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    before, made = keyring.get_keyring(), Desktop()
    keyring.set_keyring(made)
    monkeypatch.setenv("EDGEPACK_KEYRING", "1")
    yield made
    keyring.set_keyring(before)


def test_keys_are_in_the_keyring_alone_and_stay_there(
    tmp_path: Path, desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CredentialFolder(tmp_path)
    with folder.changed("churn", Keys()) as made:
        pass
    file = tmp_path / "credentials/churn.json"
    assert str(made.keys.primary) not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert str(made.keys.primary) in desktop.entries["edgepack", str(file)]
    monkeypatch.delenv("EDGEPACK_KEYRING")
    assert folder.get("churn").keys == made.keys
    with folder.regenerated("churn", "primary") as later:
        pass
    assert str(later.keys.primary) not in file.read_text()
    assert folder.get("churn").keys == later.keys
    folder.remove("churn")
    assert desktop.entries == {}
    assert folder.find("churn") is None


def test_a_file_moves_there_with_the_next_change(
    tmp_path: Path, desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, file = CredentialFolder(tmp_path), tmp_path / "credentials/churn.json"
    monkeypatch.delenv("EDGEPACK_KEYRING")
    with folder.changed("churn", Keys()) as made:
        assert str(made.keys.secondary) in file.read_text()
    monkeypatch.setenv("EDGEPACK_KEYRING", "yes")
    assert folder.get("churn").keys == made.keys
    with folder.regenerated("churn", "primary"):
        pass
    assert str(made.keys.secondary) not in file.read_text()
    assert folder.get("churn").keys.secondary == made.keys.secondary


def test_a_locked_keyring_does_not_keep_a_service_from_being_forgotten(
    tmp_path: Path, desktop: Desktop, caplog: pytest.LogCaptureFixture
) -> None:
    folder = CredentialFolder(tmp_path)
    with folder.changed("churn", Keys()) as made:
        pass
    desktop.is_locked = True
    folder.remove("churn")
    assert folder.find("churn") is None
    assert list((tmp_path / "credentials").iterdir()) == []
    assert f"the keys of service churn, which nothing takes any more, stay there as the entry {tmp_path}" in caplog.text
    desktop.is_locked = False
    with folder.changed("churn", Keys()) as later:
        pass
    assert later.keys != made.keys


def test_a_keyring_that_is_locked_or_absent_changes_nothing(tmp_path: Path, desktop: Desktop) -> None:
    folder = CredentialFolder(tmp_path)
    with folder.changed("churn", Keys()) as made:
        pass
    desktop.is_locked = True
    with pytest.raises(EdgepackError, match=r"system keyring: is locked, .* nothing was changed; unlock it"):
        folder.get("churn")
    with pytest.raises(EdgepackError, match="is locked"), folder.regenerated("churn", "primary"):
        pass
    with pytest.raises(EdgepackError, match="is locked"), folder.changed("other", Keys()):
        pass
    assert folder.find("other") is None
    desktop.is_locked = False
    assert folder.get("churn").keys == made.keys
    desktop.entries.clear()
    with pytest.raises(NotFoundError, match="is not in the keyring of this user"):
        folder.get("churn")
    keyring.set_keyring(NoKeyring())
    with pytest.raises(EdgepackError, match="there is none that works here; unset EDGEPACK_KEYRING"):
        folder.get("churn")
