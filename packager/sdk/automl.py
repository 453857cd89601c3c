"""``AutoMLRun``: a run that holds candidates for a model."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgepack.errors import NotFoundError, UsageError
from packager.exceptions import translated
from packager.runs.folder import best
from packager.sdk.model import Model
from packager.sdk.run import Run


class AutoMLRun(Run):
    """A run that holds candidates: child runs, of which the best by the primary metric is the model.

    Its properties ``primary_metric`` and ``goal`` (``maximize``, or ``minimize``) say which that is; each child logs it
    and keeps its model as ``outputs/model.pkl``, or as the only file.
    """

    model_id: str | None = None

    @translated
    def register_model(  # type: ignore[override]
        self,
        model_name: str | None = None,
        description: str | None = None,
        tags: Mapping[str, object] | None = None,
        iteration: int | None = None,
        metric: str | None = None,
    ) -> Model:
        """Register the candidate of an ``iteration``, or the best by ``metric``, or by the primary metric."""
        number, candidate = self._candidate(iteration, metric)
        name = model_name or re.sub(r"[^A-Za-z0-9._-]", "", f"AutoML{self.id[:20]}{number}")
        model = candidate.register_model(name, _model_file(candidate), tags=tags, description=description)
        self.model_id = model.name
        return model

    def _candidate(self, iteration: int | None, metric: str | None) -> tuple[int, Run]:
        children = [Run(self.experiment, child.id) for child in self.get_children()]
        where = f"run {self.id}"
        if not children:
            raise NotFoundError("holds no candidates", where=where, hint="begin them with run.child_run()")
        if iteration is not None:
            if metric is not None:
                raise UsageError("an iteration and a metric are given", where=where, hint="give one of them")
            if not 0 <= iteration < len(children):
                hint = f"its iterations are 0 to {len(children) - 1}"
                raise NotFoundError(f"has no iteration {iteration}", where=where, hint=hint)
            return iteration, children[iteration]
        chosen = metric or self.properties.get("primary_metric")
        if chosen is None:
            raise UsageError("has no property 'primary_metric'", where=where, hint="give metric or iteration")
        scores = {}
        for child in children:
            value = child.get_metrics(chosen).get(chosen)
            last = value[-1] if isinstance(value, list) else value
            if isinstance(last, int | float):
                scores[child.id] = float(last)
        if not scores:
            raise NotFoundError(f"no candidate logged {chosen!r}", where=where, hint="log it in each child run")
        goal = self.properties.get("goal", "maximize").lower()
        winner = best(scores, maximize=not goal.endswith(("min", "minimize")))
        return next((number, child) for number, child in enumerate(children) if child.id == winner)

    @translated
    def get_output(self, iteration: int | None = None, metric: str | None = None) -> tuple[Run, str]:
        """The candidate that ``register_model`` would register, and the path of its model."""
        _, candidate = self._candidate(iteration, metric)
        return candidate, str(candidate._folder.file(_model_file(candidate)))


def _model_file(run: Run) -> str:
    names = run.get_file_names()
    if "outputs/model.pkl" in names:
        return "outputs/model.pkl"
    if len(names) == 1:
        return names[0]
    raise UsageError(f"keeps {len(names)} files", where=f"run {run.id}", hint="keep its model as outputs/model.pkl")
