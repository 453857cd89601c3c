"""What to type after the demo: commands that work as they are printed, once the words in capitals are replaced."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from packager.demo import START


def next_steps(folder: Path | None) -> list[str]:
    """The lines to print; ``folder`` is where the demo's files were kept, None where they were removed."""
    lines = ["Next:", *_commands_on_path()]
    if folder is not None:
        device = shlex.join(["edge-agent", "--state-dir", str(folder / "device")])
        lines += [
            f"  {device} apply {shlex.quote(str(folder / START))}",
            f"  {device} status    # with the URL of the service, which has a page to try it at /docs",
        ]
    else:
        lines.append("  edgepack demo --folder DIR    # the same again, and keeps everything to look at")
    return [
        *lines,
        "  edgepack model register -n NAME -p MODEL_FILE --sample-input ROWS.csv",
        "  edgepack model convert -m NAME --report report.html",
        "  edgepack package build -m NAME -t NAME:1",
        "  edgepack help",
    ]


def _commands_on_path() -> list[str]:
    """The line that puts the commands on the path, where they are not there already."""
    own = Path(sys.executable).parent
    found = shutil.which("edgepack")
    if found is not None and Path(found).parent == own:
        return []
    activate = own / "activate"
    if activate.is_file():
        return [f"  . {shlex.quote(str(activate))}    # puts the commands on the path"]
    return [f'  export PATH={shlex.quote(str(own))}:"$PATH"    # puts the commands on the path']
