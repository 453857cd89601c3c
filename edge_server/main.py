"""What ``edge-server`` does: ``--model model.onnx``, ``--entry-script score.py``, or ``--config service.json``."""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from edge_server import __version__
from edge_server.config.command_line import CommandLine
from edge_server.config.environment import override, whole_number
from edge_server.config.nearness import did_you_mean
from edge_server.config.service_file import check_files, load_config, single_model, single_script
from edge_server.config.values import ServiceConfig
from edge_server.errors import ConfigurationError, ScoringError, package_errors
from edge_server.listening import Listeners, listen
from edge_server.models.running.memory import settle_heap
from edge_server.telemetry import logs
from edge_server.telemetry.lines import LineWriter

if TYPE_CHECKING:
    from edge_server.processes import ProcessContext


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns the exit code: 0 done, 1 failed, 2 wrong input, 3 not found, 5 the entry script cannot start.
    """
    # Before all else: as the first process of a container, a signal without a handler is ignored.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    settle_heap()
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        meant = did_you_mean(unknown[0].partition("=")[0], re.findall(r"--[a-z-]+", parser.format_usage()))
        if not unknown[0].startswith("-"):
            option = "--entry-script" if unknown[0].endswith(".py") else "--model"
            meant = f"; name the file by an option, such as {option} {unknown[0]}"
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
    if options.config is options.entry_script is options.model is None:
        parser.error("one of --model, --entry-script and --config is needed")
    try:
        config = _configure(options)
        writer = LineWriter(2, logs.dropped)
        logs.configure(config.logging.level, writer)
        check_files(config)
        # Bound at the start, so that a port that is in use is reported at once; connections are accepted when all is
        # ready.
        listeners = listen(config, os.environ)
        if config.runtime.processes > 1:
            from edge_server import processes

            return processes.run(config, listeners, partial(serve, writer))
        serve(writer, config, listeners, None)
    except ScoringError as error:
        # The sentence comes last, after log lines that are not written yet.
        logging.shutdown()
        sys.stderr.write(f"edge-server: {error}\n")
        return error.exit_code
    return 0


@package_errors()
def serve(writer: LineWriter, config: ServiceConfig, listeners: Listeners, process: ProcessContext | None) -> None:
    """Load everything, answer requests on ``listeners`` until a signal says stop, and finish the requests that have
    begun.

    ``writer`` takes the log's lines; ``process`` is this process's among several, None for the only one. Raises
    ScoringError when the service cannot start.
    """
    # The server does no matrix products itself: one BLAS thread saves the buffers and start of the others.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from edge_server.run import run

    run(config, listeners, writer, process)


def _configure(options: argparse.Namespace) -> ServiceConfig:
    if options.model_name is not None and (options.config is not None or options.entry_script is not None):
        raise ConfigurationError("--model-name", ["is for --model alone: others name their models"])
    if options.config is not None:
        if options.model is not None:
            raise ConfigurationError("--model", ["cannot be combined with --config, which names its own models"])
        if options.source_directory is not None:
            raise ConfigurationError("--source-directory", ["is for --entry-script; --config names its own"])
        config = load_config(options.config)
    elif options.entry_script is not None:
        config = single_script(options.entry_script, options.model, options.source_directory)
    elif options.source_directory is not None:
        raise ConfigurationError("--source-directory", ["is for --entry-script, which is not given"])
    else:
        config = single_model(options.model, options.model_name)
    config = override(config, os.environ)
    if options.host is not None:
        config = replace(config, host=options.host)
    if options.port is not None:
        config = replace(config, port=options.port)
    return config


def _parser() -> argparse.ArgumentParser:
    parser = CommandLine(
        prog="edge-server",
        description="Serve an ONNX model or an entry script over HTTP: GET /, POST /score, /docs and more.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--config", type=Path, metavar="FILE", help="a service.json")
    source.add_argument("--entry-script", type=Path, metavar="FILE", help="a score.py with init() and run()")
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="an ONNX file or its folder; beside --entry-script, what it opens"
    )
    parser.add_argument("--model-name", metavar="NAME", help="what requests call --model (default: as its file)")
    parser.add_argument(
        "--source-directory", type=Path, metavar="DIR", help="where the script's imports are (default: its own folder)"
    )
    parser.add_argument("--host", help="the address to listen on (default without --config: 127.0.0.1)")
    parser.add_argument("--port", type=_port, help="the port to listen on (default 5001; 0: any free one)")
    return parser


def _port(text: str) -> int:
    port = whole_number(text)
    if port is None or port > 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, not {text!r}")
    return port


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
