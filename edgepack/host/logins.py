"""Where ``docker login`` and ``podman login`` keep what they were told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def login_files(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The files, which need not exist, in the order in which they are asked: Docker's, then Podman's.

    Podman's are that of ``REGISTRY_AUTH_FILE`` alone, or one that lasts until the user logs out of the machine and one
    that stays (containers-auth.json(5)). Without a home the paths in it name nothing.
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - never fails
    docker = Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
    named = environment.get("REGISTRY_AUTH_FILE")
    if named:
        return (docker, Path(named))
    passing = environment.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}"
    lasting = environment.get("XDG_CONFIG_HOME") or home / ".config"
    return (docker, *(Path(folder) / "containers/auth.json" for folder in (passing, lasting)))
