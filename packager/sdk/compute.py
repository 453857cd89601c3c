"""``ComputeTarget`` and ``AksCompute``: clusters of Kubernetes that the workspace knows by names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, NoReturn, ParamSpec, TypeVar

from edgepack.errors import EdgepackError, NotFoundError, RuntimeFailedError, UsageError
from packager.exceptions import AzureMLException, ComputeTargetException, UserErrorException
from packager.sdk.arguments import PathLike, path_of
from packager.sdk.owner import Owner
from packager.services.targets.compute_target import ComputeTarget as Cluster
from packager.services.targets.compute_targets import ComputeTargets

_P = ParamSpec("_P")
_R = TypeVar("_R")
_KINDS: dict[type[EdgepackError], type[EdgepackError]] = {}


def _translated(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """``function``, whose errors are Azure's ``ComputeTargetException`` too."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except EdgepackError as error:
            kind = type(error)
            if not isinstance(error, AzureMLException):
                if kind not in _KINDS:
                    also = (ComputeTargetException, UserErrorException)
                    names = also if issubclass(kind, UsageError) else also[:1]
                    _KINDS[kind] = type(
                        kind.__name__, (kind, *names), {"__module__": kind.__module__, "__doc__": kind.__doc__}
                    )
                error.__class__ = _KINDS[kind]
            raise

    return call


@dataclass(frozen=True)
class AksAttachConfiguration:
    """Which cluster is to be known; ``AksCompute.attach_configuration`` makes one."""

    context: str | None
    kubeconfig: Path | None
    namespace: str | None
    pull_secret: str | None


class ComputeTarget:
    """A compute target of the workspace by its name; raises ``ComputeTargetException`` where there is none."""

    type: ClassVar[str] = "AKS"
    """What Azure calls a cluster of Kubernetes."""
    workspace: Owner
    _target: Cluster
    _state: tuple[bool, str | None] | None

    def __new__(cls, *_: object, **__: object) -> ComputeTarget:
        """A cluster is an ``AksCompute``, as in Azure's SDK."""
        return object.__new__(AksCompute)

    @_translated
    def __init__(self, workspace: Owner, name: str) -> None:
        self._take(workspace, self._found(workspace, name))

    def _take(self, workspace: Owner, target: Cluster) -> None:
        self.workspace, self._target, self._state = workspace, target, None

    @staticmethod
    def _found(workspace: Owner, name: str) -> Cluster:
        try:
            return ComputeTargets(workspace.parts).get(name)
        except NotFoundError as error:
            raise NotFoundError(f"ComputeTargetNotFound: {error.what}", where=error.where, hint=error.hint) from None

    @classmethod
    def _of(cls, workspace: Owner, target: Cluster) -> ComputeTarget:
        made = object.__new__(AksCompute)
        made._take(workspace, target)
        return made

    def __repr__(self) -> str:
        return f"AksCompute(name={self.name!r}, context={self._target.context!r})"

    @property
    def name(self) -> str:
        """Its name."""
        return self._target.name

    @property
    def provisioning_state(self) -> str:
        """``Succeeded`` where the cluster answers and lets its user deploy, or else ``Failed``."""
        return "Succeeded" if self._looked[0] else "Failed"

    @property
    def provisioning_errors(self) -> list[str]:
        """Why it cannot be used."""
        return [reason for reason in self._looked[1:] if reason is not None]

    @property
    def _looked(self) -> tuple[bool, str | None]:
        if self._state is None:
            self._state = ComputeTargets(self.workspace.parts).state(self._target)
        return self._state

    @staticmethod
    @_translated
    def attach(workspace: Owner, name: str, attach_configuration: AksAttachConfiguration) -> ComputeTarget:
        """Know a cluster as ``name``; one that is known by that name already is replaced, as in Azure's SDK."""
        if not isinstance(attach_configuration, AksAttachConfiguration):
            raise UsageError(
                f"is a {type(attach_configuration).__name__}", where="attach_configuration",
                hint="write AksCompute.attach_configuration(cluster_name='a-context-of-kubectl')",
            )  # fmt: skip
        given = attach_configuration
        made = Cluster(name, given.kubeconfig, given.context, given.namespace, given.pull_secret)
        return ComputeTarget._of(workspace, ComputeTargets(workspace.parts).attach(made, replaced=True))

    @staticmethod
    @_translated
    def create(workspace: Owner, name: str, provisioning_configuration: object) -> NoReturn:
        """Refused: there is no cloud here that could make a cluster."""
        _no_cloud("ComputeTarget.create")

    @staticmethod
    @_translated
    def list(workspace: Owner) -> list[ComputeTarget]:
        """The compute targets of ``workspace``."""
        return [ComputeTarget._of(workspace, one) for one in ComputeTargets(workspace.parts).list()]

    @_translated
    def detach(self) -> None:
        """Forget it; the cluster stays as it is. Raises ``ComputeTargetException`` while services run there."""
        ComputeTargets(self.workspace.parts).detach(self.name)

    @_translated
    def delete(self) -> NoReturn:
        """Refused: the cluster is not ours to delete."""
        raise UsageError(
            "the cluster is not edgepack's to delete", where=f"compute target {self.name}", hint="forget it: detach()"
        )

    @_translated
    def refresh_state(self) -> None:
        """Look at it again."""
        self._target = self._found(self.workspace, self.name)
        self._state = None

    def get_status(self) -> str:
        """Its ``provisioning_state``, looked at again."""
        self.refresh_state()
        return self.provisioning_state

    @_translated
    def wait_for_completion(self, show_output: bool = False) -> None:
        """Raise ``ComputeTargetException`` with the reason where the cluster cannot be used; there is no waiting."""
        self.refresh_state()
        is_usable, reason = self._looked
        if not is_usable:
            raise RuntimeFailedError(reason or "cannot be used", where=f"compute target {self.name}")
        if show_output:
            sys.stdout.write(f"Compute target {self.name} is attached: context {self._target.context}\n")

    def serialize(self) -> dict[str, Any]:
        """Its fields; no cluster is asked."""
        return self._target.to_json() | {"type": self.type}


