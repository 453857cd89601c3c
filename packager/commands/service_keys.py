"""``edgepack service keys``"""

from __future__ import annotations

import click

from edgepack.errors import UsageError
from edgepack.host.commands import Choice
from edgepack.host.console import answer, note
from packager.commands.options import common, read_password
from packager.workspaces.workspace import Workspace


@click.command("keys")
@click.argument("name")
@click.option("--regenerate", type=Choice(["primary", "secondary"]), help="Replace this key; the other one stays.")
@click.option("--stdin", is_flag=True, envvar=None, help="Take the new key from standard input.")
@common
def command(name: str, regenerate: str | None, stdin: bool, workspace: Workspace, output: str) -> None:
    """Show the two keys of a service, or replace one of them; nothing is started again."""
    from packager.services.credentials.callers import keys_of
    from packager.services.credentials.keys import given_key, which_of
    from packager.services.deploying import Services

    services = Services(workspace)
    if regenerate is None:
        if stdin:
            raise UsageError("is given without a key to replace", where="--stdin", hint="add --regenerate primary")
        found = keys_of(workspace.root, services.get(name))
    else:
        own = given_key(read_password(), "standard input") if stdin else None
        found = services.regenerate(name, which_of(regenerate, "--regenerate"), own)
        note(f"replaced the {regenerate} key of service {name}")
    value = {"primary": str(found.primary), "secondary": str(found.secondary)}
    if output == "json":
        answer(output, value, [])
    else:  # not as a table: a line is cut nowhere, and `awk` finds the key
        click.echo("".join(f"{which:9}  {key}\n" for which, key in value.items()), nl=False)
