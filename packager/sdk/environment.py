"""``Environment``: the software that an entry script needs, as scripts describe and register it."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from edgepack.errors import UsageError
from edgepack.names import EnvironmentRef, check_environment_name
from edgepack.trees.text_file import read_text
from packager.environments.azure import load_folder, save_folder
from packager.environments.changes import with_conda_package
from packager.environments.conda import parse_conda
from packager.environments.environment import Environment as Record
from packager.environments.pip_requirements import read_requirements
from packager.environments.sources import completed
from packager.exceptions import translated
from packager.sdk.arguments import PathLike, path_of, refuse_unknown
from packager.sdk.conda_dependencies import CondaDependencies
from packager.sdk.container_registry import ContainerRegistry
from packager.sdk.environment_records import record_of
from packager.sdk.environment_sections import INTERPRETER, DockerSection, PythonSection
from packager.sdk.owner import Owner
from packager.sdk.section import Section, UnknownAttributeError


class Environment(Section):
    """Software by name: Python, packages, environment variables, and perhaps a base image.

    ::

        env = Environment.from_conda_specification("churn-env", "conda.yml")
        env.environment_variables["OMP_NUM_THREADS"] = "1"
        env = env.register(ws)

    What is set on it is checked when it is registered or saved.
    """

    _NAMES: ClassVar[tuple[str, ...]] = (
        "name", "version", "environment_variables", "python", "docker", "inferencing_stack_version",
    )  # fmt: skip

    @translated
    def __init__(self, name: str, **kwargs: object) -> None:
        refuse_unknown("Environment", kwargs, ())
        self.name = check_environment_name(_text(name, "name"))
        self.version: str | None = None
        self.environment_variables: dict[str, str] = {}
        self.python = PythonSection()
        self.docker = DockerSection()
        self.inferencing_stack_version: str | None = None

    @classmethod
    def _of(cls, record: Record) -> Environment:
        made = cls(record.name)
        made.version = None if record.version is None else str(record.version)
        made.environment_variables = dict(record.variables)
        made.inferencing_stack_version = record.inferencing_stack_version
        made.python.user_managed_dependencies = record.user_managed_dependencies
        made.python.interpreter_path = record.interpreter_path or INTERPRETER
        made.python.conda_dependencies = CondaDependencies._of(record)
        made.docker.base_image = record.base_image
        made.docker.base_dockerfile = record.base_dockerfile
        made.docker.base_image_registry.address = record.base_registry_address
        made.docker.base_image_registry.username = record.base_registry_username
        return made

    def __repr__(self) -> str:
        return f"Environment(name={self.name!r}, version={self.version!r})"

    # From files

    @staticmethod
    @translated
    def from_conda_specification(name: str, file_path: PathLike) -> Environment:
        """The environment that a conda file describes, with those requirement files that it names.

        Raises ``NotFoundError`` without the file, ``InvalidDocumentError`` with every violation and its field.
        """
        return _described(name, _path(file_path, "file_path"), None)

    @staticmethod
    @translated
    def from_pip_requirements(name: str, file_path: PathLike, pip_version: str | None = None) -> Environment:
        """The environment of a requirement file and those that it names; ``pip_version`` is the pip that reads it.

        Raises ``NotFoundError`` without the file, ``InvalidDocumentError`` with every violation and its line.
        """
        made = _described(name, None, _path(file_path, "file_path"))
        if pip_version is not None:
            packages = made.python.conda_dependencies
            packages._record = with_conda_package(packages._record, f"pip=={pip_version}")
        return made

    @staticmethod
    @translated
    def from_dockerfile(
        name: str,
        dockerfile: PathLike,
        conda_specification: PathLike | None = None,
        pip_requirements: PathLike | None = None,
    ) -> Environment:
        """The environment of a base that a Dockerfile makes, given as its text or its path.

        With neither of the files all that there is comes from the base.
        """
        made = _described(name, conda_specification, pip_requirements)
        made.docker.base_dockerfile = dockerfile
        made.docker.base_dockerfile = record_of(made).base_dockerfile
        return made

    @staticmethod
    @translated
    def from_docker_image(
        name: str,
        image: str,
        container_registry: ContainerRegistry | None = None,
        conda_specification: PathLike | None = None,
        pip_requirements: PathLike | None = None,
    ) -> Environment:
        """The environment of a base image; with neither of the files all that there is comes from the base."""
        made = _described(name, conda_specification, pip_requirements)
        made.docker.base_image = image
        if container_registry is not None:
            made.docker.base_image_registry = container_registry
        record_of(made)
        return made

    @staticmethod
    @translated
    def from_docker_build_context(name: str, docker_build_context: object) -> Environment:
        """Refused: a Dockerfile that copies files is built with ``docker build`` first."""
        hint = "docker build -t IMAGE DIR, then Environment.from_docker_image(name, 'docker-daemon:IMAGE')"
        _refuse("from_docker_build_context", "an environment keeps the text of a Dockerfile, and no folder", hint)

    @staticmethod
    @translated
    def from_existing_conda_environment(name: str, conda_environment_name: str) -> Environment:
        """Refused: conda itself writes the file that describes an environment of this machine."""
        shown = f"conda env export --from-history -n {conda_environment_name} > env.yml"
        _refuse(
            "from_existing_conda_environment", "an environment of conda's is of one machine",
            f"{shown}, then Environment.from_conda_specification({name!r}, 'env.yml')",
        )  # fmt: skip

    @staticmethod
    @translated
    def load_from_directory(path: PathLike) -> Environment:
        """The environment that ``save_to_directory`` wrote, Azure's too; raises ``NotFoundError``."""
        return Environment._of(load_folder(Path(path).expanduser()))

    @translated
    def save_to_directory(self, path: PathLike, overwrite: bool = False) -> None:
        """Write it into a folder, as Azure's SDK does; raises ``UsageError`` where one is there already."""
        save_folder(record_of(self), Path(path).expanduser(), overwrite=overwrite)

    # The registry

    @translated
    def register(self, workspace: Owner) -> Environment:
        """Register it, and return what was registered: the next version, or the latest where that asks for the same.

        Raises ``InvalidDocumentError`` with every violation.
        """
        record = completed(record_of(self), f"environment {self.name}")
        made = Environment._of(workspace.parts.environments.register(record))
        made.docker.base_image_registry.password = self._password
        return made

    @property
    def _password(self) -> str | None:
        registry = self.docker.base_image_registry
        return None if registry is None else registry.password

    @staticmethod
    @translated
    def get(workspace: Owner, name: str, version: str | int | None = None, label: str | None = None) -> Environment:
        """The environment of that name and version, the latest without one; raises ``NotFoundError``."""
        check_environment_name(_text(name, "name"))
        if version is not None and label is not None:
            raise UsageError("a version and a label are given", where="Environment.get", hint="give one of them")
        if label not in (None, "latest"):
            raise UsageError(f"there is no label {label!r}", where="Environment.get", hint="give label='latest'")
        ref = EnvironmentRef.parse(name if version is None else f"{name}:{version}")
        return Environment._of(workspace.parts.environments.get(ref))

    @staticmethod
    @translated
    def list(workspace: Owner) -> dict[str, Environment]:
        """The latest version of each name, those that edgepack brings included."""
        return {one.name: Environment._of(one) for one in workspace.parts.environments.list()}

    @translated
    def clone(self, new_name: str) -> Environment:
        """The same under another name, not registered."""
        made = copy.deepcopy(self)
        made.name = check_environment_name(_text(new_name, "new_name"))
        made.version = None
        return made

    # Azure's own

    @staticmethod
    @translated
    def label(workspace: object, name: str, version: str, labels: object) -> NoReturn:
        """Refused: an environment has versions."""
        _refuse("label", "an environment has versions and no labels", "name the version: NAME:VERSION")

    @translated
    def build(self, workspace: object, image_build_compute: object = None) -> NoReturn:
        """Refused: images are built with what they serve."""
        _refuse("build", "an environment is no image by itself", "build one that serves: ws.build(model)")

    @translated
    def build_local(self, workspace: object, platform: object = None, **kwargs: object) -> NoReturn:
        """Refused: images are built with what they serve."""
        _refuse("build_local", "an environment is no image by itself", "build one that serves: ws.build(model)")

    @translated
    def get_image_details(self, workspace: object) -> dict[str, Any]:
        """Refused: images are built with what they serve."""
        _refuse("get_image_details", "an environment is no image by itself", "see the images: ws.images")

    @staticmethod
    @translated
    def add_private_pip_wheel(workspace: object, file_path: PathLike, exist_ok: bool = False) -> str:
        """Refused: a folder of wheels is named among the requirements."""
        hint = "put it into a folder, and write '--find-links FOLDER' and the package's name into the requirements"
        _refuse("add_private_pip_wheel", "a workspace of this machine keeps no wheels", hint)

    @property
    def spark(self) -> NoReturn:
        """Refused: Spark is not here."""
        raise UnknownAttributeError("spark exists only in Azure", where="Environment", hint="leave it out")

    @property
    def databricks(self) -> NoReturn:
        """Refused: Databricks is not here."""
        raise UnknownAttributeError("databricks exists only in Azure", where="Environment", hint="leave it out")


def _described(name: str, conda: PathLike | None, requirements: PathLike | None) -> Environment:
    """The environment of a conda file or a requirement file; of neither, that of a base alone."""
    if conda is not None and requirements is not None:
        raise UsageError("conda_specification and pip_requirements are given", where="Environment", hint="keep one")
    check_environment_name(_text(name, "name"))
    found = Record(name, user_managed_dependencies=conda is None and requirements is None)
    if (path := path_of(conda)) is not None:
        found = parse_conda(read_text(path, "conda file"), name, path, folder=path.parent)
    elif (path := path_of(requirements)) is not None:
        found = Record(name, pip=read_requirements(path))
    return Environment._of(found)


def _path(value: object, what: str) -> PathLike:
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise UsageError(f"is {value!r} and not a path", where=what, hint="give the path of a file")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"is a {type(value).__name__} and not text", where=what, hint="write it in quotes")
    return value


def _refuse(call: str, why: str, hint: str) -> NoReturn:
    raise UsageError(f"{call} is not here: {why}", where="Environment", hint=hint)
