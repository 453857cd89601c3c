"""A router as a value, and its configuration for HAProxy 2.6 and later; pure.

Which version answers is decided by a bucket from 0 to 99: the hash of the caller's header, or a random number without
one. A map says which version a bucket has, and can be exchanged while the router runs. The weights of servers are used
only where the version of a bucket does not answer: then the others share its requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edge_agent.runtimes.haproxy.control import SOCKET
from edge_agent.runtimes.haproxy.process import EMPTY
from edge_agent.state.records import ServiceRecord
from edgepack.state.desired import DesiredService
from edgepack.state.endpoints import DesiredEndpoint

# The files of a router, in its folder, beside those of every process of HAProxy.
BUCKETS = "buckets.map"
# The certificate and, as HAProxy looks for it, its key: links to the files that the endpoint names.
CERTIFICATE = "site.pem"
BACKEND = "versions"
VERSION_HEADER = "x-edgepack-version"
# How often a version is checked, and after how many failures it gets nothing.
_CHECK = "check inter 1s fastinter 200ms fall 2 rise 1"


@dataclass(frozen=True)
class Version:
    """A version of an endpoint: the service ``name``, where it answers, and its share of the requests in percent."""

    name: str
    address: str
    port: int
    share: int

    @property
    def place(self) -> str:
        """Where it answers, as HAProxy writes it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Router:
    """What a router is to do: ``endpoint`` for these ``versions``, those first that are known longest.

    ``health_path`` is where they are asked for their health. ``user`` is what it becomes; ``None`` to stay who it is.
    """

    endpoint: DesiredEndpoint
    versions: tuple[Version, ...]
    health_path: str = "/"
    user: int | None = None

    @property
    def shares(self) -> dict[str, int]:
        """What each version gets, in percent."""
        return {one.name: one.share for one in self.versions}

    @property
    def structure(self) -> str:
        """What identifies all that cannot be changed while it runs."""
        return hashlib.sha256(configuration(replace(self, versions=())).encode()).hexdigest()


def router_of(
    endpoint: DesiredEndpoint,
    records: Mapping[str, ServiceRecord],
    specs: Mapping[str, DesiredService],
    user: int | None = None,
) -> Router:
    """The router of ``endpoint`` on a device with these services; ``specs`` are those that are still to come.

    A version of which nothing is known is left out, and its share goes to the default version.
    """
    known = {**specs, **{name: record.current.spec for name, record in records.items()}}
    here = {name: known[name] for name in endpoint.weights if name in known}
    shares = replace(endpoint, weights={name: endpoint.weights[name] for name in here}).shares
    versions = tuple(Version(name, spec.address, spec.port, shares[name]) for name, spec in here.items())
    path = here[endpoint.default].health_path if endpoint.default in here else "/"
    return Router(endpoint, versions, path, user)


def configuration(router: Router) -> str:
    """The file that HAProxy reads at its start."""
    one = router.endpoint
    host = f"[{one.host}]" if ":" in one.host else one.host
    tls = "" if one.tls is None else f" ssl crt {CERTIFICATE} ssl-min-ver TLSv1.2 alpn http/1.1"
    user = [] if router.user is None else [f"uid {router.user}", f"gid {router.user}", f"chroot {EMPTY}"]
    found = {
        "global": [
            f"stats socket unix@{SOCKET} mode 600 level admin expose-fd listeners", "stats timeout 1m", "nbthread 1",
            "maxconn 1000", "no strict-limits", "hard-stop-after 1h", *user,
        ],
        "defaults": [
            "mode http", "option forwardfor", "option redispatch 1", "retries 2",
            # Scoring may be repeated: a version that ended without a word is not the last that is asked.
            "retry-on conn-failure empty-response",
            "timeout connect 2s", "timeout client 1h", "timeout server 1h", "timeout http-request 1m",
            "timeout http-keep-alive 1m", f"timeout queue {round(one.queue_seconds * 1000)}ms",
        ],
        f"frontend {one.name}": [
            f"bind {host}:{one.port}{tls}",
            f"http-request set-var(txn.bucket) req.hdr({one.caller_header}),xxh32(0),mod(100) "
            f"if {{ req.hdr({one.caller_header}) -m found }}",
            f"http-request set-var(txn.bucket) rand(100) if !{{ req.hdr({one.caller_header}) -m found }}",
            f"http-request set-var(txn.version) var(txn.bucket),map({BUCKETS})",
            f"default_backend {BACKEND}",
        ],
        f"backend {BACKEND}": [
            "balance roundrobin", "http-reuse safe", f"option httpchk GET {_quoted(router.health_path)}",
            "http-check expect status 200", f"http-response set-header {VERSION_HEADER} %s",
            "use-server %[var(txn.version)] if TRUE",
            *(f"server {version.name} {server(version, one)}" for version in router.versions),
        ],
    }  # fmt: skip
    lines = [line for part, words in found.items() for line in (part, *(f"  {word}" for word in words), "")]
    return "\n".join(lines)


def server(version: Version, endpoint: DesiredEndpoint) -> str:
    """How HAProxy is told of a version, in its file and while it runs."""
    most = "" if endpoint.max_connections is None else f" maxconn {endpoint.max_connections}"
    return f"{version.place} {_CHECK} weight {version.share}{most}"


def _quoted(path: str) -> str:
    """A path of a request as a word of HAProxy's: nothing in it is expanded."""
    return "'" + path.replace("'", "'\\''") + "'"


def buckets(shares: Mapping[str, int], before: Mapping[int, str] | None = None) -> dict[int, str]:
    """Which version each bucket has. Of those ``before`` as many stay where they are as can: callers keep theirs.

    ``shares`` are 100 together, or nothing where there is no version.
    """
    left, found = dict(shares), dict[int, str]()
    for bucket, name in sorted((before or {}).items()):
        if left.get(name, 0) > 0 and 0 <= bucket < 100:
            found[bucket] = name
            left[name] -= 1
    free = iter(bucket for bucket in range(100) if bucket not in found)
    for name, count in left.items():
        found |= {bucket: name for _, bucket in zip(range(count), free, strict=False)}
    return dict(sorted(found.items()))


def write_buckets(found: Mapping[int, str]) -> str:
    """The file of the map."""
    return "".join(f"{bucket} {name}\n" for bucket, name in found.items())


def read_buckets(text: str) -> dict[int, str]:
    """What the file of a map says; lines that are none of ours are passed over."""
    pairs = (line.split() for line in text.splitlines())
    return {int(pair[0]): pair[1] for pair in pairs if len(pair) == 2 and pair[0].isdecimal()}
