"""``edgepack endpoint show``"""

from __future__ import annotations

import click

from edgepack.host.console import answer, note
from packager.commands.endpoint_views import endpoint_json, endpoint_rows
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("show")
@click.argument("name")
@common
def command(name: str, workspace: Workspace, output: str) -> None:
    """Show the versions of endpoint NAME side by side: requests, errors, latency, and whether the errors differ.

    The last column is by the two-proportion z test (pooled, two-sided, level 0.05) beside the control version, or the
    default one where there is no control.
    """
    from packager.services.endpoint_deploying import Endpoints

    found = Endpoints(workspace).observe(name)
    value = endpoint_json(workspace, found)
    if output != "json":
        why = "" if value["reason"] is None else f": {value['reason']}"
        where = value["scoring_uri"] or f"port {value['port']} of device {value['target']}"
        state = "at" if value["state"] is None else f"is {value['state'].lower()} at"
        note(f"{name} {state} {where}{why or ('; its device reports nothing here' if not value['state'] else '')}")
    answer(output, value, endpoint_rows(found))
