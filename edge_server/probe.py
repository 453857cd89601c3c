"""Asks the server in this container whether it lives: ``python -m edge_server.probe [PORT]``.

For engines that watch a container by a program in it. Exit code 0: it lives; 1: it does not answer, or not with 200.
The environment says, as it does to the server, which port that is and whether TLS is spoken.
"""

from __future__ import annotations

import os
import socket
import sys

_REQUEST = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_SECONDS = 5.0


def lives(port: int, *, tls: bool) -> bool:
    """Whether the server on ``port`` of this container says that it lives."""
    try:
        with socket.create_connection(("127.0.0.1", port), _SECONDS) as plain:
            connection: socket.socket = plain
            if tls:
                import ssl

                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                # Its certificate is for the name that others know it by.
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                connection = context.wrap_socket(plain)
            connection.sendall(_REQUEST)
            head = b""
            while len(head) < 12 and (more := connection.recv(64)):
                head += more
    except OSError:
        return False
    return head.startswith(b"HTTP/1.1 200")


def main(arguments: list[str]) -> int:
    """The exit code."""
    port = int(arguments[0] if arguments else os.environ.get("EDGEPACK_PORT") or 5001)
    return 0 if lives(port, tls=bool(os.environ.get("EDGEPACK_TLS_CERTIFICATE"))) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
