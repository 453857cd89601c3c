"""``edgepack export kubernetes``"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from packager.commands.cluster_options import cluster_of, in_cluster
from packager.commands.export_options import exporting, weight
from packager.commands.secret_options import secrets
from packager.exports.check.findings import Findings
from packager.exports.exported import Exported
from packager.exports.routing import Route
from packager.exports.secrets import Credentials
from packager.exports.workload import Workload
from packager.workspaces.workspace import Workspace


def _check(paths: Sequence[Path]) -> Findings:
    from packager.exports.check.kubernetes import check_kubernetes
    from packager.exports.check.objects import read_objects

    return check_kubernetes(read_objects(paths))


@click.command("kubernetes")
@exporting(_check)
@secrets
@in_cluster
@click.option("--host", metavar="NAME", help="Answer requests for this host from outside, by an Ingress.")
@click.option("--ingress-class", metavar="NAME", help="Of the Ingress.  [default: the cluster's]")
@click.option("--gateway", metavar="[NAMESPACE/]NAME", help="By a route of this Gateway instead of an Ingress.")
@click.option(
    "--weight", "weights", multiple=True, metavar="SERVICE=WEIGHT",
    help="The route divides requests between services; may be given again.",
)  # fmt: skip
@click.option("--service-monitor", is_flag=True, help="For the Prometheus operator.")
def command(
    workload: Workload,
    workspace: Workspace,
    credentials: Credentials,
    host: str | None,
    ingress_class: str | None,
    gateway: str | None,
    weights: tuple[str, ...],
    service_monitor: bool,
    **settings: object,
) -> Exported:
    """Write PACKAGE or SERVICE as objects of Kubernetes, with a kustomization.yaml: kubectl apply -k DIR.

    With --check, files of anybody are held to Kubernetes' schema and to rules that it has no words for.
    """
    from packager.exports.kubernetes import export_kubernetes

    del workspace
    if host is None and (gateway or ingress_class or weights):
        raise click.UsageError("--gateway, --ingress-class and --weight are for --host.")
    cluster = replace(cluster_of(settings), credentials=credentials)
    if host is not None:
        cluster = replace(cluster, route=Route(host, gateway, ingress_class, tuple(map(weight, weights))))
    return export_kubernetes(workload, replace(cluster, monitored=service_monitor))
