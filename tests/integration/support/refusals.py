"""How bad input is answered: one clear sentence, the right exit code, and nothing left half done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
from dataclasses import dataclass

from tests.integration.support.images import Commands, Site


@dataclass(frozen=True)
class Desk:
    """A workspace with ``mlp:1`` registered and built, in which a command must fail and change nothing."""

    site: Site

    def refuses(self, *words: object, code: int, says: str, **env: str) -> str:
        """Run ``edgepack``, which must end with ``code`` and one sentence that ``says`` (a pattern) what is wrong."""
        commands = self.site.commands
        before = contents(commands)
        done = commands.edgepack(*words, code=code, **env)
        assert done.stdout == ""
        assert_one_sentence(done.stderr, says)
        assert contents(commands) == before
        return done.stderr


def assert_one_sentence(text: str, says: str) -> None:
    said = [line for line in text.splitlines() if not line.startswith("edgepack: building base")]
    assert len(said) == 1, text
    assert said[0].startswith("edgepack: ")
    assert "unexpected" not in said[0]
    assert re.search(says, said[0]), said[0]


def contents(commands: Commands) -> tuple[list[str], list[str]]:
    """The tags of the workspace's images, and every row of its model registry, read without edgepack."""
    index, database = commands.workspace / "store" / "index.json", commands.workspace / "models.db"
    images = json.loads(index.read_text())["manifests"] if index.exists() else []
    if not database.exists():
        return sorted(map(json.dumps, images)), []
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    with contextlib.closing(connection):
        return sorted(map(json.dumps, images)), list(connection.iterdump())


def assert_empty(commands: Commands) -> None:
    assert contents(commands)[0] == []
    assert_whole(commands)


def assert_whole(commands: Commands) -> None:
    for path in commands.blobs.iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
