"""What serves models by a user's own code: an inference configuration, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import UsageError
from packager.inference.entry_script import read_entry_script
from packager.layers.ignore import IGNORE_FILE

if TYPE_CHECKING:
    from edgepack.host.credentials import Credentials
    from packager.environments.environment import Environment
    from packager.inference.entry_script import EntryScript


@dataclass(frozen=True)
class BaseLogin:
    """What logs in to the registry of a base image, at ``address``; what shows it shows no password."""

    address: str
    credentials: Credentials


@dataclass(frozen=True)
class InferenceConfiguration:
    """An entry script with its environment; None for an image that has the server's own packages and no others.

    ``entry_script`` is a path below ``source_directory``, which is shipped whole, or that of a file that is shipped
    alone. ``steps`` are the text of further steps of a Dockerfile. ``file`` is where it was read from.
    """

    entry_script: str
    source_directory: Path | None = None
    environment: Environment | None = None
    steps: str = ""
    description: str | None = None
    enable_gpu: bool = False
    base_login: BaseLogin | None = None
    file: Path | None = None

    def script(self) -> EntryScript:
        """The script and its folder as they are shipped.

        Raises what ``read_entry_script`` raises, and ``UsageError`` when the configuration itself would be shipped with
        a password in it.
        """
        found = read_entry_script(self.entry_script, self.source_directory)
        if self.base_login is not None and self.file is not None and self.source_directory is not None:
            own, folder = self.file.resolve(), self.source_directory.resolve()
            if own.is_relative_to(folder):
                path = f"{found.folder}/{own.relative_to(folder)}"
                if any(entry.path == path for entry in found.entries):
                    raise UsageError(
                        "holds a password and lies in the source directory, so it would be shipped",
                        where=self.file,
                        hint=f"list it in {self.source_directory / IGNORE_FILE}, or use docker login instead",
                    )
        return found
