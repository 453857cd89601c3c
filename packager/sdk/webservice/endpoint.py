"""``AksEndpoint``: versions of a service behind one address, on this machine or on a device."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgepack.errors import NotFoundError, RuntimeFailedError, UsageError
from packager.exceptions import translated
from packager.sdk.arguments import labels_of
from packager.sdk.owner import Named, Owner
from packager.sdk.packaging import package_inputs
from packager.sdk.webservice.aks import AksWebservice
from packager.sdk.webservice.change import change_of, source_of
from packager.sdk.webservice.deployment import KUBERNETES, arguments_of
from packager.sdk.webservice.endpoint_configuration import EndpointConfiguration, share_of, version_configuration
from packager.sdk.webservice.endpoint_version import EndpointVersion, VersionType
from packager.services.configuration.values import Auth, ComputeType
from packager.services.endpoint_deploying import Endpoints, Observed, Settings, Version
from packager.services.plan import Change, Request
from packager.services.service import Service
from packager.services.states import State
from packager.services.targets.base import Observation

if TYPE_CHECKING:
    from packager.sdk.inference import InferenceConfig
    from packager.services.configuration.rules import Configuration
    from packager.services.endpoints.endpoint import Endpoint

_SERVING = (State.HEALTHY, State.UNKNOWN)


class AksEndpoint(AksWebservice):
    """An endpoint: one address, and up to six versions, each with a share of the requests.

    Raises ``NotFoundError``, which is Azure's ``WebserviceException`` too.
    """

    _KIND: ClassVar[str] = "AKSENDPOINT"

    VersionType = VersionType
    _endpoint: Endpoint
    _versions: dict[str, EndpointVersion]

    @translated
    def __init__(self, workspace: Owner, name: str) -> None:
        self.workspace = workspace
        try:
            self._look(Endpoints(workspace.parts).observe(name))
        except NotFoundError as error:
            raise NotFoundError(f"WebserviceNotFound: {error.what}", where=error.where, hint=error.hint) from None

    @classmethod
    def _deployed(cls, workspace: Owner, found: Observed) -> AksEndpoint:
        made = object.__new__(cls)
        made.workspace = workspace
        made._look(found)
        return made

    def _look(self, found: Observed) -> None:
        """Take in the endpoint, its versions, and how it was when it was looked at."""
        self._endpoint, shares = found.endpoint, found.endpoint.shares
        services = {name: self._services.get(found.endpoint.service(name)) for name in shares}
        self._versions = {
            name: EndpointVersion._part_of(self.workspace, found.endpoint, name, service)
            for name, service in services.items()
        }
        seen = None
        if found.seen is not None:
            seen = Observation(State(found.seen.state.value), found.seen.reason, port=found.endpoint.port)
        self._url = None if found.seen is None else found.seen.url
        self._take(services[found.endpoint.default], seen)

    # What it is

    @property
    def name(self) -> str:
        """Its name."""
        return self._endpoint.name

    @property
    def compute_type(self) -> str:
        """``AKSENDPOINT``, by Azure's name, wherever it is."""
        return self._KIND

    @property
    def versions(self) -> dict[str, EndpointVersion]:
        """Its versions by their names, a copy."""
        return dict(self._versions)

    @property
    def state(self) -> str:
        """Its state when it was last looked at: ``update_deployment_state`` looks again."""
        return self._observed.state.value

    @property
    def error(self) -> str | None:
        """Why it is as it is."""
        return self._observed.reason

    @property
    def tags(self) -> dict[str, str]:
        """Its tags, a copy; ``update`` changes them."""
        return dict(self._endpoint.tags)

    @property
    def properties(self) -> dict[str, str]:
        """Its properties, a copy; they only grow."""
        return dict(self._endpoint.properties)

    @property
    def description(self) -> str | None:
        """What it is for."""
        return self._endpoint.description

    @property
    def created_time(self) -> str:
        """When it was first deployed, in UTC."""
        return self._endpoint.created

    @property
    def updated_time(self) -> str:
        """When it was last changed, in UTC."""
        return self._endpoint.updated

    @property
    def models(self) -> Sequence[Any]:
        """The models that its versions serve, each once."""
        return [self.workspace.models[one] for one in self._model_ids]

    @property
    def _model_ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one for version in self._versions.values() for one in version._model_ids))

    @property
    def _observed(self) -> Observation:
        if self._seen is None:  # where its router reports nothing: as its versions are
            from packager.services.looking import look

            parts = [version._service for version in self._versions.values() if version.traffic_percentile]
            found = look(self.workspace.parts, parts)
            bad = next((name for name, one in found.items() if one.state not in _SERVING), None)
            first = found[self._service.name]
            self._seen = first if bad is None else replace(found[bad], reason=f"{bad}: {found[bad].reason}")
        return self._seen

    def _address(self, path: str) -> str | None:
        address = Endpoints(self.workspace.parts).address(self._endpoint) or self._url
        return None if address is None else address + path

    def _recorded(self) -> Service:
        """The service of the default version, as it is recorded now."""
        one = Endpoints(self.workspace.parts).get(self.name)
        return self._services.get(one.service(one.default))

    # Versions

    @staticmethod
    @translated
    def deploy_configuration(  # type: ignore[override]  # as Azure has it
        autoscale_enabled: bool | None = None,
        autoscale_min_replicas: int | None = None,
        autoscale_max_replicas: int | None = None,
        autoscale_refresh_seconds: int | None = None,
        autoscale_target_utilization: int | None = None,
        collect_model_data: bool | None = None,
        auth_enabled: bool | None = None,
        cpu_cores: float | None = None,
        memory_gb: float | None = None,
        enable_app_insights: bool | None = None,
        scoring_timeout_ms: int | None = None,
        replica_max_concurrent_requests: int | None = None,
        max_request_wait_time: int | None = None,
        num_replicas: int | None = None,
        primary_key: str | None = None,
        secondary_key: str | None = None,
        tags: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
        description: str | None = None,
        gpu_cores: int | None = None,
        period_seconds: int | None = None,
        initial_delay_seconds: int | None = None,
        timeout_seconds: int | None = None,
        success_threshold: int | None = None,
        failure_threshold: int | None = None,
        namespace: str | None = None,
        token_auth_enabled: bool | None = None,
        version_name: str | None = None,
        traffic_percentile: float | None = None,
        compute_target_name: str | None = None,
        cpu_cores_limit: float | None = None,
        memory_gb_limit: float | None = None,
    ) -> EndpointConfiguration:
        """A configuration for an endpoint and its first version; it names a device, or it is for this machine.

        Raises ``InvalidDocumentError`` with everything that is wrong, ``UsageError`` for what is for Kubernetes.
        """
        return EndpointConfiguration(dict(locals()))

    @translated
    def create_version(
        self,
        version_name: str,
        autoscale_enabled: bool | None = None,
        autoscale_min_replicas: int | None = None,
        autoscale_max_replicas: int | None = None,
        autoscale_refresh_seconds: int | None = None,
        autoscale_target_utilization: int | None = None,
        collect_model_data: bool | None = None,
        cpu_cores: float | None = None,
        memory_gb: float | None = None,
        scoring_timeout_ms: int | None = None,
        replica_max_concurrent_requests: int | None = None,
        max_request_wait_time: int | None = None,
        num_replicas: int | None = None,
        tags: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
        description: str | None = None,
        models: Sequence[Named | str] | None = None,
        inference_config: InferenceConfig | None = None,
        gpu_cores: int | None = None,
        period_seconds: int | None = None,
        initial_delay_seconds: int | None = None,
        timeout_seconds: int | None = None,
        success_threshold: int | None = None,
        failure_threshold: int | None = None,
        traffic_percentile: float | None = None,
        is_default: bool | None = None,
        is_control_version_type: bool | None = None,
        cpu_cores_limit: float | None = None,
        memory_gb_limit: float | None = None,
    ) -> None:
        """Add a version: it is deployed, and gets its share of the requests when it is healthy."""
        given, kind = dict(locals()), self._endpoint.compute_type
        said = {name: given[name] for name in KUBERNETES if name in given}
        if kind is ComputeType.DEVICE:
            said["auth_enabled"] = self._recorded().auth is Auth.KEY
        configuration = version_configuration(said, kind)
        inputs = package_inputs(self.workspace, [] if models is None else models, inference_config)
        request = Request(
            self.name, inputs.refs, inputs.options, configuration, self._endpoint.target, source_of(inference_config),
            description, labels_of(tags, "tags"), labels_of(properties, "properties"),
        )  # fmt: skip
        version = Version(
            version_name, request, share_of(traffic_percentile) or 0, bool(is_default), bool(is_control_version_type)
        )
        from packager.bars import bars

        with bars() as progress:
            self._look(Endpoints(self.workspace.parts).create_version(self.name, version, progress))

    @translated
    def update_version(
        self,
        version_name: str,
        autoscale_enabled: bool | None = None,
        autoscale_min_replicas: int | None = None,
        autoscale_max_replicas: int | None = None,
        autoscale_refresh_seconds: int | None = None,
        autoscale_target_utilization: int | None = None,
        collect_model_data: bool | None = None,
        cpu_cores: float | None = None,
        memory_gb: float | None = None,
        scoring_timeout_ms: int | None = None,
        replica_max_concurrent_requests: int | None = None,
        max_request_wait_time: int | None = None,
        num_replicas: int | None = None,
        tags: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
        description: str | None = None,
        models: Sequence[Named | str] | None = None,
        inference_config: InferenceConfig | None = None,
        gpu_cores: int | None = None,
        period_seconds: int | None = None,
        initial_delay_seconds: int | None = None,
        timeout_seconds: int | None = None,
        success_threshold: int | None = None,
        failure_threshold: int | None = None,
        traffic_percentile: float | None = None,
        is_default: bool | None = None,
        is_control_version_type: bool | None = None,
        cpu_cores_limit: float | None = None,
        memory_gb_limit: float | None = None,
    ) -> None:
        """Change a version, or its share of the requests; it answers as before until the new one is healthy."""
        given = dict(locals())
        if all(value is None for name, value in given.items() if name not in ("self", "version_name")):
            raise UsageError("says nothing to change", where=f"version {version_name}", hint="give models, or a share")
        change = change_of(self.workspace, models, inference_config, None)
        change = replace(
            change, description=description,
            tags=None if tags is None else labels_of(tags, "tags"),
            properties=None if properties is None else labels_of(properties, "properties"),
        )  # fmt: skip
        said = {name: given[name] for name in KUBERNETES if given.get(name) is not None}
        if said:
            change = replace(change, configuration=self._changed_configuration(version_name, said))
        from packager.bars import bars

        with bars() as progress:
            found = Endpoints(self.workspace.parts).update_version(
                self.name, version_name, None if change == Change() else change, weight=share_of(traffic_percentile),
                is_default=is_default, is_control=is_control_version_type, progress=progress,
            )  # fmt: skip
        self._look(found)

    def _changed_configuration(self, version: str, said: Mapping[str, object]) -> Configuration | None:
        """The configuration of a version with what is ``said`` in it; ``None`` here, where it has nothing to change."""
        kind, written = self._endpoint.compute_type, self._services.get(self._endpoint.service(version)).deployment
        kept = {} if kind is ComputeType.LOCAL else arguments_of("aci", written)
        made = version_configuration({**kept, **said}, kind)
        return None if kind is ComputeType.LOCAL else made

    @translated
    def delete_version(self, version_name: str) -> None:
        """Delete a version that gets no requests and is not the default; raises ``UsageError`` for another one."""
        self._look(Endpoints(self.workspace.parts).delete_version(self.name, version_name))

    # What is done with it

    @translated
    def update(  # type: ignore[override]  # as Azure has it
        self,
        auth_enabled: bool | None = None,
        token_auth_enabled: bool | None = None,
        enable_app_insights: bool | None = None,
        description: str | None = None,
        tags: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
    ) -> None:
        """Change the endpoint itself; its versions are changed by ``update_version``."""
        where = f"endpoint {self.name}"
        if all(value is None for name, value in locals().items() if name not in ("self", "where")):
            raise UsageError("says nothing to change", where=where, hint="give tags, a description or properties")
        if auth_enabled not in (None, self.auth_enabled):
            raise UsageError(
                "what its callers show does not change", where=where,
                hint=f"deploy another endpoint with auth_enabled={auth_enabled}",
            )  # fmt: skip
        if token_auth_enabled:
            version_configuration({"token_auth_enabled": True}, self._endpoint.compute_type)
        if enable_app_insights:
            version_configuration({"enable_app_insights": True}, ComputeType.DEVICE)
        settings = Settings(
            description=description,
            tags=None if tags is None else labels_of(tags, "tags"),
            properties=None if properties is None else labels_of(properties, "properties"),
        )
        self._look(Endpoints(self.workspace.parts).update(self.name, settings))

    @translated
    def update_deployment_state(self) -> None:
        """Look at it again."""
        self._look(Endpoints(self.workspace.parts).observe(self.name))

    @translated
    def wait_for_deployment(self, show_output: bool = False, timeout_sec: float | None = None) -> None:
        """Wait until its versions are healthy; raises ``WebserviceException`` with the reason where it is not."""
        self.update_deployment_state()
        if self.state == "Transitioning":
            for version in self._versions.values():
                self._services.wait(version.name, timeout_sec)
            self.update_deployment_state()
        if self.state in ("Failed", "Unhealthy", "Unschedulable"):
            raise RuntimeFailedError(
                self.error or f"is {self.state}", where=f"endpoint {self.name}", hint="see endpoint.get_logs()"
            )
        if show_output:
            sys.stdout.write(f"Endpoint {self.name} is {self.state.lower()} at {self.scoring_uri}\n")

    @translated
    def get_logs(self, num_lines: int = 5000, init: bool = False) -> str:
        """The last lines that each version wrote, below a line with its name."""
        return "".join(f"==> {name} <==\n{one.get_logs(num_lines, init)}" for name, one in self._versions.items())

    @translated
    def regen_key(self, key: str, set_key: str | None = None) -> None:
        """Put ``set_key`` or a new key in place of the ``primary`` or ``secondary`` one, for all versions."""
        from packager.services.credentials.keys import given_key, which_of

        which, own = which_of(key, "key"), None if set_key is None else given_key(set_key, "set_key")
        Endpoints(self.workspace.parts).regenerate(self.name, which, own)

    @translated
    def delete(self) -> None:
        """Close it, and delete its versions; models and packages stay."""
        Endpoints(self.workspace.parts).delete(self.name)

    def serialize(self) -> dict[str, Any]:
        """Its fields by Azure's names."""
        return super().serialize() | {"versions": {name: one.serialize() for name, one in self._versions.items()}}
