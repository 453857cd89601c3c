"""Registers a model of MLflow with all that MLflow knows of it."""

from __future__ import annotations

import logging
from dataclasses import replace

from edgepack.errors import NotFoundError, UsageError
from edgepack.host.progress import Progress, unseen
from packager.environments.registry import EnvironmentRegistry
from packager.environments.sources import from_mlflow
from packager.mlflow.folder import read_model
from packager.mlflow.source import fetched
from packager.models.details import LABEL_VALUE, ModelDetails
from packager.models.model import Model
from packager.models.registry import ModelRegistry

_log = logging.getLogger(__name__)


def register_mlflow(
    models: ModelRegistry,
    environments: EnvironmentRegistry,
    name: str,
    uri: str,
    details: ModelDetails,
    progress: Progress = unseen,
) -> Model:
    """Register the MLflow model at ``uri`` as the next version of ``name``; see ``fetched`` for what it may be.

    Its flavour becomes the framework, its input example the sample, its requirements an environment of the same name,
    its signature, run and metrics properties; what ``details`` say counts before that. The model is not opened.
    """
    with fetched(uri) as found:
        model = read_model(found.folder)
        properties = {
            **model.properties,
            **{f"mlflow.metric.{key}": repr(value) for key, value in found.metrics.items()},
        }
        try:
            environment = environments.register(from_mlflow(found.folder, name))
            properties["environment"] = environment.id
        except (NotFoundError, UsageError) as error:
            _log.info("registered without an environment: %s", error)
        kept = {key: value for key, value in properties.items() if len(value) <= LABEL_VALUE}
        for key in properties.keys() - kept.keys():
            _log.info("%s is longer than %d characters; it is left out", key, LABEL_VALUE)
        framework = details.framework or model.framework
        said = replace(
            details,
            framework=framework,
            framework_version=details.framework_version
            or (model.framework_version if framework is model.framework else None),
            properties={**kept, **details.properties},
            experiment=details.experiment or found.experiment,
            run=details.run or model.run,
        )
        try:
            return models.register(name, model.path, said, sample_input=model.sample, progress=progress)
        except UsageError as error:
            if model.sample is None or error.where is None or model.sample.name not in error.where:
                raise
            _log.info("registered without its input example: %s", error)
            return models.register(name, model.path, said, progress=progress)
