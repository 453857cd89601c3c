"""``LocalWebservice``: a service on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from edgepack.errors import UsageError
from packager.exceptions import translated
from packager.sdk.owner import Named, Owner
from packager.sdk.webservice.deployment import DeploymentConfiguration
from packager.sdk.webservice.service import Webservice
from packager.services.configuration.values import ComputeType

if TYPE_CHECKING:
    from packager.sdk.inference import InferenceConfig

_KEYS = "a service on this machine answers this machine alone, and has no keys or tokens"


class LocalWebservice(Webservice):
    """A service on this machine, which answers this machine alone."""

    STATE_DEPLOYING: ClassVar[str] = "deploying"
    STATE_RUNNING: ClassVar[str] = "running"
    STATE_FAILED: ClassVar[str] = "failed"
    STATE_DELETED: ClassVar[str] = "deleted"
    STATE_UNKNOWN: ClassVar[str] = "unknown"

    _KIND = ComputeType.LOCAL
    _kind_in_words = "Local webservice"

    def __init__(self, workspace: Owner, name: str, must_exist: bool = True) -> None:
        super().__init__(workspace, name)

    @staticmethod
    def deploy_configuration(port: int | None = None) -> DeploymentConfiguration:
        """A configuration for this machine; ``port`` is a free one without."""
        return DeploymentConfiguration("local", {"port": port})

    @property
    def port(self) -> int | None:
        """The port on which it answers."""
        return self._service.port

    @translated
    def update(
        self,
        models: Sequence[Named | str] | None = None,
        image_config: object = None,
        deployment_config: DeploymentConfiguration | None = None,
        wait: bool = False,
        inference_config: InferenceConfig | None = None,
    ) -> None:
        """Change the models, the script or the port; the old version answers until the new one is healthy."""
        if image_config is not None:
            raise UsageError("is of an older SDK", where="image_config", hint="give inference_config")
        self._update(models, inference_config, deployment_config)

    @translated
    def reload(self, wait: bool = False) -> None:
        """Run the script as it is now, without building an image; one that does not start leaves what ran."""
        self._take(*self._services.reload(self.name))

    @translated
    def delete(self, delete_cache: bool = True, delete_image: bool = False, delete_volume: bool = True) -> None:
        """Stop and forget it; with ``delete_image`` its package too."""
        package = self._service.package
        super().delete()
        if delete_image and package in self.workspace.parts.store.tags():
            self.workspace.parts.store.untag([package])

    def get_keys(self) -> tuple[str, str]:
        """Raises ``NotImplementedError``, as Azure's does."""
        raise NotImplementedError(_KEYS)

    def regen_key(self, key: str, set_key: str | None = None) -> None:
        """Raises ``NotImplementedError``, as Azure's does."""
        raise NotImplementedError(_KEYS)

    def get_token(self) -> tuple[str, datetime]:
        """Raises ``NotImplementedError``, as Azure's does."""
        raise NotImplementedError(_KEYS)
