"""``edgepack endpoint list``"""

from __future__ import annotations

import click

from edgepack.host.console import answer
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("list")
@common
def command(workspace: Workspace, output: str) -> None:
    """List the endpoints and the shares of their versions."""
    from packager.services.endpoint_deploying import Endpoints

    found = Endpoints(workspace).list()
    rows = [
        {
            "name": one.name, "target": one.target or one.compute_type.value, "port": one.port, "default": one.default,
            "versions": ", ".join(f"{name} {share} %" for name, share in one.shares.items()),
        }
        for one in found
    ]  # fmt: skip
    answer(output, [one.to_json() for one in found], rows)
