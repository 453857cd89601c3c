"""``Image``: what ``workspace.build`` makes."""

from __future__ import annotations

from dataclasses import dataclass

from packager.exceptions import translated
from packager.sdk.owner import Owner


@dataclass(frozen=True)
class Image:
    """An image in the workspace's store: its tag, digest, and the platforms that it is for."""

    workspace: Owner
    tag: str
    digest: str
    platforms: tuple[str, ...]
    size: int

    @translated
    def push(self, to: str) -> str:
        """Copy it to a place, such as ``registry.example/team/churn:1`` or ``docker-archive:churn.tar``."""
        from packager.places.table import find_destination

        store = self.workspace.parts.store
        find_destination(to).send(store, self.tag, self.workspace.parts.image(self.tag))
        return to

    @translated
    def delete(self) -> None:
        """Remove its tag; its disk is given back by ``edgepack workspace gc``."""
        self.workspace.parts.image(self.tag)
        self.workspace.parts.store.untag([self.tag])
