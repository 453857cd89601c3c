"""A PostgreSQL server for tests: unprivileged, on loopback, with a database for each that asks."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.parts import started
from tests.support.ports import free_port
from tests.support.required import skip_or_fail
from tests.support.running import finish, run

USER, PASSWORD = "team", "let-the-team-in"
# The server refuses to run as root.
_NOBODY = 65534
_UNPRIVILEGED = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups") if os.geteuid() == 0 else ()


@dataclass(frozen=True)
class Postgres:
    """A server that runs, with the user ``USER``, who has to give ``PASSWORD``."""

    port: int
    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def passwords(self) -> Path:
        """A file of passwords as libpq reads it (``PGPASSFILE``)."""
        return self.folder / "passwords"

    def address(self, database: str) -> str:
        """The address of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The address of a new, empty database."""
        name = f"test{next(self._numbers)}"
        self.sql("postgres", f"CREATE DATABASE {name}")
        return self.address(name)

    def sql(self, database: str, statement: str) -> str:
        """What the server's own client prints."""
        return run(
            "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.address(database), "-c", statement,
            more={"PGPASSFILE": str(self.passwords)},
        )  # fmt: skip


def _programs() -> Path:
    found = shutil.which("initdb")
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    if not versions and found is None:
        skip_or_fail("not installed: postgresql")
    return versions[-1].parent if versions else Path(str(found)).parent


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server with its data in a folder of its own: pytest's are closed to other users, whenever a run begins."""
    programs, port = _programs(), free_port()
    with tempfile.TemporaryDirectory(prefix="edgepack-postgres-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        data, secret, passwords = folder / "data", folder / "secret", folder / "passwords"
        data.mkdir()
        secret.write_text(PASSWORD)
        passwords.write_text(f"127.0.0.1:{port}:*:{USER}:{PASSWORD}\n")
        passwords.chmod(0o600)
        if _UNPRIVILEGED:
            os.chown(data, _NOBODY, _NOBODY)
            os.chown(secret, _NOBODY, _NOBODY)
        run(
            *_UNPRIVILEGED, programs / "initdb", "-D", data, "-U", USER, "-A", "scram-sha-256",
            f"--pwfile={secret}", "--no-sync", cwd=Path("/"),
        )  # fmt: skip
        settings = ("fsync=off", "max_connections=200", "shared_buffers=16MB", "unix_socket_directories=")
        argv = [*_UNPRIVILEGED, programs / "postgres", "-D", data, "-p", port, "-h", "127.0.0.1"]
        argv += [word for setting in settings for word in ("-c", setting)]
        ready = (programs / "pg_isready", "-h", "127.0.0.1", "-p", port)
        with started(list(map(str, argv)), folder / "log", lambda: finish(*ready).code == 0, cwd=Path("/")):
            yield Postgres(port, folder)
