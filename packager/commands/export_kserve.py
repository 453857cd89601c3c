"""``edgepack export kserve``"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from edgepack.errors import UsageError
from edgepack.host.commands import Choice
from edgepack.host.console import note
from packager.commands.cluster_options import cluster_of, in_cluster
from packager.commands.export_options import exporting
from packager.commands.secret_options import secrets
from packager.exports.check.findings import Findings
from packager.exports.exported import Exported
from packager.exports.kserve import Scheme
from packager.exports.secrets import Credentials
from packager.exports.workload import Workload
from packager.workspaces.workspace import Workspace


def _check(paths: Sequence[Path]) -> Findings:
    from packager.exports.check.kubernetes import check_kubernetes
    from packager.exports.check.objects import read_objects

    return check_kubernetes(read_objects(paths))


@click.command("kserve")
@exporting(_check)
@secrets
@in_cluster
@click.option("--modelcar", is_flag=True, help="Make an image of the model alone too, and a runtime that serves it.")
@click.option("--scheme", type=Choice(["oci", "oci+native", "oci+fetch"]), default="oci", show_default=True,
              help="How KServe brings the model's image: by a sidecar, a volume, or a fetch before.")  # fmt: skip
def command(
    workload: Workload,
    workspace: Workspace,
    credentials: Credentials,
    modelcar: bool,
    scheme: Scheme,
    **settings: object,
) -> Exported:
    """Write PACKAGE or SERVICE as an InferenceService of KServe, with a kustomization.yaml.

    Its predictor is the whole image; with --modelcar it is the server, and the model comes from an image of its own.
    """
    from packager.exports.kserve import export_kserve, modelcar_of

    cluster = replace(cluster_of(settings), credentials=credentials)
    if not modelcar:
        if scheme != "oci":
            raise UsageError("is for --modelcar", where="--scheme", hint="give --modelcar too")
        return export_kserve(workload, cluster, None)
    car = modelcar_of(workspace, workload, scheme)
    note(f"made the image {car.tag}; push it with: edgepack package push {car.tag} {car.repository}:{workload.version}")
    return export_kserve(workload, cluster, car)
