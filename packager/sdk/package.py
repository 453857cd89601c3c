"""``ModelPackage``: models and what serves them, as an image or as a Dockerfile with its files."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.errors import EdgepackError, NotFoundError, RuntimeFailedError, UsageError
from edgepack.names import ModelRef
from packager.exceptions import translated
from packager.sdk.arguments import PathLike, path_of
from packager.sdk.container_registry import ContainerRegistry
from packager.sdk.owner import Owner
from packager.sdk.package_record import PackageRecord, State, folder_of

if TYPE_CHECKING:
    from edgepack.oci.descriptor import Platform
    from packager.images.build import BuildOptions


@dataclass(frozen=True)
class PackageInputs:
    """What a package is made of."""

    refs: tuple[ModelRef, ...]
    platforms: tuple[Platform, ...]
    options: BuildOptions


class ModelPackage:
    """What ``Model.package`` made; of an earlier one, ``ModelPackage(workspace, operation_id, None)`` is its record.

    ``state`` is ``Succeeded`` or ``Failed``; ``location`` the image, by its tag in the workspace, or by its reference
    in the registry of a team; ``error`` why it failed; ``package_build_log_uri`` the address of its log.
    """

    @translated
    def __init__(self, workspace: Owner, operation_id: str, environment: object) -> None:
        self.workspace = workspace
        self._environment = environment
        self._take(operation_id, PackageRecord.read(workspace.parts.root, operation_id))

    @classmethod
    def _made(
        cls,
        workspace: Owner,
        identity: str,
        record: PackageRecord,
        environment: object,
        inputs: PackageInputs,
        cause: EdgepackError | None,
    ) -> ModelPackage:
        package = cls.__new__(cls)
        package.workspace = workspace
        package._environment, package._inputs, package._cause = environment, inputs, cause
        package._take(identity, record)
        return package

    # Of a package that this program made: what it is made of, and why it failed.
    _inputs: PackageInputs | None = None
    _cause: EdgepackError | None = None

    def _take(self, identity: str, record: PackageRecord) -> None:
        self.operation_id = identity
        self.state: State = record.state
        self.location = record.location
        self.error = None if record.error is None else {"message": record.error}
        self.generate_dockerfile = record.generate_dockerfile
        self.package_build_log_uri = self._log.absolute().as_uri()

    @property
    def _log(self) -> Path:
        return folder_of(self.workspace.parts.root, self.operation_id) / "build.log"

    def __repr__(self) -> str:
        where = f", location={self.location}" if self.location is not None else ""
        return (
            f"ModelPackage(workspace={self.workspace!r}, generate_dockerfile={self.generate_dockerfile}, "
            f"state={self.state}{where})"
        )

    @translated
    def wait_for_creation(self, show_output: bool = False) -> None:
        """Print its log with ``show_output``; raises ``RuntimeFailedError`` unless it succeeded."""
        if show_output:
            sys.stdout.write(self.get_logs())
            sys.stdout.write(f"Package creation {self.state}\n")
        if self.state != "Succeeded":
            message = "" if self.error is None else f": {self.error['message']}"
            raise RuntimeFailedError(
                f"package creation reached the non-successful terminal state {self.state}{message}",
                where=f"package {self.operation_id}",
            ) from self._cause

    def update_creation_state(self) -> None:
        """Read its record again."""
        self._take(self.operation_id, PackageRecord.read(self.workspace.parts.root, self.operation_id))

    def get_logs(self, decode: bool = True, offset: int = 0) -> Any:
        """The log of its creation from byte ``offset`` on: text, or bytes without ``decode``."""
        try:
            data = self._log.read_bytes()[offset:]
        except FileNotFoundError:
            data = b""
        return data.decode("utf-8", "replace") if decode else data

    @translated
    def pull(self) -> None:
        """Give the image to the container engine of this machine and print its name; raises ``MissingPartError``."""
        if self.generate_dockerfile:
            raise UsageError("a Dockerfile package cannot be pulled", where="pull", hint="use save() instead")
        self.wait_for_creation()
        from packager.bars import bars
        from packager.places.table import find_destination

        name = str(self.location)
        parts = self.workspace.parts
        with bars() as progress:
            find_destination(f"docker-daemon:{name}").send(parts.store, name, parts.image(name), progress)
        sys.stdout.write(f"Status: Downloaded newer image for {name}\n")

    @translated
    def save(self, output_directory: PathLike) -> None:
        """Write the Dockerfile and all that it needs to a new or empty folder.

        ``docker build`` of it needs no network; for a team, whose registry then has the base, that registry alone.
        """
        if not self.generate_dockerfile:
            raise UsageError(
                "an image cannot be saved as a folder", where="save", hint="use pull(), or package with "
                "generate_dockerfile=True",
            )  # fmt: skip
        self.wait_for_creation()
        if self._inputs is None:
            hint = "call Model.package(…, generate_dockerfile=True) again and save what it returns"
            raise UsageError("another program asked for this package", where=f"package {self.operation_id}", hint=hint)
        from packager.contexts.save import save_contexts

        folder = path_of(output_directory)
        assert folder is not None  # noqa: S101
        team = self.workspace.parts.config.team
        save_contexts(
            self.workspace.parts.builder, self._inputs.refs, self._inputs.platforms, self._inputs.options, folder,
            base_registry=None if team is None else team.repository("base").name,
        )  # fmt: skip

    @translated
    def get_container_registry(self) -> ContainerRegistry:
        """The registry that the image, or the base of a Dockerfile, is in, with the login to it.

        That of a team; without a team no registry is needed, and everything in it is None.
        """
        self.wait_for_creation()
        team = self.workspace.parts.config.team
        if team is None:
            return ContainerRegistry()
        from packager.registries.issue import Registry, login_for

        reference = team.repository("base")
        try:
            # docker login takes no pull token.
            return ContainerRegistry.of(login_for(Registry(reference.registry), team.access(), token=False))
        except NotFoundError:  # it is open to all
            return ContainerRegistry(address=reference.registry)

    def serialize(self) -> dict[str, Any]:
        """What Azure's command shows of it."""
        return {"generateDockerfile": self.generate_dockerfile, "state": self.state, "location": self.location}
