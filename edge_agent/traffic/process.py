"""The process of an endpoint's router, and the files that it is started with."""

from __future__ import annotations

from pathlib import Path

from edge_agent.runtimes.haproxy.process import CONFIGURATION, EMPTY, HaproxyProcess
from edge_agent.traffic.control import RouterControl
from edge_agent.traffic.router import BUCKETS, CERTIFICATE, Router, configuration
from edgepack.host.files import atomic_write, make_dirs


class RouterProcess(HaproxyProcess):
    """The router in ``folder``; ``name`` is its endpoint's."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, f"endpoint {name}")
        self.control: RouterControl = RouterControl(folder)

    def write(self, router: Router, buckets: str) -> None:
        """Write the files that the router is started with."""
        folder = self.folder
        make_dirs(folder, 0o700)
        make_dirs(folder / EMPTY, 0o755)
        atomic_write(folder / BUCKETS, buckets.encode(), 0o600)
        tls = router.endpoint.tls
        for file, name in (("", CERTIFICATE), (".key", f"{CERTIFICATE}.key")):
            link = folder / name
            link.unlink(missing_ok=True)
            if tls is not None:
                link.symlink_to(tls.key if file else tls.certificate)
        atomic_write(folder / CONFIGURATION, configuration(router).encode(), 0o600)
