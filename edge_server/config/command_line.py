"""Command lines whose errors are one sentence, as those of the other commands are."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn


class CommandLine(argparse.ArgumentParser):
    """A parser that takes options by their whole names only, so that a mistyped one is never taken for another."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        """End the process with code 2 and one sentence."""
        end = "" if message.endswith("?") else ";"
        self.exit(2, f"{self.prog}: {message}{end} see: {self.prog} --help\n")
