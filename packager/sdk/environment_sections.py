"""``env.python`` and ``env.docker``: the parts of an environment that scripts set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from packager.sdk.arguments import PathLike
from packager.sdk.conda_dependencies import CondaDependencies
from packager.sdk.container_registry import ContainerRegistry
from packager.sdk.section import Section

# What Azure's SDK writes for the Python of the base; a record leaves it out.
INTERPRETER = "python"


class PythonSection(Section):
    """The packages, as ``conda_dependencies`` or as the file that ``conda_dependencies_file`` names.

    With ``user_managed_dependencies`` nothing is installed: the base has it all, for the Python ``interpreter_path``.
    """

    _NAMES: ClassVar[tuple[str, ...]] = (
        "user_managed_dependencies", "interpreter_path", "conda_dependencies_file", "base_conda_environment",
        "conda_dependencies",
    )  # fmt: skip

    def __init__(self) -> None:
        self.user_managed_dependencies = False
        self.interpreter_path: str | None = INTERPRETER
        self.conda_dependencies_file: PathLike | None = None
        self.base_conda_environment: str | None = None
        self.conda_dependencies = CondaDependencies()

    def __repr__(self) -> str:
        return f"PythonSection({self.conda_dependencies!r})"


class DockerSection(Section):
    """The base: ``base_image``, or ``base_dockerfile`` (its text, or the path of its file), or neither.

    ``enabled``, ``gpu_support``, ``platform``, ``arguments``, ``shared_volumes`` and ``shm_size`` are Azure's, about
    where a container is built and how it is started; they are held, and no record has them.
    """

    _NAMES: ClassVar[tuple[str, ...]] = (
        "enabled", "base_image", "base_dockerfile", "base_image_registry", "platform", "arguments", "shared_volumes",
        "shm_size", "gpu_support",
    )  # fmt: skip

    def __init__(self) -> None:
        self.enabled = False
        self.base_image: str | None = None
        self.base_dockerfile: PathLike | None = None
        self.base_image_registry = ContainerRegistry()
        self.platform: Any = None
        self.arguments: Sequence[str] = []
        self.shared_volumes = True
        self.shm_size: str | None = None
        self.gpu_support: bool | None = None

    def __repr__(self) -> str:
        return f"DockerSection(base_image={self.base_image!r}, base_dockerfile={self.base_dockerfile!r})"
