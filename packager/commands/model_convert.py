"""``edgepack model convert``"""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgepack.commandline import answer, human, note
from edgepack.errors import UsageError
from edgepack.files import atomic_write
from edgepack.names import ModelRef
from packager.commands.options import common
from packager.model import Framework
from packager.workspace import Workspace


@click.command("convert", short_help="Convert a model to ONNX and prove it equal.")
@click.option("-m", "--model", required=True, metavar="NAME[:VERSION]", help="The model.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write the parity report here (JSON).")
@click.option("--again", is_flag=True, help="Convert even when it was done before.")
@common
def command(model: str, report: Path | None, again: bool, workspace: Workspace, output: str) -> None:
    """Convert a model to ONNX in a process of its own, and compare it with the original row by row."""
    from packager.conversion import convert

    found = workspace.models.get(ModelRef.parse(model))
    if found.framework is Framework.CUSTOM:
        raise UsageError(
            "has no framework to convert from", where=f"model {found.id}", hint="register it with --framework"
        )
    conversion = convert(workspace, found, again=again)
    data = workspace.store.read(conversion.report, limit=256 << 20)
    if report is not None:
        atomic_write(report, data)
    value = json.loads(data)
    layers = [{"digest": str(layer.descriptor.digest), "size": layer.descriptor.size} for layer in conversion.layers]
    parity = value.get("summary") or {}
    answer(
        output,
        {"model": found.id, "file": conversion.file, "layers": layers, "report": value},
        [
            {
                "model": found.id,
                "rows": parity.get("rows"),
                "max_abs": _short(parity.get("max_abs")),
                "max_rel": _short(parity.get("max_rel")),
                "label_agreement": parity.get("label_agreement"),
                "size": human(sum(layer.descriptor.size for layer in conversion.layers)),
            }
        ],
    )
    if report is not None:
        note(f"the parity report is in {report}")


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:.1e}"
