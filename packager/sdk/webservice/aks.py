"""``AksWebservice``: a service on Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from edgepack.errors import UsageError
from packager.exceptions import translated
from packager.sdk.arguments import refuse_unknown
from packager.sdk.owner import Named
from packager.sdk.webservice.aci import merged
from packager.sdk.webservice.deployment import KUBERNETES, DeploymentConfiguration
from packager.sdk.webservice.service import Webservice, local_time
from packager.services.configuration.values import ComputeType

if TYPE_CHECKING:
    from packager.sdk.inference import InferenceConfig


@dataclass(frozen=True)
class AksServiceAccessToken:
    """A token for the header ``Authorization``, from when on to get another one, and when it expires."""

    access_token: str = field(repr=False)
    token_type: str
    refresh_after: datetime
    expiry_on: datetime


class AksWebservice(Webservice):
    """A service on Kubernetes."""

    _KIND: ClassVar[str] = ComputeType.KUBERNETES

    @staticmethod
    @translated
    def deploy_configuration(
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
        compute_target_name: str | None = None,
        cpu_cores_limit: float | None = None,
        memory_gb_limit: float | None = None,
        blobfuse_enabled: bool | None = None,
    ) -> DeploymentConfiguration:
        """A configuration for Kubernetes; raises ``InvalidDocumentError`` with everything that is wrong."""
        given = dict(locals())
        if given.pop("blobfuse_enabled"):
            raise UsageError("exists only in Azure", where="blobfuse_enabled", hint="leave it out")
        return DeploymentConfiguration("aks", given)

    @translated
    def update(
        self,
        image: object = None,
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
        namespace: str | None = None,
        token_auth_enabled: bool | None = None,
        cpu_cores_limit: float | None = None,
        memory_gb_limit: float | None = None,
        **kwargs: object,
    ) -> None:
        """Change what is given; the old version answers until the new one is healthy."""
        given = dict(locals())
        refuse_unknown("update", kwargs, (*KUBERNETES, "models", "inference_config", "tags", "properties"))
        if image is not None:
            raise UsageError("is of an older SDK", where="image", hint="give models, or an inference_config")
        changed = merged("aks", self._service.deployment, {name: given[name] for name in KUBERNETES if name in given})
        self._update(models, inference_config, changed, tags, properties, description)

    @translated
    def get_access_token(self) -> AksServiceAccessToken:
        """A token with what a caller must know of it; raises ``WebserviceException`` where it asks for none."""
        found = self._token()
        return AksServiceAccessToken(
            str(found.text), "Bearer", local_time(found.refresh_after), local_time(found.expires)
        )
