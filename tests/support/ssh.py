"""A real sshd on loopback, which this user alone may log in to, and a way to it that can be cut."""

from __future__ import annotations

import getpass
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.http_client import listens
from tests.support.parts import started
from tests.support.ports import free_port
from tests.support.running import run

_PRIVILEGES = Path("/run/sshd")


@dataclass
class Line:
    """A forwarded port; ``cut_after`` bytes from the client's side the connection is cut, ``sent`` have gone by."""

    port: int
    cut_after: int | None = None
    sent: int = field(default=0)

    def serve(self, listener: socket.socket, to: int) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", to))
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(*ends, ends[0] is client), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(16384):
                sink.sendall(data)
                self.sent += len(data) if is_counted else 0
                if is_counted and self.cut_after is not None and self.sent > self.cut_after:
                    break
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Sshd:
    """``folder`` has the key ``id``, ``other`` which may not log in, and configurations of ssh by what they know."""

    folder: Path
    port: int
    line: Line

    @property
    def destination(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1:{self.line.port}"

    @property
    def identity(self) -> Path:
        return self.folder / "id"

    def config(self, known: str = "host") -> Path:
        """A configuration of ssh that knows the host by the key called ``known``; by none where it is empty."""
        file, hosts = self.folder / f"ssh-{known}.config", self.folder / f"known-{known}"
        entry = "" if not known else f"[127.0.0.1]:{self.line.port} {(self.folder / f'{known}.pub').read_text()}"
        hosts.write_text(entry)
        file.write_text(f"Host *\n  UserKnownHostsFile {hosts}\n  GlobalKnownHostsFile /dev/null\n")
        return file


@contextmanager
def sshd(folder: Path, path: str) -> Iterator[Sshd]:
    """A server whose logins find programs in ``path``."""
    folder.mkdir(mode=0o700)
    for name in ("host", "id", "other"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    port, line = free_port(), Line(free_port())
    (folder / "sshd.config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/id.pub\n"
        "AuthenticationMethods publickey\nUsePAM no\nStrictModes no\nPidFile none\nPrintMotd no\n"
        # Start-up files of this user's shell are not those of a device.
        f'SetEnv "PATH={path}" "HOME={folder}"\n'
    )
    if os.geteuid() == 0:
        _PRIVILEGES.mkdir(mode=0o755, exist_ok=True)
    argv = [run("sh", "-c", "command -v sshd").strip(), "-D", "-e", "-f", str(folder / "sshd.config")]
    with (
        started(argv, folder / "sshd.log", lambda: listens(port)),
        socket.create_server(("127.0.0.1", line.port)) as listener,
    ):
        threading.Thread(target=line.serve, args=(listener, port), daemon=True).start()
        yield Sshd(folder, port, line)
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
