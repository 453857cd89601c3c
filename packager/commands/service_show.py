"""``edgepack service show``"""

from __future__ import annotations

import shlex

import click

from edgepack.host.commands import Choice
from edgepack.host.console import answer, note
from packager.commands.options import common
from packager.commands.service_views import addresses, service_json, service_row
from packager.services.configuration.values import Auth
from packager.services.service import Service
from packager.workspaces.workspace import Workspace, default_root


@click.command("show")
@click.argument("name")
@click.option(
    "--example", type=Choice(["curl", "python", "javascript"]), help="Print a call of it instead, which works as it is."
)
@common
def command(name: str, example: str | None, workspace: Workspace, output: str) -> None:
    """Show a service: its state and why, what it serves, and where it answers."""
    from packager.services.deploying import Services

    services = Services(workspace)
    if example is not None:
        _show_example(workspace, services.get(name), example, output)
        return
    service, seen = services.observe(name)
    answer(output, service_json(workspace, service, seen), [service_row(workspace, service, seen)])


def _show_example(workspace: Workspace, service: Service, language: str, output: str) -> None:
    from packager.services.calling import example_body
    from packager.services.credentials.callers import shown_to
    from packager.services.examples import VARIABLES, example

    found = addresses(workspace, service)
    body = example_body(
        found["swagger_uri"], where=f"service {service.name}", shown=lambda: shown_to(workspace.root, service)
    )
    if not body:
        note("the service shows no example of its input: put yours in the place of the body")
    variable, code = VARIABLES[service.auth], example(language, service, found["scoring_uri"], body)
    if output == "json":
        answer(output, {"language": language, "variable": variable, "code": code}, [])
        return
    click.echo(code, nl=False)
    if variable is not None:
        at = "" if workspace.root == default_root().absolute() else f" --workspace {shlex.quote(str(workspace.root))}"
        noun, pick = ("keys", " | awk '/^primary/ {print $2}'") if service.auth is Auth.KEY else ("token", "")
        note(f'set the variable first: export {variable}="$(edgepack service {noun} {service.name}{at}{pick})"')
