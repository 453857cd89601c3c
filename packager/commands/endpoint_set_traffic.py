"""``edgepack endpoint set-traffic``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from packager.commands.endpoint_options import shares_of
from packager.commands.endpoint_views import endpoint_json, endpoint_line
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("set-traffic")
@click.argument("name")
@click.argument("shares", nargs=-1, required=True, metavar="VERSION=PERCENT...")
@common
def command(name: str, shares: tuple[str, ...], workspace: Workspace, output: str) -> None:
    """Share the requests of endpoint NAME out anew, such as v1=80 v2=20.

    A version that is not named keeps its share, and the default one gets what is left of 100.
    """
    from packager.services.endpoint_deploying import Endpoints

    found = Endpoints(workspace).set_traffic(name, shares_of(shares))
    answer(output, endpoint_json(workspace, found), [endpoint_line(workspace, found)])
