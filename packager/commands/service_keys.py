"""``edgepack service keys``"""

from __future__ import annotations

import click

from edgepack.host.commands import Choice
from edgepack.host.console import note
from packager.commands.key_answers import answer_keys, new_key_of
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("keys")
@click.argument("name")
@click.option("--regenerate", type=Choice(["primary", "secondary"]), help="Replace this key; the other one stays.")
@click.option("--stdin", is_flag=True, envvar=None, help="Take the new key from standard input.")
@common
def command(name: str, regenerate: str | None, stdin: bool, workspace: Workspace, output: str) -> None:
    """Show the two keys of a service, or replace one of them; nothing is started again."""
    from packager.services.credentials.callers import keys_of
    from packager.services.credentials.keys import which_of
    from packager.services.deploying import Services

    services, own = Services(workspace), new_key_of(regenerate, is_given=stdin)
    if regenerate is None:
        found = keys_of(workspace.root, services.get(name))
    else:
        found = services.regenerate(name, which_of(regenerate, "--regenerate"), own)
        note(f"replaced the {regenerate} key of service {name}")
    answer_keys(output, found)
