"""The compute targets of a workspace: a file for each, in its own folder, since a kubeconfig is this workstation's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from edgepack.errors import EdgepackError, InvalidDocumentError, NotFoundError, UsageError, disk_errors
from edgepack.host.files import atomic_write, make_dirs
from edgepack.nearness import did_you_mean, listed
from packager.layers.secrets import check_record
from packager.services.configuration.values import ComputeType
from packager.services.registry import ServiceRegistry, now
from packager.services.targets.compute_target import ComputeTarget
from packager.services.targets.kubectl import Kubectl
from packager.services.targets.places import SERVICES
from packager.workspaces.workspace import Workspace

_FOLDER = "compute"


class ComputeTargets:
    """The compute targets of ``workspace``."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._folder = workspace.root / SERVICES / _FOLDER

    def list(self) -> tuple[ComputeTarget, ...]:
        """The targets by name."""
        with disk_errors(self._folder):
            files = sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []
        return tuple(_read(file) for file in files)

    def find(self, name: str) -> ComputeTarget | None:
        """The target called ``name``; ``None`` without one."""
        return next((one for one in self.list() if one.name == name), None)

    def get(self, name: str) -> ComputeTarget:
        """The target called ``name``; raises ``NotFoundError``."""
        found = self.find(name)
        if found is None:
            names = [one.name for one in self.list()]
            there = f"there are {listed(names)}" if names else f"attach it: edgepack compute attach {name}"
            raise NotFoundError(
                f"compute target {name!r} not found", where=self._folder, hint=did_you_mean(name, names, there)
            )
        return found

    def attach(self, target: ComputeTarget, *, replaced: bool = False) -> ComputeTarget:
        """Keep ``target``, whose kubeconfig has its context; the cluster itself is not asked.

        Raises ``NotFoundError`` without the kubeconfig, ``UsageError`` for a context that it lacks and a name that is
        there, unless it is to be ``replaced``.
        """
        target = replace(target.check(), created=now())
        where = f"compute target {target.name}"
        if not replaced and self.find(target.name) is not None:
            raise UsageError("is there already", where=where, hint="give --replace, or detach it first")
        if target.kubeconfig is not None and not target.kubeconfig.is_file():
            raise NotFoundError("there is no such kubeconfig", where=target.kubeconfig, hint="check its path")
        found = target.kubectl()
        if target.context is None:  # which may be another one tomorrow
            target = replace(target, context=found.run("config", "current-context").strip())
        else:
            found.check_context()
        check_record(target.to_json(), where)
        make_dirs(self._folder)
        atomic_write(self._file(target.name), json.dumps(target.to_json(), indent=2).encode())
        return target

    def detach(self, name: str) -> ComputeTarget:
        """Forget a target; the cluster stays as it is. Raises ``UsageError`` while services run there."""
        found = self.get(name)
        if used := self.services_of(name):
            raise UsageError(
                f"still has {listed([*used])}", where=f"compute target {name}",
                hint=f"delete it there first: edgepack service delete {used[0]}",
            )  # fmt: skip
        self._file(name).unlink(missing_ok=True)
        return found

    def services_of(self, name: str) -> tuple[str, ...]:
        """The services that run there."""
        there = ServiceRegistry.of(self._workspace).list()
        return tuple(one.name for one in there if one.compute_type is ComputeType.KUBERNETES and one.target == name)

    def state(self, target: ComputeTarget) -> tuple[bool, str | None]:
        """Whether the cluster answers and lets its user deploy, and why not."""
        try:
            target.kubectl().check_cluster()
        except EdgepackError as error:
            return False, str(error)
        return True, None

    def kubectl(self, name: str | None, namespace: str | None) -> tuple[Kubectl, str | None]:
        """What speaks to the target called ``name``, or else to that context; and the login that its pods name."""
        found = None if name is None else self.find(name)
        if found is None:
            return Kubectl(name, namespace), None
        return found.kubectl(namespace), found.pull_secret

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _read(file: Path) -> ComputeTarget:
    try:
        with disk_errors(file):
            return ComputeTarget.of_json(json.loads(file.read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidDocumentError(file, ["is not a compute target that was kept here"]) from error
