"""Giving what this device holds to others of its site: a read-only registry over the store.

It gives what is here and never fetches for somebody else, so that devices which ask each other go round in no circle.
Whoever reaches the port can read every image; whoever fetches one verifies it as from anywhere.
"""

from __future__ import annotations

import logging
import signal
from pathlib import Path

from edge_agent.config.configuration import Share
from edge_agent.device import STORE
from edgepack.oci.reference import is_loopback
from edgepack.oci.serve import serve
from edgepack.oci.store import Store

_log = logging.getLogger(__name__)
# A device has services to run; whoever comes beyond these asks again, or somebody else.
_MOST_CONNECTIONS = 16


def share(state_dir: Path, given: Share) -> None:
    """Serve the store of the device in ``state_dir`` until SIGTERM or SIGINT comes.

    To be called by the main thread of a process that does nothing else. Raises ``UsageError`` for an address or a port
    that cannot be had.
    """
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    store = Store.create(state_dir / STORE)
    remote = not is_loopback(given.address)
    with serve(store, given.address, given.port, allow_remote=remote, most_connections=_MOST_CONNECTIONS) as port:
        _log.info("sharing %s on %s, port %d", store.root, given.address, port)
        signal.sigwait(signals)
