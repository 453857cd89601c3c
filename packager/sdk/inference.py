"""``InferenceConfig``: what serves models: an entry script and its environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar

from edgepack.documents import raise_all
from edgepack.errors import EdgepackError
from packager.exceptions import translated
from packager.inference.entry_script import check_script_name
from packager.sdk.arguments import PathLike
from packager.sdk.container_registry import ContainerRegistry
from packager.sdk.environment import Environment
from packager.sdk.section import Section

_RUNTIMES = ("python", "spark-py")
_CUDA_VERSIONS = ("9.0", "9.1", "10.0")
# What describes an environment without one.
_LEGACY = (
    "runtime", "conda_file", "extra_docker_file_steps", "enable_gpu", "cuda_version", "base_image",
    "base_image_registry",
)  # fmt: skip
_PATHS = ("entry_script", "source_directory", "conda_file", "extra_docker_file_steps")


class InferenceConfig(Section):
    """An entry script with its environment.

    ``entry_script`` is relative to ``source_directory``, which is shipped whole; without one, the script alone is.
    """

    _NAMES: ClassVar[tuple[str, ...]] = ("entry_script", "source_directory", "description", "environment", *_LEGACY)

    @translated
    def __init__(
        self,
        entry_script: PathLike,
        runtime: str | None = None,
        conda_file: PathLike | None = None,
        extra_docker_file_steps: PathLike | None = None,
        source_directory: PathLike | None = None,
        enable_gpu: bool | None = None,
        description: str | None = None,
        base_image: str | None = None,
        base_image_registry: ContainerRegistry | None = None,
        cuda_version: str | None = None,
        environment: Environment | None = None,
    ) -> None:
        self.entry_script = entry_script
        self.runtime = runtime
        self.conda_file = conda_file
        self.extra_docker_file_steps = extra_docker_file_steps
        self.source_directory = source_directory
        self.enable_gpu = enable_gpu
        self.description = description
        self.base_image = base_image
        self.base_image_registry = base_image_registry
        self.cuda_version = cuda_version
        self.environment = environment
        self.validate_configuration()

    def __repr__(self) -> str:
        said = {name: getattr(self, name) for name in self._NAMES}
        return f"InferenceConfig({', '.join(f'{name}={value!r}' for name, value in said.items() if value is not None)})"

    @translated
    def validate_configuration(self) -> None:
        """Check all that it says; raises ``InvalidDocumentError`` with every violation."""
        raise_all("inference configuration", list(self._violations()))

    def _violations(self) -> Iterator[str]:
        wrong = [name for name in _PATHS if not isinstance(getattr(self, name), str | os.PathLike | None)]
        yield from (f"{name} must be a path, is {getattr(self, name)!r}" for name in wrong)
        if wrong:
            return
        folder = Path() if self.source_directory is None else Path(self.source_directory).expanduser()
        if not folder.is_dir():
            yield f"source_directory {str(folder)!r} is not a folder"
        yield from self._of_script(folder)
        description: object = self.description
        if not isinstance(description, str | None):
            yield "description must be text"
        environment: object = self.environment
        if environment is None:
            yield from self._of_legacy(folder)
            return
        if not isinstance(environment, Environment):
            yield f"environment is a {type(environment).__name__} and not an Environment"
        given = [name for name in _LEGACY if getattr(self, name) is not None]
        if given:
            verb = "is" if len(given) == 1 else "are"
            yield f"{', '.join(given)} {verb} given beside an environment, which has its own; leave out one of the two"

    def _of_script(self, folder: Path) -> Iterator[str]:
        said: object = self.entry_script
        if said is None:
            yield "entry_script must be a .py file"
            return
        script = str(said)
        try:
            check_script_name(script)
        except EdgepackError as error:
            yield f"entry_script: {error}"
            return
        inner = PurePosixPath(script)
        if self.source_directory is None:
            inner = PurePosixPath(Path(script).expanduser())
        elif inner.is_absolute() or ".." in inner.parts:
            yield f"entry_script {script!r} must be inside of source_directory, given relative to it"
            return
        if folder.is_dir() and not (folder / inner).is_file():
            yield f"entry_script {str(folder / inner)!r} is not a file"

    def _of_legacy(self, folder: Path) -> Iterator[str]:
        if self.runtime is not None and str(self.runtime).lower() not in _RUNTIMES:
            yield f"runtime must be 'python', is {self.runtime!r}"
        elif str(self.runtime).lower() == "spark-py":
            yield "runtime 'spark-py' needs Spark, which exists only in Azure; use 'python'"
        for name in ("conda_file", "extra_docker_file_steps"):
            value = getattr(self, name)
            if value is not None and not (folder / Path(value).expanduser()).is_file():
                yield f"{name} {str(value)!r} is not a file below {'source_directory' if self._has_folder else 'here'}"
        if self.enable_gpu not in (None, True, False):
            yield "enable_gpu must be True or False"
        if self.cuda_version is not None and str(self.cuda_version) not in _CUDA_VERSIONS:
            yield f"cuda_version must be {' or '.join(_CUDA_VERSIONS)}, is {self.cuda_version!r}"
        image: object = self.base_image
        if image is not None and (not isinstance(image, str) or not image.strip()):
            yield "base_image must be an image, such as registry.example/team/base:1"
        yield from self._of_registry()

    @property
    def _has_folder(self) -> bool:
        return self.source_directory is not None

    def _of_registry(self) -> Iterator[str]:
        registry: object = self.base_image_registry
        if registry is None:
            return
        if not isinstance(registry, ContainerRegistry):
            yield f"base_image_registry is a {type(registry).__name__} and not a ContainerRegistry"
            return
        missing = [name for name in ("address", "username", "password") if not getattr(registry, name)]
        if missing and len(missing) < 3:
            yield f"base_image_registry needs address, username and password, or none of them; {missing[0]} is missing"
        if len(missing) < 3 and self.base_image is None:
            yield "base_image_registry is given without base_image"
