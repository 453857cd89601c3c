"""Answering a registry's 401: Basic, or a Bearer token from the realm that it names.

Follows the token authentication of the distribution project (docs/spec/auth/token.md and oauth.md).
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote, urlencode

from edgepack.errors import AuthenticationError, RegistryError
from edgepack.hidden import HiddenBytes, HiddenObject, HiddenText
from edgepack.host.credentials import CredentialLookup, Credentials
from edgepack.limits import LIMITS
from edgepack.oci.reference import is_loopback
from edgepack.oci.remote.origin import Origin, joined
from edgepack.oci.remote.transport import Http

# token.md: "for compatibility with older clients, a token should never be returned with less than 60 seconds to live".
_DEFAULT_SECONDS = 60
# More than a token that anybody issues, and what a date can still be made of.
_LONGEST_SECONDS = 10 * 365 * 86400
# What may stand in a header; anything else would end up in the message of a lower library's error.
_TOKEN = re.compile(r"[\x21-\x7e]+")
_CHALLENGE = re.compile(
    r'(?P<name>[A-Za-z0-9!#$%&\'*+.^_`|~-]+)(?:\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]*))|(?=[\s,]|$))'
)


@dataclass(frozen=True)
class Challenge:
    """One challenge of a WWW-Authenticate header; scheme and parameter names in lower case."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Token:
    """A bearer token, how long it lives, and when, on the clock of the one who asked, it is no longer used."""

    value: str = field(repr=False)
    stale: float
    seconds: float = 0


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """The challenges of a WWW-Authenticate header (RFC 9110, 11.6.1); what cannot be parsed is passed over."""
    found: list[tuple[str, dict[str, str]]] = []
    for match in _CHALLENGE.finditer(header):
        quoted, plain = match["quoted"], match["plain"]
        if quoted is None and plain is None:
            found.append((match["name"].lower(), {}))
        elif found:
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            found[-1][1].setdefault(match["name"].lower(), value)
    return tuple(Challenge(scheme, parameters) for scheme, parameters in found)


