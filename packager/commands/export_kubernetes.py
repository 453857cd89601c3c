"""``edgepack export kubernetes``"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.host.commands import Choice
from packager.commands.cluster_options import cluster_of, in_cluster
from packager.commands.export_options import exporting, weight
from packager.commands.secret_options import secrets
from packager.exports.check.findings import Findings
from packager.exports.exported import Exported
from packager.exports.routing import Route, Session
from packager.exports.secrets import Credentials
from packager.exports.workload import Workload
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.services.endpoints.endpoint import Endpoint


def _check(paths: Sequence[Path]) -> Findings:
    from packager.exports.check.kubernetes import check_kubernetes
    from packager.exports.check.objects import read_objects

    return check_kubernetes(read_objects(paths))


def _joined(
    endpoint: Endpoint, workloads: Mapping[str, Workload], write: Callable[..., Exported], given: dict[str, Any]
) -> Exported:
    """The files of all versions, and the route before them."""
    from packager.exports.endpoints import export_endpoint
    from packager.exports.routing import Backend

    if given["host"] is None or given["gateway"] is None:
        raise click.UsageError("An endpoint needs --host and --gateway, by whose route requests are shared out.")
    if given["weights"] or given["ingress_class"]:
        raise click.UsageError(
            "An endpoint has its own shares, and no Ingress: leave out --weight and --ingress-class."
        )
    route = Route(given["host"], given["gateway"], session=given["session"])
    own = given | dict.fromkeys(("host", "gateway", "session"))
    parts = {version: write(workload=workload, **own) for version, workload in workloads.items()}
    backends = {
        version: Backend(workload.name, 443 if workload.tls else 80, endpoint.shares[version])
        for version, workload in workloads.items()
    }
    return export_endpoint(endpoint.name, parts, backends, route, given["namespace"])


@click.command("kubernetes")
@exporting(_check, _joined)
@secrets
@in_cluster
@click.option("--host", metavar="NAME", help="Answer requests for this host from outside, by an Ingress.")
@click.option("--ingress-class", metavar="NAME", help="Of the Ingress.  [default: the cluster's]")
@click.option("--gateway", metavar="[NAMESPACE/]NAME", help="By a route of this Gateway instead of an Ingress.")
@click.option(
    "--weight", "weights", multiple=True, metavar="SERVICE=WEIGHT",
    help="The route divides requests between services; may be given again.",
)  # fmt: skip
@click.option(
    "--session",
    type=Choice(["cookie", "header"]),
    help="The gateway lets a caller stay with its service, by a cookie or a header of its own.",
)
@click.option("--service-monitor", is_flag=True, help="For the Prometheus operator.")
def command(
    workload: Workload,
    workspace: Workspace,
    credentials: Credentials,
    host: str | None,
    ingress_class: str | None,
    gateway: str | None,
    weights: tuple[str, ...],
    session: Session | None,
    service_monitor: bool,
    **settings: object,
) -> Exported:
    """Write PACKAGE, SERVICE or ENDPOINT as objects of Kubernetes, with a kustomization.yaml: kubectl apply -k DIR.

    The versions of an endpoint are behind a route of the Gateway API with their shares.

    With --check, files of anybody are held to Kubernetes' schema and to rules that it has no words for.
    """
    from packager.exports.kubernetes import export_kubernetes

    del workspace
    if host is None and (gateway or ingress_class or weights or session):
        raise click.UsageError("--gateway, --ingress-class, --weight and --session are for --host.")
    cluster = replace(cluster_of(settings), credentials=credentials)
    if host is not None:
        cluster = replace(cluster, route=Route(host, gateway, ingress_class, tuple(map(weight, weights)), session))
    return export_kubernetes(workload, replace(cluster, monitored=service_monitor))
