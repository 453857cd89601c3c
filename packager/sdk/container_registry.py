"""``ContainerRegistry``: where a base image comes from or a package is kept, and who logs in there."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from edgepack.hidden import MASK
from edgepack.host.credentials import Credentials
from packager.sdk.section import Section

if TYPE_CHECKING:
    from packager.registries.issue import RegistryLogin


class ContainerRegistry(Section):
    """A registry of images. The password stays in this object: no record, file or message holds it."""

    _NAMES: ClassVar[tuple[str, ...]] = ("address", "username", "password", "registry_identity")

    def __init__(self, *, address: str | None = None, username: str | None = None, password: str | None = None) -> None:
        self.address: str | None = address
        self.username: str | None = username
        self.password = password
        self.registry_identity: object = None

    @classmethod
    def of(cls, login: RegistryLogin) -> ContainerRegistry:
        """A registry with the login to it."""
        return cls(address=login.address, username=login.username, password=login.secret)

    @property
    def password(self) -> str | None:
        """The password, which only this attribute shows."""
        return None if self._login is None else self._login.password

    @password.setter
    def password(self, value: str | None) -> None:
        self._login = None if value is None else Credentials(password=value)

    def __repr__(self) -> str:
        hidden = None if self.password is None else MASK
        return f"ContainerRegistry(address={self.address!r}, username={self.username!r}, password={hidden!r})"