class Authorizer:
    """What to send as Authorization to one registry, learnt from its challenges.

    Looks credentials up only when the registry asks for them, and again when they are refused: those of a helper or a
    file may have been exchanged since. For several threads at once.
    """

    def __init__(
        self,
        http: Http,
        registry: str,
        origin: Origin,
        lookup: CredentialLookup,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._registry = registry
        self._origin = origin
        self._lookup = lookup
        self._clock = clock
        self._looked_up = False
        self._lock = threading.RLock()
        self._credentials: Credentials | None = None
        self._challenge: Challenge | None = None
        self._challenge_scopes: frozenset[str] = frozenset()
        self._tokens: dict[frozenset[str], Token] = {}

    def header(self, url: str, scopes: frozenset[str]) -> HiddenText | None:
        """The Authorization value for ``url``, or ``None`` for another origin or when nothing was asked yet.

        Fetches a token when the one at hand is about to expire; raises what ``answer`` raises.
        """
        with self._lock:
            if self._challenge is None or Origin.of(url) != self._origin:
                return None
            if self._challenge.scheme == "basic":
                return None if self._credentials is None else self._credentials.basic
            for known, token in self._tokens.items():
                if scopes <= known and self._clock() < token.stale:
                    return _bearer(token)
            token = self._fetch(self._challenge, scopes | self._challenge_scopes)
            self._tokens[scopes] = token
            return _bearer(token)

    @property
    def scheme(self) -> Literal["none", "basic", "bearer"]:
        """What the registry asked for, if anything."""
        return "none" if self._challenge is None else "basic" if self._challenge.scheme == "basic" else "bearer"

    @property
    def used(self) -> Credentials | None:
        """The credentials that were looked up, if the registry asked for any."""
        return self._credentials

    def token(self, scopes: frozenset[str]) -> Token | None:
        """A token for exactly ``scopes``, where the challenge that was answered asks for one; raises as ``answer``."""
        if self._challenge is None or self._challenge.scheme != "bearer":
            return None
        return self._fetch(self._challenge, scopes)

    def answer(self, header: str, scopes: frozenset[str]) -> None:
        """As ``_answer``, for one thread at a time."""
        with self._lock:
            self._answer(header, scopes)

    def forget(self, scope: str) -> None:
        """Ask for ``scope`` no more where nobody needs it: the registry named it, and it is not given."""
        with self._lock:
            self._challenge_scopes -= {scope}

    def _answer(self, header: str, scopes: frozenset[str]) -> None:
        """Take the challenge of a 401, and fetch the token for ``scopes`` that it asks for.

        Raises ``AuthenticationError`` when it cannot be answered; what was learnt before is kept then, so that a
        refusal of one thing does not spoil the access to others.
        """
        challenges = parse_challenges(header)
        bearer = next((one for one in challenges if one.scheme == "bearer" and "realm" in one.parameters), None)
        basic = next((one for one in challenges if one.scheme == "basic"), None)
        challenge = bearer or basic
        if challenge is None:
            raise AuthenticationError(
                "asks for a kind of authentication that is not known", where=self._registry,
                hint="let it ask for Basic or Bearer",
            )  # fmt: skip
        # A registry that took them before, and asks again, takes them no more.
        credentials = self._load(anew=self._challenge is not None and self._challenge.scheme == "basic")
        if challenge.scheme == "basic" and (credentials is None or credentials.identity_token):
            raise self._refused("asks for a user name and password, and none are stored")
        # A registry may name its repositories otherwise than we do, so what it asks for is asked for too.
        asked = frozenset(bearer.parameters.get("scope", "").split()) if bearer else frozenset()
        tokens = {scopes: self._fetch(challenge, scopes | asked)} if bearer else {}
        self._challenge, self._challenge_scopes, self._tokens = challenge, asked, tokens

    def _load(self, *, anew: bool = False) -> Credentials | None:
        if anew or not self._looked_up:
            self._credentials = self._lookup(self._registry)
            self._looked_up = True
        if self._credentials is not None and not self._origin.private:
            raise RegistryError("credentials are not sent without TLS", where=self._origin, hint="give it TLS")
        return self._credentials

    def _refused(self, what: str) -> AuthenticationError:
        return AuthenticationError(what, where=self._registry, hint=f"run `docker login {self._registry}`")

    def _fetch(self, challenge: Challenge, scopes: frozenset[str]) -> Token:
        known = self._looked_up
        credentials = self._load()
        try:
            return self._asked(challenge, scopes, credentials)
        except AuthenticationError:
            newer = self._load(anew=known)
            if newer == credentials:
                raise
            return self._asked(challenge, scopes, newer)

    def _asked(self, challenge: Challenge, scopes: frozenset[str], credentials: Credentials | None) -> Token:
        # A realm should be absolute; a relative one can only mean the registry itself.
        realm = joined(f"{self._origin}/", challenge.parameters["realm"])
        target = Origin.of(realm)
        if target.scheme == "http" and is_loopback(target.host) and not is_loopback(self._origin.host):
            raise RegistryError("names a token service on this machine", where=self._registry, hint="do not trust it")
        asked = [("service", challenge.parameters["service"])] if "service" in challenge.parameters else []
        if credentials is not None and not target.private:
            raise RegistryError("names a token service without TLS; credentials are not sent", where=self._registry)
        started = self._clock()
        if credentials is not None and credentials.identity_token:
            data = _exchange(credentials, scopes, asked)
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(data))}
            # As an iterator the body is sent once: one with a secret must not follow a redirect.
            response = self._http.send("POST", realm, headers, iter([data]))
        else:
            query = urlencode([*asked, *(("scope", scope) for scope in sorted(scopes))], quote_via=quote, safe=":/,")
            headers = {} if credentials is None else {"Authorization": credentials.basic}
            url = f"{realm}{'&' if '?' in realm else '?'}{query}" if query else realm
            response = self._http.send("GET", url, headers)
        body = HiddenBytes(response.read(LIMITS.token_bytes))
        if response.status in (400, 401, 403):
            what = "asks for credentials, and none are stored" if credentials is None else "refused the credentials"
            raise self._refused(what)
        if response.status != 200:
            raise RegistryError(f"the token service answered {response.status}", where=target, hint="try again")
        return self._token(body, started)

    def _token(self, body: bytes, started: float) -> Token:
        value, seconds = _answered(body)
        if value is None:
            raise RegistryError("its token service gave no token", where=self._registry, hint="try again")
        # Early enough that a request on its way does not outlive it. Its issued_at is on another clock than ours.
        return Token(value, started + seconds - min(10.0, seconds * 0.2), seconds)


def _bearer(token: Token) -> HiddenText:
    return HiddenText(f"Bearer {token.value}")


def _exchange(credentials: Credentials, scopes: frozenset[str], asked: list[tuple[str, str]]) -> HiddenBytes:
    """The form that exchanges an identity token for a bearer token."""
    form = [
        ("grant_type", "refresh_token"), ("refresh_token", credentials.identity_token),
        ("client_id", "edgepack"), ("scope", " ".join(sorted(scopes))), *asked,
    ]  # fmt: skip
    return HiddenBytes(urlencode(form).encode())


def _answered(body: bytes) -> tuple[HiddenText | None, float]:
    """The token that a service answered, and its seconds; ``None`` for an answer without one."""
    try:
        answer = json.loads(body, object_hook=HiddenObject)
    except (ValueError, RecursionError):
        return None, 0
    value = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        return None, 0
    seconds = answer.get("expires_in")
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 < seconds < _LONGEST_SECONDS:
        seconds = _DEFAULT_SECONDS
    return HiddenText(value), float(seconds)
