"""``ContainerRegistry``: where a base image comes from, and who logs in there."""

from __future__ import annotations

from typing import ClassVar

from packager.sdk.section import Section


class ContainerRegistry(Section):
    """A registry of images. The password stays in this object: no record, file or message holds it."""

    _NAMES: ClassVar[tuple[str, ...]] = ("address", "username", "password", "registry_identity")

    def __init__(self) -> None:
        self.address: str | None = None
        self.username: str | None = None
        self.password: str | None = None
        self.registry_identity: object = None

    def __repr__(self) -> str:
        hidden = None if self.password is None else "***"
        return f"ContainerRegistry(address={self.address!r}, username={self.username!r}, password={hidden!r})"