class AksCompute(ComputeTarget):
    """A cluster of Kubernetes, wherever it is."""

    class ClusterPurpose:
        """What Azure checks the size of a cluster by; it says nothing here."""

        FAST_PROD = "FastProd"
        DEV_TEST = "DevTest"

    @staticmethod
    @_translated
    def attach_configuration(
        resource_group: str | None = None,
        cluster_name: str | None = None,
        resource_id: str | None = None,
        cluster_purpose: str | None = None,
        load_balancer_type: str | None = None,
        load_balancer_subnet: str | None = None,
        *,
        kubeconfig: PathLike | None = None,
        namespace: str | None = None,
        pull_secret: str | None = None,
    ) -> AksAttachConfiguration:
        """Which cluster: ``cluster_name`` is the context of kubectl's configuration, or of the ``kubeconfig`` given.

        So ``az aks get-credentials`` calls it. Of a ``resource_id`` it is the last part; where a cluster is in Azure
        does not matter.
        """
        for name, value in (("load_balancer_type", load_balancer_type), ("load_balancer_subnet", load_balancer_subnet)):
            if value is not None:
                raise UsageError("exists only in Azure", where=name, hint="leave it out")
        purposes = (AksCompute.ClusterPurpose.FAST_PROD, AksCompute.ClusterPurpose.DEV_TEST)
        if cluster_purpose not in (None, *purposes):
            raise UsageError(f"{cluster_purpose!r} is not {' or '.join(purposes)}", where="cluster_purpose")
        if resource_id is not None:
            if cluster_name is not None:
                raise UsageError("is given beside resource_id", where="cluster_name", hint="give one of them")
            cluster_name = resource_id.rstrip("/").rpartition("/")[2]
        if not cluster_name:
            raise UsageError(
                "names no cluster", where="attach_configuration",
                hint="give cluster_name, a context of kubectl's configuration",
            )  # fmt: skip
        file = path_of(kubeconfig)
        return AksAttachConfiguration(
            cluster_name, None if file is None else file.expanduser().absolute(), namespace, pull_secret
        )

    @staticmethod
    @_translated
    def provisioning_configuration(
        agent_count: int | None = None,
        vm_size: str | None = None,
        ssl_cname: str | None = None,
        ssl_cert_pem_file: str | None = None,
        ssl_key_pem_file: str | None = None,
        location: str | None = None,
        vnet_resourcegroup_name: str | None = None,
        vnet_name: str | None = None,
        subnet_name: str | None = None,
        service_cidr: str | None = None,
        dns_service_ip: str | None = None,
        docker_bridge_cidr: str | None = None,
        cluster_purpose: str | None = None,
        load_balancer_type: str | None = None,
        load_balancer_subnet: str | None = None,
    ) -> NoReturn:
        """Refused: there is no cloud here that could make a cluster."""
        _no_cloud("AksCompute.provisioning_configuration")


def _no_cloud(where: str) -> NoReturn:
    raise UsageError(
        "there is no cloud here that could make a cluster", where=where,
        hint="make one by other means, and attach it: AksCompute.attach_configuration(cluster_name='its-context')",
    )  # fmt: skip
