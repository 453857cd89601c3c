"""What the objects of the API need of the workspace that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from packager.workspaces.workspace import Workspace as Parts


class Owner(Protocol):
    """A workspace, with its ``parts``: store, registries, builder."""

    @property
    def name(self) -> str:
        """What the workspace is called."""

    @property
    def parts(self) -> Parts:
        """Its parts."""

    @property
    def models(self) -> Mapping[str, Any]:
        """Its models by ``name`` or ``name:version``."""


class Named(Protocol):
    """What is known by ``name:version``, such as a model."""

    @property
    def id(self) -> str:
        """``name:version``."""
