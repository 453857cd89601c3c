"""``AciWebservice``: a service on a device of the fleet, which stands for Azure's container instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgepack.errors import UsageError
from packager.exceptions import translated
from packager.sdk.owner import Named
from packager.sdk.webservice.deployment import DeploymentConfiguration, refuse_cloud
from packager.sdk.webservice.service import Webservice
from packager.services.configuration.values import ComputeType

if TYPE_CHECKING:
    from packager.sdk.inference import InferenceConfig


class AciWebservice(Webservice):
    """A service on a device of the fleet."""

    _KIND = ComputeType.DEVICE

    @staticmethod
    @translated
    def deploy_configuration(
        cpu_cores: float | None = None,
        memory_gb: float | None = None,
        tags: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
        description: str | None = None,
        location: str | None = None,
        auth_enabled: bool | None = None,
        ssl_enabled: bool | None = None,
        enable_app_insights: bool | None = None,
        ssl_cert_pem_file: str | None = None,
        ssl_key_pem_file: str | None = None,
        ssl_cname: str | None = None,
        dns_name_label: str | None = None,
        primary_key: str | None = None,
        secondary_key: str | None = None,
        collect_model_data: bool | None = None,
        cmk_vault_base_url: str | None = None,
        cmk_key_name: str | None = None,
        cmk_key_version: str | None = None,
        vnet_name: str | None = None,
        subnet_name: str | None = None,
    ) -> DeploymentConfiguration:
        """A configuration for a device; raises ``InvalidDocumentError`` with everything that is wrong."""
        given = dict(locals())
        cloud = ("cmk_vault_base_url", "cmk_key_name", "cmk_key_version", "vnet_name", "subnet_name")
        refuse_cloud({name: given.pop(name) for name in cloud})
        return DeploymentConfiguration("aci", given)

    @translated
    def update(
        self,
        image: object = None,
        tags: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
        description: str | None = None,
        auth_enabled: bool | None = None,
        ssl_enabled: bool | None = None,
        ssl_cert_pem_file: str | None = None,
        ssl_key_pem_file: str | None = None,
        ssl_cname: str | None = None,
        enable_app_insights: bool | None = None,
        models: Sequence[Named | str] | None = None,
        inference_config: InferenceConfig | None = None,
    ) -> None:
        """Change what is given; the old version answers until the new one is healthy."""
        if image is not None:
            raise UsageError("is of an older SDK", where="image", hint="give models, or an inference_config")
        given = {
            "auth_enabled": auth_enabled, "ssl_enabled": ssl_enabled, "ssl_cert_pem_file": ssl_cert_pem_file,
            "ssl_key_pem_file": ssl_key_pem_file, "ssl_cname": ssl_cname, "enable_app_insights": enable_app_insights,
        }  # fmt: skip
        changed = merged("aci", self._service.deployment, given)
        self._update(models, inference_config, changed, tags, properties, description)


def merged(kind: str, written: Mapping[str, object], given: Mapping[str, object]) -> DeploymentConfiguration | None:
    """The configuration ``written`` with what is ``given`` in it; ``None`` where nothing is."""
    from packager.sdk.webservice.deployment import arguments_of

    said = {name: value for name, value in given.items() if value is not None}
    return DeploymentConfiguration(kind, {**arguments_of(kind, written), **said}) if said else None
