"""The texts of a build context: its Dockerfile, README and .dockerignore, rendered by Jinja's templates."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from edgepack import __version__
from edgepack.errors import UsageError
from edgepack.oci.descriptor import Platform
from edgepack.oci.mediatypes import MODELS
from edgepack.oci.reference import Reference, repository_of
from packager.contexts.base import ContextBase
from packager.images.plan import LayerPlan

if TYPE_CHECKING:
    from jinja2 import Environment

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Stage:
    """A build stage: what it copies from the context to where, and the folders of layers that it makes."""

    name: str
    comment: str
    copies: tuple[tuple[str, str], ...]
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """What the texts say of a context besides its plan: ``pip`` is the file name of its wheel, "" without packages."""

    base: ContextBase
    pip: str
    wheels: tuple[Mapping[str, str], ...]
    stages: tuple[Stage, ...]
    models: tuple[tuple[str, str], ...]
    has_code: bool


def dockerfile(plan: LayerPlan, shown: Shown) -> str:
    """The Dockerfile; raises ``UsageError`` for a variable or label that no Dockerfile can hold."""
    config = plan.base.config
    return _render(
        "Dockerfile.j2", plan, shown, base_archives=shown.base.archives, base_env=config.env, base_labels=config.labels,
        volumes=sorted(config.other.get("Volumes") or {}), stages=shown.stages, python=plan.base.facts.python,
        pip=shown.pip, env=_others(plan.env, config.env), labels=_others(plan.labels, config.labels),
        user=plan.user, entrypoint=plan.entrypoint,
    )  # fmt: skip


def readme(plan: LayerPlan, shown: Shown) -> str:
    """The page that says how the image is built, and what lies where."""
    reference = shown.base.reference
    registry = Reference.parse(reference).registry if reference is not None else ""
    return _render(
        "README.md.j2", plan, shown, base_registry=registry, foreign=plan.platform != Platform("linux", "amd64"),
        tag=suggested_tag(plan), has_code=shown.has_code,
    )  # fmt: skip


def dockerignore() -> str:
    """What engines do not take into the build."""
    return template("dockerignore")


def template(name: str) -> str:
    """The text of a file of the folder of templates."""
    return files("dockerfiles").joinpath("context", name).read_text("utf-8")


def suggested_tag(plan: LayerPlan) -> str:
    """What the README calls the image: after its first model, or after nothing in particular."""
    model, _, version = plan.labels.get(MODELS, "").partition(",")[0].partition(":")
    return f"{repository_of(model)}:{version}" if model else "scoring:1"


def _render(name: str, plan: LayerPlan, shown: Shown, **values: Any) -> str:
    models = plan.labels.get(MODELS, "").replace(",", ", ")
    return _jinja().get_template(name).render(
        title=models or "A scoring script", platform=plan.platform, version=__version__, port=plan.port,
        base_reference=shown.base.reference, wheels=shown.wheels, models=shown.models,
        steps=plan.steps.strip("\n"), **values,
    )  # fmt: skip


@cache
def _jinja() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    found = Environment(
        loader=FunctionLoader(template), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,  # noqa: S701 - no page of the web
    )  # fmt: skip
    found.filters |= {"exec": _exec, "pairs": _pairs, "source_path": _source_path, "variable_free": _variable_free}
    return found


def _others(all_: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in all_.items() if known.get(name) != text}


def _exec(words: Sequence[str]) -> str:
    """A list as Dockerfiles write it: without a shell."""
    return json.dumps(list(words), ensure_ascii=False)


def _pairs(values: Mapping[str, str]) -> str:
    """Variables or labels, a line for each; a label's name may need quotes, and a variable's never does."""
    found = (f"{name if _PLAIN.fullmatch(name) else _quoted(name)}={_quoted(text)}" for name, text in values.items())
    return " \\\n    ".join(found)


def _quoted(text: str) -> str:
    """A value in quotes, in which engines replace no variable."""
    if "\n" in text or "\r" in text:
        raise UsageError(
            f"a variable or label of the base has several lines ({text[:40]!r}…), which a Dockerfile cannot hold",
            where="Dockerfile", hint="push the base to a registry, with --base-registry REGISTRY/REPOSITORY",
        )  # fmt: skip
    return '"' + "".join(f"\\{letter}" if letter in '\\"$' else letter for letter in text) + '"'


def _variable_free(path: str) -> str:
    """A path in which engines replace no variable (Dockerfile reference, "Environment replacement")."""
    return "".join(f"\\{letter}" if letter in "\\$" else letter for letter in path)


def _source_path(path: str) -> str:
    """A path that matches itself alone: sources of COPY are patterns (Go's ``filepath.Match``)."""
    return _variable_free("".join(f"[{letter}]" if letter in "*?[" else letter for letter in path))
