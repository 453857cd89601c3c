"""``Workspace``: where everything of the API begins."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.errors import NotFoundError, UsageError
from edgepack.names import ModelRef
from packager.exceptions import translated
from packager.sdk import configuration as config_file
from packager.sdk.arguments import PathLike, path_of, refuse_unknown
from packager.sdk.configuration import Configuration
from packager.sdk.environments import Environments
from packager.sdk.image import Image
from packager.sdk.model import Model
from packager.sdk.models import Models
from packager.sdk.run import Experiment, Run
from packager.workspaces.config import Team, WorkspaceConfig
from packager.workspaces.workspace import Workspace as Parts
from packager.workspaces.workspace import default_root

if TYPE_CHECKING:
    from packager.sdk.compute import ComputeTarget
    from packager.sdk.webservice.kinds import Webservice

__all__ = ["Experiment", "Run", "Workspace"]
_log = logging.getLogger(__name__)


class Workspace:
    """A workspace: ``Workspace()`` is the user's own, ``Workspace(path="here")`` the one in that folder.

    ::

        ws = packager.Workspace()
        model = ws.models.register("churn", "model.joblib")
        image = ws.build(model, tag="churn:1")

    Azure's three names give a workspace of that name on this machine; where it is in Azure does not matter.
    """

    @translated
    def __init__(
        self,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        workspace_name: str | None = None,
        auth: object = None,
        _location: str | None = None,
        _disable_service_check: bool = False,
        _workspace_id: str | None = None,
        sku: str = "basic",
        tags: Mapping[str, str] | None = None,
        _cloud: str = "AzureCloud",
        *,
        path: PathLike | None = None,
    ) -> None:
        if auth is not None:
            _log.warning("auth is ignored: a workspace of this machine needs no login")
        if path is not None and workspace_name is not None:
            raise UsageError("a path and a name are given", where="Workspace", hint="give one of them")
        self.subscription_id = subscription_id or ""
        self.resource_group = resource_group or ""
        self.location = _location or "local"
        self.sku = sku
        self.tags = dict(tags or {})
        self._name = workspace_name
        self.parts = Parts(path_of(path) if workspace_name is None else _named(workspace_name))

    def __repr__(self) -> str:
        return f"Workspace(name={self.name!r}, path={str(self.parts.root)!r})"

    @property
    def name(self) -> str:
        """What it is called: by its settings, by Azure's name, or by its folder."""
        return self._name or self.parts.config.name or self.parts.root.name

    # Getting one

    @staticmethod
    @translated
    def from_config(
        path: PathLike | None = None, auth: object = None, _logger: object = None, _file_name: str | None = None
    ) -> Workspace:
        """The workspace that a configuration file names: ``path``, or the first one found in a folder or above it.

        Azure's three keys give the workspace of that name; ``store`` names a folder, ``database`` and ``registry`` a
        team's. Raises ``NotFoundError`` that says where it looked, ``InvalidDocumentError``.
        """
        file = config_file.find(path_of(path), _file_name)
        found = config_file.read(file)
        folder = None if found.store is None else file.parent / Path(found.store).expanduser()
        name = None if folder is not None else found.workspace_name
        workspace = Workspace(found.subscription_id, found.resource_group, name, auth, path=folder)
        if found.database is not None and found.registry is not None:
            team = Team(found.database, found.registry.rstrip("/"), found.plain_http)
            wanted = WorkspaceConfig(found.workspace_name, team).check()
            if workspace.parts.config.team != team:
                if workspace.parts.exists and workspace.parts.holds_records():
                    hint = "move it: edgepack workspace migrate, or name another store"
                    raise UsageError("has models of its own already", where=workspace.parts.root, hint=hint)
                workspace.parts.configure(wanted)
        return workspace

    @staticmethod
    @translated
    def get(
        name: str,
        auth: object = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: str | None = None,
        cloud: str = "AzureCloud",
        id: str | None = None,  # noqa: A002 - Azure's name
    ) -> Workspace:
        """The workspace of that name on this machine; raises ``NotFoundError``."""
        workspace = Workspace(subscription_id, resource_group, name, auth)
        if not workspace.parts.exists:
            hint = f"make it: Workspace.create({name!r})"
            raise NotFoundError(f"workspace {name} not found", where=workspace.parts.root, hint=hint)
        return workspace

    @staticmethod
    @translated
    def create(
        name: str,
        auth: object = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: str | None = None,
        create_resource_group: bool = True,
        sku: str = "basic",
        tags: Mapping[str, str] | None = None,
        friendly_name: str | None = None,
        storage_account: object = None,
        key_vault: object = None,
        app_insights: object = None,
        container_registry: object = None,
        exist_ok: bool = False,
        show_output: bool = True,
        **kwargs: object,
    ) -> Workspace:
        """Make the workspace of that name on this machine; raises ``UsageError`` where there is one."""
        cloud = {
            "storage_account": storage_account, "key_vault": key_vault, "app_insights": app_insights,
            "container_registry": container_registry, **kwargs,
        }  # fmt: skip
        for argument, value in cloud.items():
            if value is not None:
                hint = "a team's registry and database are given to: edgepack workspace init"
                raise UsageError("exists only in Azure", where=argument, hint=hint)
        workspace = Workspace(subscription_id, resource_group, name, auth, location, sku=sku, tags=tags)
        if workspace.parts.exists and not exist_ok:
            hint = "give exist_ok=True, or another name"
            raise UsageError(f"workspace {name} exists already", where=workspace.parts.root, hint=hint)
        if not workspace.parts.exists:
            workspace.parts.configure(WorkspaceConfig(name).check())
        return workspace

    @translated
    def write_config(self, path: PathLike | None = None, file_name: str | None = None) -> None:
        """Write ``.azureml/config.json`` below ``path``, which ``from_config`` finds."""
        target = (path_of(path) or Path()) / ".azureml" / (file_name or "config.json")
        store = None if self._name is not None else str(self.parts.root)
        config_file.write(Configuration(self.subscription_id, self.resource_group, self.name, store), target)

    # What it has

    @cached_property
    def models(self) -> Models:
        """Its models: a dictionary of the latest versions, which registers and lists too."""
        return Models(self)

    @cached_property
    def environments(self) -> Environments:
        """Its environments: a dictionary of the latest versions, which registers and lists too."""
        return Environments(self)

    @property
    def webservices(self) -> dict[str, Webservice]:
        """Its services by name."""
        from packager.sdk.webservice.kinds import Webservice

        return {service.name: service for service in Webservice.list(self)}

    @property
    def compute_targets(self) -> dict[str, ComputeTarget]:
        """Its clusters of Kubernetes by name."""
        from packager.sdk.compute import ComputeTarget

        return {target.name: target for target in ComputeTarget.list(self)}

    @property
    def experiments(self) -> dict[str, Experiment]:
        """Its experiments by name."""
        return {experiment.name: experiment for experiment in Experiment.list(self)}

    @property
    def images(self) -> dict[str, Image]:
        """Its images by tag."""
        from packager.images.inspect import views

        found = {}
        for tag, root in sorted(self.parts.store.tags().items()):
            images = views(self.parts.store, root)
            size = sum(blob.size for image in images for blob in image.manifest.blobs)
            found[tag] = Image(self, tag, str(root.digest), tuple(str(image.platform) for image in images), size)
        return found

    @translated
    def get_run(self, run_id: str) -> Run:
        """The run of that id; raises ``NotFoundError``."""
        return Run.get(self, run_id)

    def get_details(self) -> dict[str, Any]:
        """Its name and where it is."""
        team = self.parts.config.team
        return {
            "name": self.name,
            "location": self.location,
            "sku": self.sku,
            "tags": self.tags,
            "folder": str(self.parts.root),
            "registry": None if team is None else team.registry,
        }

    # Images

    @translated
    def build(
        self,
        models: Model | str | Sequence[Model | str],
        tag: str | None = None,
        *,
        platforms: Sequence[str] | None = None,
        entry_script: PathLike | None = None,
        source_directory: PathLike | None = None,
        base: str | None = None,
        offline: bool = False,
        **unknown: object,
    ) -> Image:
        """Build the image that serves ``models`` (objects, or ``NAME[:VERSION]``); ``tag`` is ``NAME:VERSION`` without.

        A model that is not ONNX is converted first, once. ``platforms`` are such as ``linux/arm64``, this machine's
        without. Raises ``UsageError``, ``NotFoundError``, ``ConversionError``.
        """
        from edgepack.oci.descriptor import Platform
        from packager.images.build import BuildOptions
        from packager.inference.entry_script import read_entry_script

        refuse_unknown("build", unknown, ("models", "tag", "platforms", "entry_script", "base", "offline"))
        chosen = [models] if isinstance(models, Model | str) else list(models)
        refs = [ModelRef.parse(model) if isinstance(model, str) else ModelRef.parse(model.id) for model in chosen]
        if tag is None:
            first = self.parts.models.get(refs[0]) if refs else None
            if first is None:
                raise UsageError("an image without a model needs a tag", where="build", hint="give tag='NAME:1'")
            tag = f"{first.name.lower()}:{first.version}"
        script = None
        if entry_script is not None:
            script = read_entry_script(str(path_of(entry_script)), path_of(source_directory))
        self.parts.is_offline = offline
        built = self.parts.builder.build(
            refs,
            tag,
            [Platform.parse(text) for text in platforms] if platforms else [Platform.host()],
            BuildOptions(base=base, offline=offline, script=script),
        )
        names = tuple(str(image.platform) for image in built.images)
        size = sum(image.size for image in built.images)
        return Image(self, built.tag, str(built.descriptor.digest), names, size)


def _named(name: str) -> Path:
    WorkspaceConfig(name).check()
    return default_root() / "workspaces" / name


Run.default_workspace = Workspace
