"""``edgepack service run``"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from edgepack.errors import NotFoundError, UsageError
from packager.commands.options import common
from packager.commands.service_views import addresses
from packager.workspaces.workspace import Workspace


@click.command("run")
@click.argument("name")
@click.option(
    "-d", "--data", required=True, metavar="TEXT|@FILE|-",
    help="The body of the request: a text, the content of a file, or standard input.",
)  # fmt: skip
@common
def command(name: str, data: str, workspace: Workspace, output: str) -> None:
    """Let a service score, with its key or a token where it asks for one, and print the answer as JSON."""
    from packager.services.calling import score
    from packager.services.credentials.callers import shown_to
    from packager.services.deploying import Services

    service = Services(workspace).get(name)
    found = score(
        addresses(workspace, service)["scoring_uri"], _body(data), where=f"service {name}",
        shown=lambda: shown_to(workspace.root, service),
    )  # fmt: skip
    click.echo(json.dumps(found, indent=2 if output == "json" else None, ensure_ascii=False))


def _body(data: str) -> str | bytes:
    """The body that ``-d`` says, as curl reads it; raises ``NotFoundError``."""
    if data in ("-", "@-"):
        return sys.stdin.buffer.read()
    if not data.startswith("@"):
        return data
    path = Path(data[1:])
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError("there is no such file", where=path, hint="check the path after @") from None
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=path, hint="name a file after @") from None
