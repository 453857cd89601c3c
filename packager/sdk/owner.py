"""What the objects of the API need of the workspace that they belong to."""

from __future__ import annotations

from typing import Protocol

from packager.workspaces.workspace import Workspace as Parts


class Owner(Protocol):
    """A workspace, with its ``parts``: store, registries, builder."""

    @property
    def name(self) -> str:
        """What the workspace is called."""

    @property
    def parts(self) -> Parts:
        """Its parts."""
