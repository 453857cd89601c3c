"""``edgepack export iot-edge``"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from edgepack.host.commands import Number
from packager.commands.device_port import device_port
from packager.commands.export_options import exporting
from packager.exports.check.findings import Findings
from packager.exports.exported import Exported
from packager.exports.workload import Workload
from packager.workspaces.workspace import Workspace


def _check(paths: Sequence[Path]) -> Findings:
    from packager.exports.check.iot_edge import check_iot_edge
    from packager.exports.check.objects import read_document

    findings = Findings()
    for path in paths:
        findings.add(check_iot_edge(read_document(path), str(path)))
    return findings


@click.command("iot-edge")
@exporting(_check)
@device_port
@click.option("--sensor-module", metavar="NAME", help="Score what this module sends.")
@click.option("--to-cloud", is_flag=True, help="Send the answers on to the hub in the cloud.")
@click.option("--ttl", type=Number(0, 4_294_967_295, kind=int), default=7200, show_default=True, metavar="SECONDS",
              help="How long messages are kept without a connection.")  # fmt: skip
@click.option("--layered", is_flag=True, help="Write a layer over the deployment that devices have.")
@click.option("--public", is_flag=True, help="The registry needs no login.")
def command(
    workload: Workload,
    workspace: Workspace,
    sensor_module: str | None,
    to_cloud: bool,
    ttl: int,
    layered: bool,
    public: bool,
) -> Exported:
    """Write PACKAGE or SERVICE as a deployment manifest of Azure IoT Edge 1.5.

    The login to the registry is left out: its place has the names of two variables.
    """
    from packager.exports.iot_edge import Edge, export_iot_edge

    del workspace
    edge = Edge(sensor_module, to_cloud=to_cloud, ttl_seconds=ttl, layered=layered, logged_in=not public)
    return export_iot_edge(workload, edge)
