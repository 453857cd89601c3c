"""``edgepack endpoint keys``"""

from __future__ import annotations

import click

from edgepack.host.commands import Choice
from edgepack.host.console import note
from packager.commands.key_answers import answer_keys, new_key_of
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("keys")
@click.argument("name")
@click.option(
    "--regenerate", type=Choice(["primary", "secondary"]),
    help="Replace this key for all versions; the other one stays.",
)  # fmt: skip
@click.option("--stdin", is_flag=True, envvar=None, help="Take the new key from standard input.")
@common
def command(name: str, regenerate: str | None, stdin: bool, workspace: Workspace, output: str) -> None:
    """Show the two keys of endpoint NAME, or replace one of them; nothing is started again."""
    from packager.services.credentials.keys import which_of
    from packager.services.endpoint_deploying import Endpoints

    endpoints, own = Endpoints(workspace), new_key_of(regenerate, is_given=stdin)
    if regenerate is None:
        versions = endpoints.keys(name)
        found, *_ = versions.values()
        for version, keys in versions.items():
            if keys != found:
                note(f"version {version} has keys of its own; give all the same ones by --regenerate, for each key")
    else:
        found = endpoints.regenerate(name, which_of(regenerate, "--regenerate"), own)
        note(f"replaced the {regenerate} key of endpoint {name}")
    answer_keys(output, found)
