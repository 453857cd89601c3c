"""The file that ``edge-agent init`` writes: what is set, and as comments what else there is."""

from __future__ import annotations

import json
from pathlib import Path

_HEAD = """\
# The configuration of edge-agent. Its reference: docs/reference/edge-agent.md
schema: edgepack.agent/v1
"""
_REST = """\
# A password is not kept here: write it alone into a file of mode 0600, and name that.

# Where images come from, in this order. What is here already needs none of them.
#sources:
#  - folder: /media/stick
#  - neighbour: http://10.0.0.7:5000
#  - registry: registry.example/factory

# How fast everything is downloaded, and when.
#bandwidth:
#  bytes_per_second: 1000000
#  windows: [{days: [sat, sun], from: 00:00, to: 24:00}]

# When a service may be exchanged for another version.
#updates:
#  windows: [{from: 22:00, to: 06:00}]
#  lock_file: /run/production.lock
#  power: mains

# Serve the device's own store to its neighbours, read-only.
#share: {port: 5000}
"""
_BROKER = """\
broker:
  url: %s
"""
_NO_BROKER = """\
# Without a broker, documents and bundles come from the folder "inbox" in the state folder, or from these.
#inbox: [/media/stick]
#broker:
#  url: mqtts://broker.example:8883
#  ca_file: /etc/edge-agent/ca.pem
#  user: %s
#  password_file: /etc/edge-agent/password

"""
_TLS = ("ca_file", "certificate_file", "key_file")


def template(
    device: str,
    groups: tuple[str, ...],
    state_dir: Path,
    runtime: str,
    broker: str | None,
    **fields: str | Path | None,
) -> str:
    """A configuration of the device; ``broker`` is an address, ``fields`` are those of the broker beside it."""
    lines = [_HEAD, f"device: {_quoted(device)}\n"]
    if groups:
        lines.append(f"groups: [{', '.join(map(_quoted, groups))}]\n")
    lines.append("# Commands need this folder too: edge-agent --state-dir DIR, or EDGEPACK_STATE_DIR.\n")
    lines.append(f"state_dir: {_quoted(str(state_dir))}\n")
    if runtime != "auto":
        lines.append(f"runtime: {runtime}\n")
    lines.append("\n")
    if broker is None:
        lines.append(_NO_BROKER % device)
    else:
        lines.append(_BROKER % _quoted(broker))
        lines += [f"  {key}: {_quoted(str(value))}\n" for key, value in fields.items() if value is not None]
        examples = {
            "ca_file": "/etc/edge-agent/ca.pem", "certificate_file": "/etc/edge-agent/device.pem",
            "key_file": "/etc/edge-agent/device.key", "user": device, "password_file": "/etc/edge-agent/password",
        }  # fmt: skip
        for key, example in examples.items():
            if fields.get(key) is None and (broker.startswith("mqtts:") or key not in _TLS):
                lines.append(f"#  {key}: {example}\n")
        lines.append("\n")
    return "".join([*lines, _REST])


def _quoted(text: str) -> str:
    """``text`` for YAML, in quotes where it could be read as something else."""
    plain = text[:1].isalpha() and all(char.isalnum() or char in "./-_" for char in text) and text.isascii()
    words = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
    return text if plain and text.lower() not in words else json.dumps(text)
