"""Requests to one registry: authentication put on, refusals turned into errors."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from edgepack.errors import AuthenticationError, EdgepackError, NotFoundError, RegistryError, RegistryUnavailableError
from edgepack.host.credentials import CredentialLookup
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.reference import Reference
from edgepack.oci.remote.auth import Authorizer
from edgepack.oci.remote.origin import NO_REGISTRY, Origin, joined
from edgepack.oci.remote.transport import NEVER, Http, Policy, Response

# distribution-spec, "Error Codes": "the code field MUST be … uppercase alphabetic and underscore".
_CODE = re.compile(r"[A-Z_]{1,64}")
# What registries say that do not know HEAD, or a redirect's target whose address was signed for GET.
_NO_HEAD = frozenset({400, 403, 405, 501})


class Session:
    """A registry as one repository's client sees it, for several threads at once."""

    def __init__(self, reference: Reference, policy: Policy, credentials: CredentialLookup) -> None:
        self.reference = reference
        self.policy = policy
        self.http = Http(reference, policy)
        self._credentials = credentials
        self._closed: frozenset[str] = frozenset()
        self._lock = threading.RLock()
        # How much of a blob is sent at once, and whether in a connection of its own: learnt from those that break.
        self.chunk = policy.chunk
        self.one_request_each = False

    @property
    def base(self) -> str:
        """The registry's address, without a path."""
        with self._lock:
            return self.http.base

    @property
    def authorizer(self) -> Authorizer:
        """What answers the registry's 401."""
        with self._lock:
            return self._made_authorizer

    @cached_property
    def _made_authorizer(self) -> Authorizer:
        return Authorizer(self.http, self.reference.registry, Origin.of(self.base), self._credentials)

    def url(self, path: str) -> str:
        """The address of ``path`` below ``/v2/<repository>/``."""
        return f"{self.base}/v2/{self.reference.repository}/{path}"

    @staticmethod
    def absolute(location: str, response: Response) -> str:
        """The Location of ``response`` as an absolute address, its query untouched."""
        return joined(response.url, location)

    def mount(self, path: str, repository: str) -> Response | None:
        """Ask for a blob of ``repository`` to be mounted by a POST to ``path``, with the right to read there.

        ``None``, also for every later one, when that right is not given: what may be done otherwise stays as it was.
        """
        if repository in self._closed:
            return None
        scope = f"repository:{repository}:pull"
        try:
            response = self.send("POST", self.url(path), {"Content-Length": "0"}, further=frozenset({scope}))
        except AuthenticationError:
            response = None
        if response is None or response.status in (401, 403):
            self._closed |= {repository}
            self.authorizer.forget(scope)
        return response

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Callable[[], Iterable[bytes]] | None = None,
        *,
        retry: bool = True,
        further: frozenset[str] = frozenset(),
    ) -> Response:
        """Send a request, answering a 401 once; the answer has any other status.

        A body that is a function is called for each sending and is not sent again after a busy answer. ``further`` are
        scopes to ask for beside those of the repository. Raises ``AuthenticationError`` and
        ``RegistryUnavailableError``.
        """
        scopes = self._scopes(method, url) | further
        for last in (False, True):
            sent = dict(headers or {})
            authorization = self.authorizer.header(url, scopes)
            if authorization is not None:
                sent["Authorization"] = authorization
            data = body if body is None or isinstance(body, bytes) else body()
            response = self.http.send(method, url, sent, data, retry=retry)
            challenge = response.headers.get("WWW-Authenticate")
            ours = Origin.of(response.url) == Origin.of(self.base)
            if response.status != 401 or challenge is None or last or not ours:
                return response
            response.close()
            self.authorizer.answer(challenge, scopes)
        raise AssertionError("unreachable: the last sending returns or raises")

    def _scopes(self, method: str, url: str) -> frozenset[str]:
        repository = self.reference.repository
        if method in ("GET", "HEAD") and "/blobs/uploads/" not in url:
            return frozenset({f"repository:{repository}:pull"})
        return frozenset({f"repository:{repository}:pull,push"})

    def expect(self, response: Response, *statuses: int, what: str) -> Response:
        """``response`` when its status is one of ``statuses``; raises the error that belongs to any other.

        ``what`` names the thing asked for, as in "blob sha256:…".
        """
        if response.status in statuses:
            return response
        raise self.error(response.status, error_code(response), what)

    def has_answered(self, response: Response, descriptor: Descriptor, what: str, get: Callable[[], Response]) -> bool:
        """Whether a HEAD's ``response`` says that the registry has ``descriptor``, with its size.

        Where a registry does not know HEAD, or the place that it redirects to does not, ``get`` asks by GET.
        """
        response.close()
        if response.status in _NO_HEAD:
            response = get()
            response.close()
        if response.status == 404:
            return False
        self.expect(response, 200, what=what)
        return response.headers.get("Content-Length", str(descriptor.size)) == str(descriptor.size)

    def error(self, status: int, code: str, what: str) -> EdgepackError:
        """The error for an answer with that status and code to a request for ``what``."""
        registry, where, code = self.reference.registry, self.reference.name, f" {code}" if code else ""
        if status in (401, 403):
            verb = "requires credentials for" if status == 401 else "does not allow"
            return AuthenticationError(
                f"the registry {registry} {verb} {what} ({status}{code})",
                where=where,
                hint=f"run `docker login {registry}` with a user who may",
            )
        if status == 404:
            return NotFoundError(f"the registry has no {what} (404{code})", where=where, hint="check the name")
        answered = f"the registry {registry} answered {status}{code} for {what}"
        if status == 429 or (status >= 500 and status not in NEVER):
            return RegistryUnavailableError(answered, where=where, hint="try again later")
        return RegistryError(answered, where=where, hint=self._way_out(status, code))

    def _way_out(self, status: int, code: str) -> str:
        if status == 413:
            return "let it, or the proxy before it, take larger requests (nginx: client_max_body_size 0)"
        if status < 400 or status in (405, *NEVER):
            return NO_REGISTRY
        if status == 400 and not code and self.base.startswith("http:"):
            return "if it has TLS, name the file of its authority with --ca"
        return "see the registry's log"


def error_code(response: Response) -> str:
    """The first code of a registry's error, or nothing; its free text could hold anything and is not repeated."""
    try:
        errors = json.loads(response.read(LIMITS.error_bytes))["errors"]
        code = errors[0]["code"]
    except (EdgepackError, ValueError, KeyError, IndexError, TypeError, RecursionError):
        return ""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""
