"""Checks tokens once, and caches the valid ones until they expire."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from pathlib import Path
from typing import Any

from edge_server.security import jwt
from edge_server.security.refusals import forbidden, invalid, too_many
from edge_server.security.token_rules import TokenRules, read_rules

# How many tokens are cached; beyond that the least recently used one is dropped and checked again.
REMEMBERED = 1024
# How many wrong signatures plain Python verifies in a second: some hundredths of one core.
WRONG_A_SECOND = 20.0

# RFC 7519 5.1, and RFC 9068 2.1 for tokens of authorization servers.
_TYPES = ("jwt", "at+jwt", "application/at+jwt")


class Tokens:
    """Checks tokens by rules. Only valid ones are cached, by their digest, so that invalid ones cannot fill memory.
    Cheap checks come first. Where verifying is slow, the number of wrong signatures is limited: beyond it, tokens that
    are not cached are refused with 429, and cached ones work as before.
    """

    def __init__(self, rules: TokenRules) -> None:
        self._rules = rules
        self._accepted: OrderedDict[bytes, tuple[float, float]] = OrderedDict()
        self._left = WRONG_A_SECOND
        self._counted = 0.0

    @property
    def files(self) -> tuple[Path, ...]:
        """tokens.json, and the secret."""
        return self._rules.files

    def check(self, credential: bytes, now: float) -> None:
        """Raise BadRequest (401, 403, 429) unless this token is valid at ``now``, seconds since 1970."""
        digest = sha256(credential).digest()
        window = self._accepted.get(digest)
        if window is not None and window[0] <= now < window[1]:
            self._accepted.move_to_end(digest)
            return
        self._accepted[digest] = self._verify(credential, now)
        if len(self._accepted) > REMEMBERED:
            self._accepted.popitem(last=False)

    def _verify(self, credential: bytes, now: float) -> tuple[float, float]:
        """Return from when to when the token is valid."""
        rules = self._rules
        try:
            token = jwt.parse(credential)
        except ValueError as error:
            raise invalid(str(error)) from None
        self._check_header(token.header)
        if rules.issuer is not None and token.claims.get("iss") != rules.issuer:
            raise invalid("the token is from another issuer")
        window = self._window(token.claims, now)
        if rules.slow and not self._may_verify(now):
            raise too_many()
        if not rules.verify(token.signature, token.signed):
            self._left -= 1
            raise invalid("the token's signature is wrong")
        audience = token.claims.get("aud")
        if rules.audience not in (audience if isinstance(audience, list) else [audience]):
            self._left -= 1
            raise forbidden("the token is for another service")
        return window

    def _check_header(self, header: dict[str, Any]) -> None:
        # The algorithm comes from our rules, never from the token (RFC 8725, section 3.1).
        if header.get("alg") != self._rules.algorithm:
            raise invalid(f"the token is not signed by {self._rules.algorithm}")
        # No critical extension is supported (RFC 7515, section 4.1.11).
        if "crit" in header:
            raise invalid("the token needs an extension that this service does not support")
        kind = header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise invalid("the type of the token is not JWT")

    def _window(self, claims: dict[str, Any], now: float) -> tuple[float, float]:
        expires = _time(claims, "exp")
        if expires is None:
            raise invalid("the token has no expiry")
        leeway = self._rules.leeway
        until = expires + leeway
        since = max(_time(claims, "nbf") or 0.0, _time(claims, "iat") or 0.0) - leeway
        if now >= until:
            raise invalid("the token has expired, by the clock of this device")
        if now < since:
            raise invalid("the token is not valid yet, by the clock of this device")
        return since, until

    def _may_verify(self, now: float) -> bool:
        passed, self._counted = now - self._counted, now
        if passed > 0:
            self._left = min(WRONG_A_SECOND, self._left + passed * WRONG_A_SECOND)
        return self._left >= 1


def read_tokens(path: Path) -> Tokens:
    """Read tokens.json; raises as ``read_rules`` does."""
    return Tokens(read_rules(path))


def _time(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise invalid(f"the token's {name} is not a number")
    return float(value)
