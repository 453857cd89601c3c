"""Our own HTTP server with an app that answers every request with its body: ``echo.py PORT asyncio|uvloop``."""

import asyncio
import socket
import sys

from edge_server.config.values import Limits
from edge_server.http.messages import Request, Response
from edge_server.http.server import BACKLOG, HttpServer


class Echo:
    def begin(self, request: Request) -> None:
        return None

    def handle(self, request: Request) -> Response:
        return Response(200, request.body)

    def finish(self, request: Request, response: Response) -> bytes:
        return b""

    def left(self, request: Request) -> None:
        pass

    def refused(self, response: Response, target: str) -> None:
        pass


def listen(port: int) -> socket.socket:
    # Named as TCP, so that the loop turns Nagle off.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    return listener


async def serve(port: int) -> None:
    await HttpServer(Echo(), Limits()).start(listen(port))
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[2] == "uvloop":
        import uvloop

        uvloop.run(serve(int(sys.argv[1])))
    else:
        asyncio.run(serve(int(sys.argv[1])))
