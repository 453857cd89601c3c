"""``workspace.environments``: the registry as a dictionary of the latest versions, which registers too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgepack.errors import NotFoundError, UsageError
from edgepack.names import EnvironmentRef, check_environment_name
from packager.environments.sources import Additions, from_base, from_file, from_packages
from packager.exceptions import WebserviceException, translated
from packager.sdk.arguments import PathLike, labels_of, path_of
from packager.sdk.environment import Environment
from packager.sdk.owner import Owner


class MissingEnvironmentError(NotFoundError, WebserviceException, KeyError):
    """A key that no environment has."""


class Environments(Mapping[str, Environment]):
    """The environments of a workspace: by name, the latest version of each, those that edgepack brings included.

    ::

        ws.environments.register("churn-env", "conda.yml")
        ws.environments.register("small", packages=["numpy>=2"], python="3.11")
        ws.environments["churn-env"]         # the latest version
        ws.environments.get("churn-env:2")   # that one, None without it
    """

    def __init__(self, workspace: Owner) -> None:
        self._workspace = workspace

    @translated
    def __getitem__(self, name: str) -> Environment:
        try:
            return Environment._of(self._workspace.parts.environments.get(EnvironmentRef.parse(name)))
        except NotFoundError as error:
            raise MissingEnvironmentError(error.what, where=error.where, hint=error.hint) from None

    def __iter__(self) -> Iterator[str]:
        return iter([one.name for one in self.list()])

    def __len__(self) -> int:
        return len(self.list())

    @translated
    def register(
        self,
        environment: Environment | str,
        file: PathLike | None = None,
        *,
        packages: Sequence[str] = (),
        conda_packages: Sequence[str] = (),
        conda_channels: Sequence[str] = (),
        python: str | None = None,
        variables: Mapping[str, object] | None = None,
        base_image: str | None = None,
        base_dockerfile: str | None = None,
    ) -> Environment:
        """Register an ``Environment``, or what is said here under a name, and return what was registered.

        ``file`` is a conda file (.yml, .yaml), pip's requirements (.txt, .in), an environment's JSON, or a folder that
        ``save_to_directory`` wrote; ``packages`` are pip's; ``base_dockerfile`` is the text of a Dockerfile. It is the
        next version of the name, or the latest again where that asks for the same. Raises ``NotFoundError`` and
        ``UsageError``, among them ``InvalidDocumentError`` with every violation.
        """
        conda = bool(conda_packages or conda_channels)
        more = Additions(python, tuple(packages), labels_of(variables, "variables"), base_image, base_dockerfile)
        if isinstance(environment, Environment):
            if file is not None or conda or more != Additions():
                hint = "set its attributes, and register it alone"
                raise UsageError("an Environment is given with what it has itself", where="register", hint=hint)
            return environment.register(self._workspace)
        name = check_environment_name(environment)
        if (path := path_of(file)) is not None:
            if conda:
                raise UsageError("a file and conda packages are given", where="register", hint="write them into it")
            record = from_file(path, name, more)
        elif conda or not (base_image or base_dockerfile):
            if not (conda or packages or python):
                hint = "give a file, packages, a Python or a base"
                raise UsageError("an environment needs something in it", where="register", hint=hint)
            record = from_packages(name, conda_packages=conda_packages, conda_channels=conda_channels, additions=more)
        else:
            record = from_base(name, more)
        return Environment._of(self._workspace.parts.environments.register(record))

    @translated
    def list(self, name: str | None = None) -> Sequence[Environment]:
        """The latest version of each name; of one ``name`` every version. Raises ``NotFoundError`` without it."""
        registry = self._workspace.parts.environments
        found = registry.list() if name is None else registry.versions(check_environment_name(name))
        return [Environment._of(one) for one in found]
