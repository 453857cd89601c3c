"""What serves models by a user's own code: an inference configuration, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packager.inference.entry_script import read_entry_script

if TYPE_CHECKING:
    from packager.environments.environment import Environment
    from packager.inference.entry_script import EntryScript


@dataclass(frozen=True)
class InferenceConfiguration:
    """An entry script with its environment; None for an image that has the server's own packages and no others.

    ``entry_script`` is a path below ``source_directory``, which is shipped whole, or that of a file that is shipped
    alone. ``steps`` are the text of further steps of a Dockerfile.
    """

    entry_script: str
    source_directory: Path | None = None
    environment: Environment | None = None
    steps: str = ""
    description: str | None = None
    enable_gpu: bool = False

    def script(self) -> EntryScript:
        """The script and its folder as they are shipped; raises what ``read_entry_script`` raises."""
        return read_entry_script(self.entry_script, self.source_directory)
