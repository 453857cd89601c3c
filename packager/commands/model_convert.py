"""``edgepack model convert``"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgepack.errors import ConversionError, NotFoundError, UsageError
from edgepack.host.commands import Number
from edgepack.host.console import answer, human, note
from edgepack.host.files import BY_UMASK, atomic_write
from edgepack.limits import LIMITS
from edgepack.names import ModelRef
from packager.commands.options import common, offline, pairs, team_registry
from packager.models.model import Conversion, Framework, Model
from packager.workspaces.workspace import Workspace


@click.command("convert")
@click.option("-m", "--model", required=True, metavar="NAME[:VERSION]", help="The model.")
@click.option(
    "--sample",
    type=click.Path(path_type=Path),
    help="Rows to compare on: .csv, .json, .npy, .npz, .parquet.  [default: those that the model was registered with]",
)
@click.option("--optimize", is_flag=True, help="Try smaller and faster forms, and keep the best that answers alike.")
@click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="OUTPUT=REL",
    help="Accept this relative difference (for labels: share of rows) for an output, * for all; it is recorded.",
)
@click.option("--entry", metavar="MODULE:FACTORY", help="PyTorch: the function that makes the module for the weights.")
@click.option("--signature", help="TensorFlow: the signature to convert.  [default: serving_default]")
@click.option("--allow-unsafe", is_flag=True, help="Accept files that run their own code when loaded (in the sandbox).")
@click.option(
    "-o", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Write the converted model to this new folder too: DIR/model.onnx and what belongs to it.",
)  # fmt: skip
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the parity report here: a page with plots (.html), or JSON (any other ending).",
)
@click.option(
    "--timeout",
    type=Number(0, above=True),
    default=600,
    metavar="SECONDS",
    help="End a conversion that takes longer.  [default: 600]",
)
@click.option(
    "--memory",
    type=Number(0.5),
    default=16,
    metavar="GIB",
    help="Memory that a conversion may take, in GiB.  [default: 16]",
)
@click.option("--again", is_flag=True, help="Convert even when it was done before.")
@offline
@team_registry
@common
def command(
    model: str,
    sample: Path | None,
    optimize: bool,
    tolerances: tuple[str, ...],
    entry: str | None,
    signature: str | None,
    allow_unsafe: bool,
    folder: Path | None,
    report: Path | None,
    timeout: float,
    memory: float,
    again: bool,
    offline: bool,
    workspace: Workspace,
    output: str,
) -> None:
    """Convert a model to ONNX in an isolated process, and compare it with the original row by row.

    Every package of the model is built from the last conversion.
    """
    from converters import Options
    from converters.sandbox.launch import Limits
    from packager.models.conversion import convert
    from packager.models.export import check_target, write_conversion

    if folder is not None:
        check_target(folder)
    if report is not None and not report.absolute().parent.is_dir():
        raise NotFoundError("there is no such folder", where=report.parent, hint="create it, or give another --report")
    found = workspace.models.get(ModelRef.parse(model))
    if found.framework is Framework.CUSTOM:
        raise UsageError(
            "has no framework to convert from",
            where=f"model {found.id}",
            hint="register it with --framework ScikitLearn (for XGBoost, LightGBM and CatBoost too), TensorFlow (for "
            "Keras too), PyTorch or Onnx",
        )
    accepted = pairs(tolerances, "--tolerance", "probabilities=1e-3", "OUTPUT=REL")
    options = Options(
        sample=sample,
        entry=entry,
        signature=signature,
        allow_unsafe=allow_unsafe,
        tolerances={name: _number(value) for name, value in accepted.items()},
        optimize=optimize,
    )
    limits = Limits(seconds=timeout, memory=int(memory * (1 << 30)))
    try:
        conversion = convert(
            workspace.models,
            found,
            options,
            cache=workspace.cache,
            refusals=workspace.refusals,
            limits=limits,
            again=again,
            offline=offline,
        )
    except ConversionError as error:
        if report is not None and error.report is not None:
            _write(report, json.loads(error.report.read_bytes()), found)
            error.report = report
        raise
    value = json.loads(workspace.store.read(conversion.report, limit=LIMITS.report_bytes))
    if report is not None:
        _write(report, value, found)
    path = None if folder is None else write_conversion(workspace.store, found, conversion, folder)
    answer(output, _json(found, conversion, value, path), _rows(found, conversion, value), written=[report])
    for warning in value.get("warnings", []):
        note(warning)
    if report is not None:
        note(f"the parity report is in {report}")
    if path is not None:
        note(f"the converted model is in {folder}; to serve it: {shlex.join(['edge-server', '--model', str(path)])}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is not a number", where="--tolerance", hint="write it as --tolerance probabilities=1e-3"
        ) from None


def _write(path: Path, report: Mapping[str, Any], model: Model) -> None:
    from converters.report import render

    if path.suffix.lower() in (".html", ".htm"):
        atomic_write(path, render(report, model.id).encode(), BY_UMASK)
    else:
        atomic_write(path, f"{json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False)}\n".encode(), BY_UMASK)


def _json(model: Model, conversion: Conversion, report: Mapping[str, Any], path: Path | None) -> dict[str, Any]:
    layers = [{"digest": str(layer.descriptor.digest), "size": layer.descriptor.size} for layer in conversion.layers]
    written = {} if path is None else {"path": str(path)}
    shown = {**report, "outputs": list(map(_without_points, report.get("outputs", [])))}
    return {"model": model.id, "file": conversion.file, **written, "layers": layers, "report": shown}


def _without_points(output: Mapping[str, Any]) -> dict[str, Any]:
    """An output's parity without the points of its plot, a thousand lines that only a page can show."""
    sketch = output.get("sketch") or {}
    return {**output, "sketch": {name: value for name, value in sketch.items() if name != "points"}}


def _rows(model: Model, conversion: Conversion, report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The one line of the model; after ``--optimize`` a line for each form that was tried."""
    variants = report.get("variants")
    if variants:
        return [
            {
                "variant": entry["name"],
                "size": entry["size"] and human(entry["size"]),
                "one_row": entry["latency"] and f"{entry['latency'] * 1e6:.0f} us",
                "label_agreement": entry["label_agreement"],
                "max_rel": _short(entry["max_rel"]),
                "outcome": "kept" if entry["kept"] else entry["reason"],
            }
            for entry in variants
        ]
    parity = report.get("summary") or {}
    return [
        {
            "model": model.id,
            "recipe": report["source"]["recipe"],
            "rows": parity.get("rows"),
            "max_abs": _short(parity.get("max_abs")),
            "max_rel": _short(parity.get("max_rel")),
            "label_agreement": parity.get("label_agreement"),
            "size": human(sum(layer.descriptor.size for layer in conversion.layers)),
        }
    ]


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:.1e}"
