"""``Model``: a registered model as scripts use it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.errors import UsageError
from packager.exceptions import translated
from packager.models.details import ModelDetails
from packager.models.download import download
from packager.models.model import Model as Record
from packager.models.model import resources_to_json
from packager.models.query import ModelQuery
from packager.sdk.arguments import (
    PathLike,
    filters_of,
    framework_of,
    label_of,
    labels_of,
    path_of,
    refuse_unknown,
)
from packager.sdk.framework import FrameworkNames
from packager.sdk.model_lookup import find_model
from packager.sdk.owner import Owner
from packager.sdk.resources import ResourceConfiguration, configuration_of, resources_of

if TYPE_CHECKING:
    from packager.sdk.inference import InferenceConfig
    from packager.sdk.package import ModelPackage
    from packager.sdk.webservice.deployment import DeploymentConfiguration
    from packager.sdk.webservice.service import Webservice


class Model:
    """A model in a workspace's registry.

    ``Model(ws, "churn")`` is its latest version, ``Model(ws, "churn", version=2)`` and ``Model(ws, id="churn:2")`` are
    one of them; further arguments choose the latest that has these tags and properties, or that a run made.
    """

    Framework = FrameworkNames

    @translated
    def __init__(
        self,
        workspace: Owner,
        name: str | None = None,
        id: str | None = None,  # noqa: A002 - Azure's name
        tags: Sequence[Any] | None = None,
        properties: Sequence[Any] | None = None,
        version: int | str | None = None,
        run_id: str | None = None,
        model_framework: str | None = None,
        expand: bool = True,
        **kwargs: object,
    ) -> None:
        refuse_unknown("Model", kwargs, ("name", "id", "tags", "properties", "version", "run_id", "model_framework"))
        self.workspace = workspace
        self._take(find_model(workspace, name, id, tags, properties, version, run_id, model_framework))

    @classmethod
    def _of(cls, workspace: Owner, record: Record) -> Model:
        model = cls.__new__(cls)
        model.workspace = workspace
        model._take(record)
        return model

    def _take(self, record: Record) -> None:
        self._record = record

    def __repr__(self) -> str:
        return (
            f"Model(workspace={self.workspace!r}, name={self.name}, id={self.id}, version={self.version}, "
            f"tags={self.tags}, properties={self.properties})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self._record == other._record

    def __hash__(self) -> int:
        return hash(self.id)

    # What it is

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def version(self) -> int:
        """Its number among those of its name."""
        return self._record.version

    @property
    def id(self) -> str:
        """``name:version``."""
        return self._record.id

    @property
    def tags(self) -> dict[str, str]:
        """Its tags, a copy; ``add_tags`` changes them."""
        return dict(self._record.tags)

    @property
    def properties(self) -> dict[str, str]:
        """Its properties, a copy; they only grow."""
        return dict(self._record.properties)

    @property
    def description(self) -> str | None:
        """What it is for."""
        return self._record.description

    @property
    def created_time(self) -> str:
        """When it was registered, in UTC, such as ``2026-01-31T12:00:00Z``."""
        return self._record.created

    @property
    def created_by(self) -> str | None:
        """The user who registered it."""
        return self._record.created_by

    @property
    def model_framework(self) -> str:
        """What trained it."""
        return self._record.framework.value

    @property
    def model_framework_version(self) -> str | None:
        """The version of what trained it."""
        return self._record.framework_version

    @property
    def experiment_name(self) -> str | None:
        """The experiment that it comes from."""
        return self._record.experiment

    @property
    def run_id(self) -> str | None:
        """The run that made it."""
        return self._record.run

    @property
    def resource_configuration(self) -> ResourceConfiguration | None:
        """What a service of it is to have."""
        return configuration_of(self._record.resources)

    @property
    def unpack(self) -> bool:
        """Whether it is a folder or several files."""
        return len(self._record.files) != 1 or "/" in self._record.files[0].path

    @property
    def files(self) -> dict[str, int]:
        """The bytes of each of its files, by path."""
        return {file.path: file.size for file in self._record.files}

    @property
    def is_converted(self) -> bool:
        """Whether its ONNX form was made."""
        return self._record.conversion is not None

    # Registering and finding

    @staticmethod
    @translated
    def register(
        workspace: Owner,
        model_path: PathLike | Sequence[PathLike],
        model_name: str,
        tags: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
        description: str | None = None,
        datasets: Sequence[Any] | None = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        child_paths: Sequence[str] | None = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: ResourceConfiguration | None = None,
    ) -> Model:
        """Register a file, a folder, or the files ``child_paths`` of a folder, as the next version of a name.

        ``sample_input_dataset`` and ``sample_output_dataset`` are paths of files. Raises ``NotFoundError`` and
        ``UsageError``, which are Azure's ``WebserviceException`` too.
        """
        if datasets:
            raise UsageError("are not kept with a model", where="datasets", hint="name them in a property")
        details = ModelDetails(
            framework_of(model_framework),
            model_framework_version,
            labels_of(tags, "tags"),
            labels_of(properties, "properties"),
            description,
            resources_of(resource_configuration),
        )
        return register(
            workspace, model_path, model_name, details, child_paths or (), sample_input_dataset, sample_output_dataset
        )

    @staticmethod
    @translated
    def list(
        workspace: Owner,
        name: str | None = None,
        tags: Sequence[Any] | None = None,
        properties: Sequence[Any] | None = None,
        run_id: str | None = None,
        latest: bool = False,
        dataset_id: str | None = None,
        expand: bool = True,
        page_count: int = 255,
        model_framework: str | None = None,
    ) -> Sequence[Model]:
        """The models that meet every filter; each item of ``tags`` is ``'key'`` or ``['key', 'value']``."""
        if dataset_id is not None:
            raise UsageError("models keep no datasets", where="dataset_id", hint="filter by a property")
        query = ModelQuery(
            name, filters_of(tags, "tags"), filters_of(properties, "properties"), framework_of(model_framework), run_id,
            latest,
        )  # fmt: skip
        return [Model._of(workspace, record) for record in workspace.parts.models.list(query)]

    @staticmethod
    @translated
    def get_model_path(model_name: str, version: int | None = None, _workspace: Owner | None = None) -> str:
        """Where the files of a model are: in ``azureml-models`` here, in ``./model_name``, or fetched from a workspace.

        Raises ``ModelNotFoundException``.
        """
        from packager.sdk.model_path import model_path

        owner = _workspace
        found = None if owner is None else lambda: Model(owner, model_name, version=version)
        return model_path(model_name, version, found)

    @staticmethod
    @translated
    def package(
        workspace: Owner,
        models: Sequence[Model | str],
        inference_config: InferenceConfig | None = None,
        generate_dockerfile: bool = False,
        image_name: str | None = None,
        image_label: str | None = None,
        *,
        platforms: Sequence[str] | None = None,
    ) -> ModelPackage:
        """Make an image of ``models`` and what serves them, or with ``generate_dockerfile`` the files to build it.

        Without an ``inference_config`` it is one model that needs no script. The image is ``image_name:image_label``,
        by default ``package`` and the time, in the workspace and, for a team, in its registry. It is built before this
        returns. Raises ``UsageError`` and ``NotFoundError`` for what is given wrong; what fails later,
        ``wait_for_creation`` raises.
        """
        from packager.sdk.packaging import package

        return package(workspace, models, inference_config, generate_dockerfile, image_name, image_label, platforms)

    @staticmethod
    @translated
    def deploy(
        workspace: Owner,
        name: str,
        models: Sequence[Model | str],
        inference_config: InferenceConfig | None = None,
        deployment_config: DeploymentConfiguration | None = None,
        deployment_target: Any = None,
        overwrite: bool = False,
        show_output: bool = False,
    ) -> Webservice:
        """Run ``models`` as the service ``name``; it is deployed before this returns.

        Without an ``inference_config`` it is one model that needs no script, and without a ``deployment_config`` it
        runs on this machine. Raises ``UsageError`` and ``NotFoundError`` for what is given wrong; why it does not run,
        ``wait_for_deployment`` raises.
        """
        from packager.sdk.webservice.deploy import deploy

        return deploy(workspace, name, models, inference_config, deployment_config, deployment_target, overwrite)

    # Changing

    @translated
    def download(self, target_dir: PathLike = ".", exist_ok: bool = False, exists_ok: bool | None = None) -> str:
        """Write its files below ``target_dir``; returns the path of the file, or of the folder that they are in."""
        replace = exist_ok if exists_ok is None else exists_ok
        target = path_of(target_dir) or Path()
        return str(download(self.workspace.parts.store, self._record, target, exist_ok=replace))

    @translated
    def update(
        self,
        tags: Mapping[str, object] | None = None,
        description: str | None = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: ResourceConfiguration | None = None,
    ) -> None:
        """Replace its tags, its description, its samples (paths of files) or its resources."""
        self._change(
            add_tags=None if tags is None else labels_of(tags, "tags"),
            remove_tags=() if tags is None else [key for key in self._record.tags if key not in tags],
            description=description,
            resources=None if resource_configuration is None else resources_of(resource_configuration),
            sample_input=path_of(sample_input_dataset),
            sample_output=path_of(sample_output_dataset),
        )

    @translated
    def update_tags_properties(
        self,
        add_tags: Mapping[str, object] | None = None,
        remove_tags: Sequence[str] | None = None,
        add_properties: Mapping[str, object] | None = None,
    ) -> None:
        """Add and remove tags, and add properties, in one step."""
        self._change(
            add_tags=labels_of(add_tags, "add_tags"),
            remove_tags=remove_tags or (),
            add_properties=labels_of(add_properties, "add_properties"),
        )

    def add_tags(self, tags: Mapping[str, object]) -> None:
        """Set these tags; values that are not text are kept as JSON."""
        self.update_tags_properties(add_tags=tags)

    def remove_tags(self, tags: Sequence[str]) -> None:
        """Remove the tags of these keys."""
        self.update_tags_properties(remove_tags=[tags] if isinstance(tags, str) else tags)

    def add_properties(self, properties: Mapping[str, object]) -> None:
        """Add these properties; one that is there keeps its value."""
        self.update_tags_properties(add_properties=properties)

    def _change(self, **changes: Any) -> None:
        self._take(self.workspace.parts.models.update(self._record.ref, **changes))

    @translated
    def delete(self) -> None:
        """Remove it from the registry; raises ``UsageError`` naming the packages that use it."""
        self.workspace.parts.delete_model(self._record.ref)

    # As JSON

    def serialize(self) -> dict[str, Any]:
        """Its fields by Azure's names."""
        return {
            "id": self.id,
            "name": self.name,
            "version": self.version,
            "framework": self.model_framework,
            "frameworkVersion": self.model_framework_version,
            "description": self.description,
            "tags": self.tags,
            "properties": self.properties,
            "createdTime": self.created_time,
            "createdBy": self.created_by,
            "experimentName": self.experiment_name,
            "runId": self.run_id,
            "unpack": self.unpack,
            "resourceConfiguration": resources_to_json(self._record.resources),
        }

    @staticmethod
    @translated
    def deserialize(workspace: Owner, model_payload: Mapping[str, Any]) -> Model:
        """The registered model that ``serialize`` described; raises ``NotFoundError``."""
        return Model(workspace, id=label_of("id", model_payload.get("id"), "model_payload"))


def register(
    workspace: Owner,
    path: PathLike | Sequence[PathLike],
    name: str,
    details: ModelDetails,
    child_paths: Sequence[str] = (),
    sample_input: PathLike | None = None,
    sample_output: PathLike | None = None,
) -> Model:
    """Register a model and say so on standard error, as Azure's SDK does."""
    sys.stderr.write(f"Registering model {name}\n")
    paths = [path] if isinstance(path, str) or not isinstance(path, Sequence) else list(path)
    record = workspace.parts.models.register(
        name,
        [found for found in map(path_of, paths) if found is not None],
        details,
        child_paths=child_paths,
        sample_input=path_of(sample_input),
        sample_output=path_of(sample_output),
    )
    return Model._of(workspace, record)
