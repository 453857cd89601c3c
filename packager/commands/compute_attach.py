"""``edgepack compute attach``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.host.console import answer
from packager.commands.compute_views import compute_row
from packager.commands.options import creating
from packager.workspaces.workspace import Workspace


@click.command("attach")
@click.argument("name")
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="The kubeconfig.  [default: the one that kubectl reads]",
)  # fmt: skip
@click.option("--context", metavar="NAME", help="The context in it.  [default: its current one]")
@click.option("--namespace", metavar="NAME", help="For services that name none.  [default: that of the context]")
@click.option("--pull-secret", metavar="NAME", help="A login to the registry that the namespace has.")
@click.option("--replace", "replaced", is_flag=True, help="Put it in place of a target of that name.")
@creating
def command(
    name: str,
    kubeconfig: Path | None,
    context: str | None,
    namespace: str | None,
    pull_secret: str | None,
    replaced: bool,
    workspace: Workspace,
    output: str,
) -> None:
    """Know a cluster of Kubernetes as NAME. The cluster is not asked: see edgepack compute show NAME."""
    from packager.services.targets.compute_target import ComputeTarget
    from packager.services.targets.compute_targets import ComputeTargets

    made = ComputeTarget(
        name, None if kubeconfig is None else kubeconfig.expanduser().absolute(), context, namespace, pull_secret
    )
    found = ComputeTargets(workspace).attach(made, replaced=replaced)
    answer(output, found.to_json(), [compute_row(found)])
