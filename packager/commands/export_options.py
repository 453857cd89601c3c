"""What the commands of ``edgepack export`` share: the service, where the files go, and the check of files."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from edgepack.errors import InvalidDocumentError, UsageError
from edgepack.host.console import answer, note
from packager.commands.options import common
from packager.exports.check.findings import Findings
from packager.exports.exported import Exported
from packager.exports.workload import Workload
from packager.workspaces.workspace import Workspace

_F = TypeVar("_F", bound=Callable[..., Any])
_SHOWN = 50


def exporting(
    check: Callable[[Sequence[Path]], Findings], joined: Callable[..., Exported] | None = None
) -> Callable[[_F], _F]:
    """Add the options of an export; with ``--check FILE`` files are held to ``check`` and nothing is written.

    ``joined`` writes an endpoint of the workspace, where that can be: it gets the workloads of its versions.

    The command gets a ``Workload``, and returns an ``Exported``, which is written.
    """

    def decorate(function: _F) -> _F:
        @functools.wraps(function)
        def command(
            *,
            service: str | None,
            folder: Path | None,
            checked: tuple[Path, ...],
            exist_ok: bool,
            name: str | None,
            repository: str | None,
            workspace: Workspace,
            output: str,
            **rest: Any,
        ) -> None:
            if checked:
                if service is not None or folder is not None:
                    raise click.UsageError("--check looks at files and writes none: leave out the rest.")
                _check(check, checked, output)
                return
            if service is None:
                raise click.UsageError("Missing argument 'PACKAGE|SERVICE'.")
            if folder is None:
                raise click.UsageError("Missing option '-o' / '--output-directory'.")
            from packager.services.endpoints.store import EndpointStore
            from packager.services.workloads import find_workload

            endpoint = next((one for one in EndpointStore(workspace.root).list() if one.name == service), None)
            if endpoint is not None:
                if joined is None or name is not None:
                    raise UsageError(
                        "is an endpoint, which only edgepack export kubernetes writes, under its own name",
                        where=service,
                        hint=f"name one of its versions: {endpoint.service(endpoint.default)}",
                    )
                workloads = {
                    version: find_workload(workspace, endpoint.service(version), None, repository)
                    for version in endpoint.weights
                }
                exported = joined(endpoint, workloads, functools.partial(function, workspace=workspace), rest)
                _write(exported, {"endpoint": service, "versions": [*workloads]}, folder, exist_ok, output)
                return
            workload = find_workload(workspace, service, name, repository)
            exported = function(workload=workload, workspace=workspace, **rest)
            value = {"service": workload.name, "package": workload.package, "digest": str(workload.digest)}
            _write(exported, value, folder, exist_ok, output)

        for option in (
            click.option("--exist-ok", is_flag=True, help="Replace files that are there already."),
            click.option(
                "--check", "checked", multiple=True, metavar="FILE",
                type=click.Path(path_type=Path), help="Check this file, or a folder's, instead.",
            ),
            click.option(
                "--repository", metavar="REGISTRY/REPOSITORY",
                help="Where the image was pushed to.  [default: what the package's name says]",
            ),
            click.option("--name", metavar="NAME", help="What it is called there.  [default: as the package]"),
            click.option(
                "-o", "--output-directory", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
                help="Where the files are written.",
            ),
        ):  # fmt: skip
            command = option(command)
        argument = click.argument("service", required=False, metavar="PACKAGE|SERVICE")
        return cast(_F, argument(common(command)))

    return decorate


def _write(exported: Exported, what: Mapping[str, object], folder: Path, exist_ok: bool, output: str) -> None:
    paths = exported.write(folder, replace=exist_ok)
    value = {
        **what,
        "folder": str(folder),
        "files": [path.name for path in paths],
        "notes": list(exported.notes),
    }
    answer(output, value, [{"file": str(path)} for path in paths])
    for text in exported.notes:
        note(text)


def _check(check: Callable[[Sequence[Path]], Findings], paths: Sequence[Path], output: str) -> None:
    findings = check(paths)
    for text in findings.remarks[:_SHOWN]:
        note(f"remark: {text}")
    if len(findings.remarks) > _SHOWN:
        note(f"and {len(findings.remarks) - _SHOWN} remarks more")
    if findings.violations:
        raise InvalidDocumentError(
            f"{len(findings.violations)} {'fault' if len(findings.violations) == 1 else 'faults'}", findings.violations
        )
    names = [str(path) for path in paths]
    answer(output, {"files": names, "remarks": findings.remarks},
           [{"file": name, "faults": 0} for name in names])  # fmt: skip


def pulled(workload: Workload) -> bool:
    """Whether the image is in a registry."""
    return workload.repository is not None


def weight(text: str) -> tuple[str, int]:
    """``NAME=WEIGHT``; raises ``UsageError``."""
    name, equals, number = text.partition("=")
    if not equals or not number.isdecimal():
        raise UsageError(f"{text!r} is not NAME=WEIGHT", where="--weight", hint="write it as --weight churn-v1=80")
    return name, int(number)
