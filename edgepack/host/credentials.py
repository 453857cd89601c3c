"""What one logs in to an image registry with: the one object for it, which shows nothing of what is secret."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn, final

from edgepack.hidden import MASK, HiddenText


@final
class Credentials:
    """A user name and password, or an identity token (an OAuth2 refresh token) in place of both.

    ``source`` says where they are from, as a user knows it. Two are equal when what they log in with is. What is secret
    is had from the attributes ``password``, ``identity_token`` and ``basic`` alone: whatever prints, copies or dumps
    the object has ``***`` for it, and it cannot be pickled.
    """

    __slots__ = ("_identity_token", "_password", "source", "username")

    username: str
    source: str
    _password: HiddenText
    _identity_token: HiddenText

    def __init__(self, username: str = "", password: str = "", identity_token: str = "", *, source: str = "") -> None:
        for name, value in (
            ("username", username), ("source", source),
            ("_password", HiddenText(password)), ("_identity_token", HiddenText(identity_token)),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    @property
    def password(self) -> HiddenText:
        """The password; empty where there is an identity token."""
        return self._password

    @property
    def identity_token(self) -> HiddenText:
        """The identity token, or an empty text."""
        return self._identity_token

    @property
    def secrets(self) -> tuple[HiddenText, ...]:
        """What of it must get into nothing that is written."""
        return tuple(one for one in (self.password, self.identity_token) if one)

    @property
    def basic(self) -> HiddenText:
        """The value of a Basic Authorization header (RFC 7617)."""
        return HiddenText("Basic " + self.encoded)

    @property
    def encoded(self) -> HiddenText:
        """``user:password`` in base64, as Docker's ``config.json`` has it."""
        return HiddenText(base64.b64encode(f"{self.username}:{self.password}".encode()).decode())

    def known_from(self, source: str) -> Credentials:
        """The same, with where they are from."""
        return Credentials(self.username, self.password, self.identity_token, source=source)

    def __repr__(self) -> str:
        shown = [f"username={self.username!r}"] if self.username else []
        shown += [f"password={MASK}"] if self.password else []
        shown += [f"identity_token={MASK}"] if self.identity_token else []
        shown += [f"source={self.source!r}"] if self.source else []
        return f"Credentials({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Credentials):
            return NotImplemented
        return self._value() == other._value()

    def __hash__(self) -> int:
        return hash(self._value())

    def _value(self) -> tuple[str, str, str]:
        return self.username, self.password, self.identity_token

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("credentials do not change")

    def __copy__(self) -> Credentials:
        return self

    def __deepcopy__(self, memo: object) -> Credentials:
        return self

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError("credentials cannot be pickled")


@final
class PullToken:
    """A bearer token that a registry gave for reading; ``expires`` is on this machine's clock.

    It shows as little as ``Credentials`` do.
    """

    __slots__ = ("expires", "scopes", "value")

    def __init__(self, value: str, scopes: tuple[str, ...], expires: datetime) -> None:
        self.value = HiddenText(value)
        self.scopes = scopes
        self.expires = expires

    def __repr__(self) -> str:
        return f"PullToken({MASK}, {self.scopes!r}, {self.expires!r})"

    def __copy__(self) -> PullToken:
        return self

    def __deepcopy__(self, memo: object) -> PullToken:
        return self

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError("credentials cannot be pickled")


# Gives the credentials for a registry (``host[:port]`` as in a reference), or None for anonymous access.
CredentialLookup = Callable[[str], Credentials | None]


def anonymous(registry: str) -> Credentials | None:
    """No credentials for anybody."""
    return None
