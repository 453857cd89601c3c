"""``edgepack service token``"""

from __future__ import annotations

import click

from edgepack.host.commands import Number
from edgepack.host.console import answer, note
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("token")
@click.argument("name")
@click.option(
    "--seconds", type=Number(1, kind=int), default=43200, show_default=True, help="How long the token is valid."
)
@common
def command(name: str, seconds: int, workspace: Workspace, output: str) -> None:
    """Make a token for a service, and print it; the service verifies it without a network."""
    from edgepack.state.times import format_time
    from packager.services.credentials.callers import token_of
    from packager.services.deploying import Services

    token = token_of(workspace.root, Services(workspace).get(name), seconds)
    refresh_after, expires = (format_time(moment.timestamp()) for moment in (token.refresh_after, token.expires))
    if output == "json":
        value = {
            "access_token": str(token.text), "token_type": "Bearer", "refresh_after": refresh_after,
            "expiry_on": expires,
        }  # fmt: skip
        answer(output, value, [])
    else:
        click.echo(token.text)
        note(f"valid until {expires}; get another one after {refresh_after}")
