"""Where the configuration of a device is: at its usual place, or where ``init`` or ``run`` was given it last."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from edge_agent.config.configuration import CONFIGURATION_FILE, FILE_NAME, STATE_DIR

# In the state folder: leads to a configuration that is not at its usual place.
_LINK = "configuration"


def usual_file(state_dir: Path) -> Path:
    """Where the configuration of the device in ``state_dir`` is unless somebody says otherwise."""
    return CONFIGURATION_FILE if state_dir.absolute() == STATE_DIR else state_dir.absolute() / FILE_NAME


def default_file(state_dir: Path = STATE_DIR) -> Path:
    """Where the configuration of the device in ``state_dir`` is, if it has one: what was remembered, or as usual."""
    with suppress(OSError):  # there is no link, as a rule
        return (state_dir / _LINK).readlink()
    return usual_file(state_dir)


def remember_file(state_dir: Path, file: Path) -> None:
    """Let every command for the device in ``state_dir`` find the configuration ``file``; raises ``OSError``."""
    link, file = state_dir / _LINK, file.absolute()
    if file == default_file(state_dir):
        return
    if file == usual_file(state_dir):
        link.unlink()
        return
    made = link.with_name(f".{_LINK}.{os.getpid()}.tmp")
    made.unlink(missing_ok=True)
    made.symlink_to(file)
    made.replace(link)
