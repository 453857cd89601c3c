"""The command: `python -m scoring --model model.onnx --port 5001`, or `--config service.json`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from scoring import logs
from scoring.config import ServiceConfig, check_models, load_config, parse_port, single_model
from scoring.errors import ScoringError

if TYPE_CHECKING:
    from uvicorn import Server

# As long as a request may reasonably take; an engine that stops a container waits less or kills.
GRACE_SECONDS = 30
BACKLOG = 2048

_log = logging.getLogger("scoring")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code: 0 done, 1 failed, 2 wrong input, 3 not found."""
    # Before all else: as the first process of a container, a signal without a handler is ignored.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    options = _parser().parse_args(arguments)
    try:
        config = _configure(options)
        logs.configure(config.log_level)
        check_models(config)
        serve(config)
    except ScoringError as error:
        sys.stderr.write(f"scoring: {error}\n")
        return error.exit_code
    return 0


def serve(config: ServiceConfig) -> None:
    """Load the model, check it, and answer requests until a signal says stop; then finish what was begun.

    Raises ScoringError when the address cannot be had or the model cannot be served.
    """
    # Held from the start, so that a port that is taken is told at once; open only when the model is ready.
    listener = bind(config.host, config.port)
    # The server multiplies no matrices itself: one BLAS thread saves the others' buffers and their start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import uvicorn

    from scoring.app import make_app
    from scoring.models.golden import check_golden
    from scoring.models.onnx_model import load_model
    from scoring.models.threads import available_cpus

    threads = available_cpus()
    place = config.models[0]
    model = load_model(place.path, threads)
    checked = check_golden(model)
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(model, config.limits, threads),
            http="httptools",
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            workers=1,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, partial(_stop, server))
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        raise _taken(config.host, config.port, error) from None
    host, port = listener.getsockname()[:2]
    facts = {"host": host, "port": port, "model": place.name, "version": place.version, "threads": threads}
    _log.info("ready", extra={**facts, "golden_values": checked, "manifest": model.manifest is not None})
    server.run(sockets=[listener])
    _log.info("stopped")


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket that holds the address and does not listen yet; ScoringError when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle off only where the protocol is told; without, an answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _taken(host, port, error) from None
    return listener


def _taken(host: str, port: int, error: OSError) -> ScoringError:
    reason = error.strerror or str(error)
    return ScoringError(f"cannot listen on {host} port {port}: {reason}; choose another with --port or --host")


def _configure(options: argparse.Namespace) -> ServiceConfig:
    if options.config is not None:
        config = load_config(options.config, os.environ)
    else:
        config = single_model(options.model, os.environ)
    if options.host is not None:
        config = replace(config, host=options.host)
    if options.port is not None:
        config = replace(config, port=options.port)
    return config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scoring", description="Serve one ONNX model over HTTP: GET / and POST /score."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path, metavar="FILE", help="an ONNX file, on 127.0.0.1 by default")
    source.add_argument("--config", type=Path, metavar="FILE", help="a service.json")
    parser.add_argument("--host", help="the address to listen on")
    parser.add_argument("--port", type=_port, help="the port to listen on (default 5001; 0: any free one)")
    return parser


def _port(text: str) -> int:
    port = parse_port(text)
    if port is None:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, not {text!r}")
    return port


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _stop(server: Server, number: int, frame: FrameType | None) -> None:
    # uvicorn takes the signals while it runs, and raises them once more after its last answer; this handler
    # makes the end an orderly one, and catches the signal that comes just before uvicorn does.
    server.should_exit = True


if __name__ == "__main__":
    sys.exit(main())
