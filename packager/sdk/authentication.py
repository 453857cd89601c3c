"""Azure's logins, by their names: a workspace of this machine needs none, so what they are given is not kept."""

from __future__ import annotations

__all__ = [
    "AzureCliAuthentication",
    "InteractiveLoginAuthentication",
    "MsiAuthentication",
    "ServicePrincipalAuthentication",
]


class _Login:
    """Takes whatever it is given, and keeps nothing of it."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Credentials are passed over."""


class AzureCliAuthentication(_Login):
    """A login by Azure's command."""


class InteractiveLoginAuthentication(_Login):
    """A login by a person."""


class MsiAuthentication(_Login):
    """A login by a machine's identity."""


class ServicePrincipalAuthentication(_Login):
    """A login by a program's identity."""
