"""What an engine made of further steps of a Dockerfile: layers, and what they say of how the image is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgepack.oci.config import History, ImageConfig
from edgepack.oci.layer import Layer
from packager.images.plan import LayerPlan

# What steps may say besides environment, labels and ports; engines add fields of their own that say nothing.
_KEPT = ("Healthcheck", "OnBuild", "Shell", "Volumes")
# Builders sign images by such labels.
_BUILDERS = ("io.buildah.",)


@dataclass(frozen=True)
class ExecutedSteps:
    """``layers`` are in the store; the other fields are what the image has once the steps were executed."""

    layers: tuple[Layer, ...]
    history: tuple[History, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    exposed_ports: tuple[str, ...] = ()
    other: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, layers: tuple[Layer, ...], history: tuple[History, ...], config: ImageConfig) -> ExecutedSteps:
        """Of the configuration that the engine gave the image."""
        labels = {name: text for name, text in config.labels.items() if not name.startswith(_BUILDERS)}
        other = {name: config.other[name] for name in _KEPT if config.other.get(name)}
        return cls(layers, history, config.env, labels, config.exposed_ports, other)

    def over(self, config: ImageConfig) -> ImageConfig:
        """``config`` of the plan, with what the steps say; the user, the port and the server are the plan's."""
        return replace(
            config,
            env={**config.env, **self.env},
            labels={**self.labels, **config.labels},
            exposed_ports=tuple(sorted({*config.exposed_ports, *self.exposed_ports})),
            other={**config.other, **self.other},
        )


# Executes the steps of a plan; what it raises ends the build.
Execute = Callable[[LayerPlan], ExecutedSteps]
