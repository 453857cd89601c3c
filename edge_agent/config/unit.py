"""The systemd unit of the agent: written by ``edge-agent init --systemd``, checked where systemd is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgepack.errors import EdgepackError
from edgepack.host.scratch import scratch_folder

UNIT = "edge-agent.service"
SYSTEM_FOLDER = Path("/etc/systemd/system")
USER_FOLDER = Path(".config/systemd/user")
"""Where units of a user are, below the user's home."""
WATCHDOG_SECONDS = 60
_TEXT = """\
[Unit]
Description=edge-agent: runs signed scoring services on this device
# Services are started again without a network, so the agent waits for none.
After=network.target docker.service podman.socket
# Before these are mounted it would find a device without services.
RequiresMountsFor={needed}
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
# Services stay up while the agent is stopped, restarted or exchanged; it finds them again.
KillMode=process
Restart=always
RestartSec=2
WatchdogSec={watchdog}
TimeoutStartSec=300
# A service that is killed for lack of memory is no reason to end the agent.
OOMPolicy=continue
OOMScoreAdjust=-500

[Install]
WantedBy={target}
"""


def unit_text(command: Sequence[str], needed: Sequence[Path], *, for_user: bool) -> str:
    """The unit that runs ``command``, once the file systems of the absolute paths ``needed`` are mounted."""
    # A program's own path may not hold these, and an argument may.
    through = ["/usr/bin/env"] if set(command[0]) & set("'\"\\$") else []
    words = " ".join(_quoted(word) for word in [*through, *command])
    text = _TEXT.format(
        command=words,
        needed=" ".join(_quoted(str(path)).replace("$$", "$") for path in needed),
        watchdog=WATCHDOG_SECONDS,
        target="default.target" if for_user else "multi-user.target",
    )
    # A user may not make what is theirs less likely to be killed.
    return text.replace("OOMScoreAdjust=-500\n", "") if for_user else text


def _quoted(word: str) -> str:
    """``word`` as systemd reads it (systemd.service(5), "Command lines")."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if escaped == word and word and not set(word) & set(" \t'") else f'"{escaped}"'


def check_unit(text: str, *, for_user: bool) -> bool:
    """Whether ``systemd-analyze`` is here and has checked ``text``; raises ``EdgepackError`` with what it refuses."""
    program = shutil.which("systemd-analyze")
    if program is None:
        return False
    with scratch_folder("unit") as folder:
        path = folder / UNIT
        path.write_text(text)
        argv = [program, *(["--user"] if for_user else []), "verify", str(path)]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, errors="replace", timeout=60, check=False,
                env={"XDG_RUNTIME_DIR": str(folder), **os.environ},  # without which nothing of a user is checked
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return False
    ours = [line for line in done.stderr.splitlines() if UNIT in line]
    if done.returncode != 0 and ours:
        raise EdgepackError(" ".join(ours)[:500], where=UNIT, hint="systemd refused the unit; report this")
    return done.returncode == 0
