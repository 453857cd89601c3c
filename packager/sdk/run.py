"""``Run`` and ``Experiment``: what trained models, kept in the workspace's folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from edgepack.errors import UsageError
from packager.exceptions import RunEnvironmentException, translated
from packager.models.details import ModelDetails
from packager.runs.folder import RunFolder, experiments, find_run, runs_of, start_run
from packager.runs.record import RunRecord, Status, check_name
from packager.sdk.arguments import PathLike, filters_of, framework_of, labels_of, path_of, refuse_unknown
from packager.sdk.model import Model, register
from packager.sdk.owner import Owner
from packager.sdk.resources import ResourceConfiguration, resources_of
from packager.sdk.run_files import RunFiles

# Which run a program belongs to: EXPERIMENT/RUN of the default workspace.
VARIABLE = "EDGEPACK_RUN"


class Experiment:
    """Runs under one name."""

    @translated
    def __init__(self, workspace: Owner, name: str, **kwargs: object) -> None:
        refuse_unknown("Experiment", kwargs, ("workspace", "name"))
        self.workspace = workspace
        self.name = check_name(name, "an experiment")

    def __repr__(self) -> str:
        return f"Experiment(Name: {self.name}, Workspace: {self.workspace.name})"

    @translated
    def start_logging(self, *args: object, **kwargs: Any) -> Run:
        """Begin a run; ``display_name``, ``tags`` and ``outputs`` (a folder to keep at its end) may be given."""
        if args:
            raise UsageError("takes arguments by name only", where="start_logging", hint="such as display_name='first'")
        known = {"display_name": None, "tags": None, "outputs": None, "snapshot_directory": None, "run_id": None}
        refuse_unknown("start_logging", {key: value for key, value in kwargs.items() if key not in known}, known)
        given = {**known, **kwargs}
        folder = start_run(
            _root(self.workspace), self.name, run_id=given["run_id"], display_name=given["display_name"],
            tags=labels_of(given["tags"], "tags"),
        )  # fmt: skip
        return Run(self, folder.id, outputs=given["outputs"])

    def get_runs(
        self,
        type: str | None = None,  # noqa: A002 - Azure's name
        tags: Any = None,
        properties: Any = None,
        include_children: bool = False,
    ) -> Iterator[Run]:
        """Its runs, the newest first."""
        return iter(Run.list(self, type, tags, properties, None, include_children))

    @staticmethod
    @translated
    def list(workspace: Owner, experiment_name: str | None = None) -> Sequence[Experiment]:
        """The experiments of a workspace."""
        names = experiments(_root(workspace))
        return [Experiment(workspace, name) for name in names if experiment_name in (None, name)]


class Run(RunFiles):
    """One training run: metrics, tags and files, and the models that are registered from it."""

    # The workspace of ``get_context``; the module of ``Workspace`` sets it.
    default_workspace: ClassVar[Callable[[], Owner]]

    @translated
    def __init__(self, experiment: Experiment, run_id: str, outputs: PathLike | None = None, **kwargs: object) -> None:
        refuse_unknown(type(self).__name__, kwargs, ("experiment", "run_id", "outputs"))
        self.experiment = experiment
        self._outputs = path_of(outputs)
        self._folder = RunFolder(_root(experiment.workspace), experiment.name, check_name(run_id, "a run"))
        self._folder.record()  # raises where there is none

    def __repr__(self) -> str:
        return f"Run(Experiment: {self.experiment.name}, Id: {self.id}, Type: {self.type}, Status: {self.status})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.complete()
        else:
            self.fail(error_details=f"{type(error).__name__}: {error}")

    # What it is

    @property
    def _record(self) -> RunRecord:
        return self._folder.record()

    @property
    def id(self) -> str:
        """Its id."""
        return self._folder.id

    @property
    def name(self) -> str | None:
        """What it is called."""
        return self._record.display_name

    @property
    def display_name(self) -> str | None:
        """What it is called."""
        return self._record.display_name

    @property
    def type(self) -> str:
        """What kind of run it is."""
        return "azureml.scriptrun" if self._record.parent is None else "azureml.childrun"

    @property
    def number(self) -> int:
        """Its number in its experiment."""
        return self._record.number

    @property
    def status(self) -> str:
        """How far it is: Running, Completed, Failed or Canceled."""
        return self._record.status.value

    def get_status(self) -> str:
        """How far it is."""
        return self.status

    @property
    def parent(self) -> Run | None:
        """The run that it is a part of."""
        parent = self._record.parent
        return None if parent is None else Run(self.experiment, parent)

    @property
    def tags(self) -> dict[str, str]:
        """Its tags, a copy."""
        return dict(self._record.tags)

    @property
    def properties(self) -> dict[str, str]:
        """Its properties, a copy; they only grow."""
        return dict(self._record.properties)

    @staticmethod
    @translated
    def get(workspace: Owner, run_id: str) -> Run:
        """The run of that id; raises ``NotFoundError``."""
        folder = find_run(_root(workspace), run_id)
        return Run(Experiment(workspace, folder.experiment), run_id)

    @classmethod
    @translated
    def get_context(cls, allow_offline: bool = True, used_for_context_manager: bool = False, **kwargs: object) -> Run:
        """The run that ``EDGEPACK_RUN`` names; else, where that is allowed, a new one of the experiment ``offline``."""
        refuse_unknown("get_context", kwargs, ("allow_offline",))
        named = os.environ.get(VARIABLE)
        if named is None and not allow_offline:
            raise RunEnvironmentException(f"no run is named by {VARIABLE}; start one with Experiment.start_logging()")
        workspace = cls.default_workspace()
        if named is None:
            return Experiment(workspace, "offline").start_logging()
        experiment, _, run_id = named.rpartition("/")
        return Run(Experiment(workspace, experiment), run_id) if experiment else Run.get(workspace, run_id)

    @staticmethod
    @translated
    def list(
        experiment: Experiment,
        type: str | None = None,  # noqa: A002 - Azure's name
        tags: Any = None,
        properties: Any = None,
        status: str | None = None,
        include_children: bool = False,
    ) -> Sequence[Run]:
        """The runs of an experiment that meet every filter, the newest first."""
        found = []
        for folder in runs_of(_root(experiment.workspace), experiment.name):
            record = folder.record()
            run = Run(experiment, record.id)
            labels = ((_filters(tags), record.tags), (_filters(properties), record.properties))
            if (
                (include_children or record.parent is None)
                and type in (None, run.type)
                and status in (None, record.status.value)
                and all(label.matches(had) for wanted, had in labels for label in wanted)
            ):
                found.append(run)
        return found

    def get_children(self, recursive: bool = False, tags: Any = None) -> Iterator[Run]:
        """The runs that are a part of it, in the order in which they began."""
        children = [
            run for run in Run.list(self.experiment, tags=tags, include_children=True) if run._is_child_of(self)
        ]
        for child in reversed(children):
            yield child
            if recursive:
                yield from child.get_children(recursive=True, tags=tags)

    def _is_child_of(self, other: Run) -> bool:
        return self._record.parent == other.id

    @translated
    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: PathLike | None = None) -> Run:
        """Begin a run that is a part of this one."""
        folder = start_run(
            self._folder.root, self.experiment.name, run_id=run_id or f"{self.id}_{self._children()}",
            parent=self.id, display_name=name,
        )  # fmt: skip
        return type(self)(self.experiment, folder.id, outputs=outputs)

    def _children(self) -> int:
        return sum(1 for _ in self.get_children())

    # Metrics and labels

    @translated
    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """Add a value of a metric; ``description`` and ``step`` are not kept."""
        self._folder.log(name, value)

    @translated
    def log_list(self, name: str, value: Sequence[Any], description: str = "") -> None:
        """Add a metric that is a list."""
        self._folder.log(name, [*value], "list")

    @translated
    def log_row(self, name: str, description: str | None = None, **kwargs: Any) -> None:
        """Add a row to a metric that is a table."""
        self._folder.log(name, kwargs, "row")

    @translated
    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        """Add a metric that is a table, by column."""
        self._folder.log(name, dict(value), "table")

    @translated
    def get_metrics(
        self, name: str | None = None, recursive: bool = False, run_type: str | None = None, populate: bool = False
    ) -> dict[str, Any]:
        """Its metrics by name, or the one of that name; with ``recursive`` those of its parts too, by run."""
        own = {key: value for key, value in self._folder.metrics().items() if name in (None, key)}
        if not recursive:
            return own
        return {self.id: own, **{child.id: child.get_metrics(name) for child in self.get_children(recursive=True)}}

    @translated
    def tag(self, key: str, value: object = None) -> None:
        """Set a tag."""
        self.set_tags({key: "" if value is None else value})

    @translated
    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set these tags."""
        text = labels_of(tags, "tags")
        self._folder.change(lambda run: replace(run, tags={**run.tags, **text}))

    def get_tags(self) -> dict[str, str]:
        """Its tags."""
        return self.tags

    @translated
    def add_properties(self, properties: Mapping[str, object]) -> None:
        """Add these properties; raises ``UsageError`` for one that is there with another value."""
        text = labels_of(properties, "properties")

        def added(run: RunRecord) -> RunRecord:
            for key, value in text.items():
                if run.properties.get(key, value) != value:
                    hint = "use a tag for what changes"
                    raise UsageError(f"its property {key!r} does not change", where=f"run {run.id}", hint=hint)
            return replace(run, properties={**text, **run.properties})

        self._folder.change(added)

    def get_properties(self) -> dict[str, str]:
        """Its properties."""
        return self.properties

    # Its end

    @translated
    def complete(self, _set_status: bool = True) -> None:
        """Say that it is done, and keep what is in its outputs folder."""
        self._keep_outputs()
        if _set_status:
            self._folder.end(Status.COMPLETED)

    @translated
    def fail(self, error_details: object = None, error_code: str | None = None) -> None:
        """Say that it failed, and why."""
        self._keep_outputs()
        text = ": ".join(str(part) for part in (error_code, error_details) if part is not None)
        self._folder.end(Status.FAILED, text or None)

    @translated
    def cancel(self) -> None:
        """Say that it was given up."""
        self._folder.end(Status.CANCELED)

    def _keep_outputs(self) -> None:
        if self._outputs is not None and self._outputs.is_dir():
            for file in sorted(file for file in self._outputs.rglob("*") if file.is_file()):
                name = f"outputs/{file.relative_to(self._outputs)}"
                if name not in self._folder.names():
                    self._folder.keep(name, file)

    # Models

    @translated
    def register_model(
        self,
        model_name: str,
        model_path: str | None = None,
        tags: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        description: str | None = None,
        datasets: Sequence[Any] | None = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: ResourceConfiguration | None = None,
        **kwargs: object,
    ) -> Model:
        """Register a file or folder of the run, by its name there, or by the model's without one."""
        refuse_unknown("register_model", kwargs, ("model_name", "model_path", "tags", "properties", "description"))
        if datasets:
            raise UsageError("are not kept with a model", where="datasets", hint="name them in a property")
        self._keep_outputs()
        details = ModelDetails(
            framework_of(model_framework), model_framework_version, labels_of(tags, "tags"),
            labels_of(properties, "properties"), description, resources_of(resource_configuration),
            self.experiment.name, self.id,
        )  # fmt: skip
        path = self._folder.file(model_path or model_name)
        samples = (sample_input_dataset, sample_output_dataset)
        return register(self.experiment.workspace, path, model_name, details, (), *samples)


def _filters(given: Any) -> Any:
    if isinstance(given, Mapping):
        return filters_of([[key, value] for key, value in given.items()], "tags")
    return filters_of([given] if isinstance(given, str) else given, "tags")


def _root(workspace: Owner) -> Path:
    return workspace.parts.root / "runs"
