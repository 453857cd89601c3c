"""``workspace.models``: the registry as a dictionary of the latest versions, which registers too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgepack.errors import NotFoundError
from edgepack.names import ModelRef
from packager.exceptions import ModelNotFoundException, translated
from packager.models.details import ModelDetails
from packager.models.query import Label, ModelQuery
from packager.sdk.arguments import PathLike, framework_of, label_of, labels_of
from packager.sdk.model import Model, register
from packager.sdk.owner import Owner
from packager.sdk.resources import ResourceConfiguration, resources_of


class MissingModelError(NotFoundError, ModelNotFoundException, KeyError):
    """A key that no model has."""


class Models(Mapping[str, Model]):
    """The models of a workspace: by name, the latest version of each.

    ::

        ws.models.register("churn", "model.joblib", tags={"area": "sales"})
        ws.models["churn"]              # the latest version
        ws.models.get("churn:2")        # that one, None without it
        ws.models.list(tags={"area": "sales"}, latest=True)
    """

    def __init__(self, workspace: Owner) -> None:
        self._workspace = workspace

    @translated
    def __getitem__(self, name: str) -> Model:
        try:
            return Model._of(self._workspace, self._workspace.parts.models.get(ModelRef.parse(name)))
        except NotFoundError as error:
            raise MissingModelError(error.what, where=error.where, hint=error.hint) from None

    def __iter__(self) -> Iterator[str]:
        return iter(model.name for model in self.list(latest=True))

    def __len__(self) -> int:
        return len(self.list(latest=True))

    @translated
    def register(
        self,
        name: str,
        path: PathLike | Sequence[PathLike],
        *,
        framework: str | None = None,
        framework_version: str | None = None,
        tags: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
        description: str | None = None,
        resources: ResourceConfiguration | None = None,
        sample_input: PathLike | None = None,
        sample_output: PathLike | None = None,
        child_paths: Sequence[str] = (),
        experiment: str | None = None,
        run: str | None = None,
    ) -> Model:
        """Register a file, a folder, or several of them, as the next version of ``name``.

        ``framework`` may have any of its names (``sklearn``, ``torch`` …); without one the files tell. Raises
        ``NotFoundError`` and ``UsageError``.
        """
        details = ModelDetails(
            framework_of(framework), framework_version, labels_of(tags, "tags"), labels_of(properties, "properties"),
            description, resources_of(resources), experiment, run,
        )  # fmt: skip
        return register(self._workspace, path, name, details, child_paths, sample_input, sample_output)

    @translated
    def register_mlflow(self, name: str, uri: str, *, tags: Mapping[str, object] | None = None) -> Model:
        """Register an MLflow model: its folder, ``models:/NAME/VERSION`` or ``runs:/RUN/PATH``, with what MLflow knows.

        Raises ``NotFoundError``, and ``MissingPartError`` where MLflow's client is needed and not installed.
        """
        from packager.mlflow.register import register_mlflow

        parts = self._workspace.parts
        details = ModelDetails(tags=labels_of(tags, "tags"))
        return Model._of(self._workspace, register_mlflow(parts.models, parts.environments, name, uri, details))

    @translated
    def list(
        self,
        name: str | None = None,
        *,
        tags: Mapping[str, object] | Sequence[str] | None = None,
        properties: Mapping[str, object] | Sequence[str] | None = None,
        framework: str | None = None,
        run: str | None = None,
        latest: bool = False,
    ) -> Sequence[Model]:
        """The models that meet every filter, by name and version; a list of keys asks for no values."""
        query = ModelQuery(
            name, _labels(tags, "tags"), _labels(properties, "properties"), framework_of(framework), run, latest
        )
        return [Model._of(self._workspace, record) for record in self._workspace.parts.models.list(query)]


def _labels(wanted: Mapping[str, object] | Sequence[str] | None, what: str) -> tuple[Label, ...]:
    if isinstance(wanted, Mapping):
        return tuple(Label(key, label_of(key, value, what)) for key, value in wanted.items())
    return tuple(Label(key) for key in wanted or ())
