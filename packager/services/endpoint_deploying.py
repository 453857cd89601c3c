"""Carries out what ``edgepack endpoint`` and the SDK ask for: versions are services, and their target shares requests.

A version is deployed before it gets requests, and gets none before it is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from edgepack.errors import EdgepackError, NotFoundError, UsageError
from edgepack.hidden import HiddenText
from edgepack.host.progress import Progress, unseen
from edgepack.names import check_service_name
from edgepack.state.endpoints import EndpointTls
from edgepack.state.reported_endpoints import ReportedEndpoint
from packager.fleet.reach import UnseenError
from packager.layers.secrets import check_record
from packager.services.configuration.rules import Configuration, Keys
from packager.services.configuration.values import Auth, ComputeType, DeviceDeployment
from packager.services.credentials.folder import CredentialFolder
from packager.services.credentials.keys import ServiceKeys, Which, new_key
from packager.services.deploying import Services
from packager.services.endpoint_keys import keys_of_versions, regenerate
from packager.services.endpoints.endpoint import (
    Endpoint,
    changed,
    check_auth,
    host_name_of,
    of_version,
    promoted,
    service_of,
    with_traffic,
    with_version,
    without_version,
)
from packager.services.endpoints.store import EndpointStore
from packager.services.exclusive import exclusive
from packager.services.plan import Change, Request, grown
from packager.services.registry import now
from packager.services.service import Service
from packager.services.states import State
from packager.services.targets.base import RoutingTarget
from packager.services.targets.places import SERVICES
from packager.services.targets.table import is_known, place_of, routing_target
from packager.workspaces.workspace import Workspace

_FAILED = (State.FAILED, State.UNSCHEDULABLE, State.DELETED)


@dataclass(frozen=True)
class Version:
    """A version that is to be: its name, what it runs, and its part of the traffic.

    The ``request`` is of any name, which becomes that of the version's service.
    """

    name: str
    request: Request
    weight: int = 0
    is_default: bool = False
    is_control: bool = False


@dataclass(frozen=True)
class Settings:
    """What an endpoint is beside its versions; ``None`` for what stays as it is, or as usual."""

    port: int | None = None
    caller_header: str | None = None
    max_connections: int | None = None
    queue_seconds: float | None = None
    tls: EndpointTls | None = None
    description: str | None = None
    tags: Mapping[str, str] | None = None
    properties: Mapping[str, str] | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What is said."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Observed:
    """An endpoint, and how its target reports it; ``None`` where that reports nothing of it."""

    endpoint: Endpoint
    seen: ReportedEndpoint | None = field(default=None)


class Endpoints:
    """The endpoints of ``workspace``, and what changes them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._store = EndpointStore(workspace.root)
        self._services = Services(workspace)

    def list(self) -> tuple[Endpoint, ...]:
        """All endpoints by name."""
        return self._store.list()

    def get(self, name: str) -> Endpoint:
        """The endpoint called ``name``; raises ``NotFoundError``."""
        found = self._store.find(name)
        if found is None and (service := self._services.find(name)) is not None:
            part = self._store.part(service.name)
            hint = f"it is a service, see: edgepack service show {name}"
            if part is not None:
                hint = f"it is version {part.version} of endpoint {part.endpoint.name}"
            raise NotFoundError(f"endpoint {name!r} not found", where="endpoint registry", hint=hint)
        return found or self._store.get(name)

    def observe(self, name: str) -> Observed:
        """The endpoint called ``name``, and how it is now; raises ``NotFoundError``."""
        found = self.get(name)
        return Observed(found, self._target(found).routed(name))

    def address(self, one: Endpoint) -> str | None:
        """Where it answers; ``None`` where that is not known."""
        scheme = "http" if one.tls is None else "https"
        host = "127.0.0.1" if one.compute_type is ComputeType.LOCAL else one.host_name
        return None if host is None else f"{scheme}://{host}:{one.port}"

    def create(self, name: str, version: Version, settings: Settings, progress: Progress = unseen) -> Observed:
        """Deploy the first version, and open the endpoint before it; raises ``UsageError`` where it is there."""
        check_service_name(name)
        with self._changing(name), self._services.changing(name):
            if self._store.find(name) is not None:
                raise UsageError(
                    "is there already", where=f"endpoint {name}",
                    hint=f"give it another version: edgepack endpoint create-version {name} --version V",
                )  # fmt: skip
            if self._services.find(name) is not None:
                raise UsageError("is the name of a service", where=f"endpoint {name}", hint="choose another name")
            kind = version.request.configuration.deployment.compute_type
            if kind is ComputeType.KUBERNETES:
                raise UsageError(
                    "is for this machine and for devices", where=f"endpoint {name}",
                    hint="on Kubernetes deploy each version as a service, and share requests out by an HTTPRoute",
                )  # fmt: skip
            place, moment = place_of(self._workspace, kind, version.request.where), now()
            made = Endpoint(
                name, kind, place, 0, {version.name: 0}, version.name, version.name if version.is_control else None,
                created=moment, updated=moment, host_name=host_name_of(version.request.configuration),
            )  # fmt: skip
            made = with_traffic(replace(made, **settings.given), {version.name: version.weight})
            made = replace(made, port=self._target(made).endpoint_port(name, settings.port))
            return self._with_deployed(made, version, Keys(), progress)

    def create_version(self, name: str, version: Version, progress: Progress = unseen) -> Observed:
        """Deploy another version beside those that are there; its callers show the same keys."""
        with self._changing(name):
            one = self.get(name)
            made = with_version(
                one, version.name, version.weight, is_default=version.is_default, is_control=version.is_control
            )
            kind = version.request.configuration.deployment.compute_type
            if kind is not one.compute_type:
                raise UsageError(
                    f"is on {one.target or one.compute_type}, and the version would be on {kind}",
                    where=f"endpoint {name}", hint="give a configuration of the same kind by --dc",
                )  # fmt: skip
            first = self._services.get(one.service(one.default))
            check_auth(version.name, version.request.configuration.deployment.auth, first.auth)
            return self._with_deployed(made, version, self._keys(first.name, first.auth), progress)

    def _has_failed(self, service: Service) -> bool:
        """Whether ``service`` was to run, such as by an earlier attempt, and nothing of it does."""
        return service.error is not None and self._services.observe(service.name)[1].state in _FAILED

    def _keys(self, service: str, auth: Auth) -> Keys:
        found = CredentialFolder(self._workspace.root).find(service) if auth is Auth.KEY else None
        return Keys() if found is None else Keys(found.keys.primary, found.keys.secondary)

    def _with_deployed(self, made: Endpoint, version: Version, keys: Keys, progress: Progress) -> Observed:
        """Deploy the service of ``version``, and let requests come to it; it is gone again when that fails."""
        name = service_of(made.name, version.name)
        failed = self._services.find(name)
        if failed is not None and not self._store.is_marked(name) and not self._has_failed(failed):  # somebody's
            raise UsageError(
                "is there already, and would be the version", where=f"service {name}",
                hint=f"delete it: edgepack service delete {name}, or call the version something else",
            )  # fmt: skip
        given = of_version(made, version.name, version.request.configuration)
        deployment = given.deployment
        if isinstance(deployment, DeviceDeployment) and deployment.port is None:
            port = self._target(made).endpoint_port(name, None, besides=made.port)
            deployment = replace(deployment, port=port)
        configuration = Configuration(deployment, given.written, given.keys if keys == Keys() else keys)
        request = replace(version.request, name=name, configuration=configuration, where=made.target)
        self._store.mark(name)
        unseen: UnseenError | None = None
        try:
            self._services.deploy(request, overwrite=failed is not None, progress=progress)
        except UnseenError as error:  # what the target was told stands, and so does what it is told now
            unseen = error
        except EdgepackError:
            self._store.unmark(name)
            raise
        try:
            found = self._routed(made)
        except UnseenError:
            self._store.unmark(name)
            raise
        except EdgepackError as error:
            with suppress(EdgepackError):  # the first reason says more; the same command again finds the mark
                self._take_back(made, name)
            raise (unseen or error) from None
        self._store.unmark(name)
        if unseen is not None:
            raise unseen
        return found

    def _take_back(self, made: Endpoint, service: str) -> None:
        """Let the target have what it had before ``made``, and delete the version's ``service``."""
        # What is told of an endpoint names its versions: it is as before first.
        former = self._store.find(made.name)
        if former is None:
            self._target(made).unroute(made.name)
        else:
            self._routed(former)
        self._services.delete(service)
        self._store.unmark(service)

    def update_version(
        self,
        name: str,
        version: str,
        change: Change | None = None,
        *,
        weight: int | None = None,
        is_default: bool | None = None,
        is_control: bool | None = None,
        progress: Progress = unseen,
    ) -> Observed:
        """Change what a version runs, or its part of the traffic."""
        with self._changing(name):
            one = changed(self.get(name), version, is_default=is_default, is_control=is_control)
            if weight is not None:
                one = with_traffic(one, {version: weight})
            if change is not None:
                if change.configuration is not None:
                    change = replace(change, configuration=of_version(one, version, change.configuration))
                self._services.update(one.service(version), change, progress)
            return self._routed(one)

    def set_traffic(self, name: str, given: Mapping[str, int]) -> Observed:
        """Share requests out anew; a version that is not ``given`` keeps its share, the default one gets the rest."""
        with self._changing(name):
            return self._routed(with_traffic(self.get(name), given))

    def promote(self, name: str, version: str) -> Observed:
        """Let ``version`` be the default and the control, and get everything."""
        with self._changing(name):
            return self._routed(promoted(self.get(name), version))

    def update(self, name: str, settings: Settings, default: str | None = None, control: str | None = None) -> Observed:
        """Change the endpoint itself."""
        with self._changing(name):
            one = self.get(name)
            if default is not None:
                one = changed(one, default, is_default=True)
            if control is not None:
                one = changed(one, control, is_control=True)
            said = settings.given
            if settings.properties is not None:
                said["properties"] = grown(one.properties, settings.properties, f"endpoint {name}")
            if settings.port not in (None, one.port):
                said["port"] = self._target(one).endpoint_port(name, settings.port)
            return self._routed(with_traffic(replace(one, **said), {}))

    def delete_version(self, name: str, version: str) -> Observed:
        """Take a version out, and delete its service; raises ``UsageError`` while it gets requests."""
        with self._changing(name):
            one = self.get(name)
            if version not in one.weights and self._store.is_marked(f"{name}-{version}"):
                self._delete_service(service_of(name, version))  # as a command was to that was killed
                return self.observe(name)
            left = without_version(one, version)
            self._store.mark(one.service(version))
            found = self._routed(left)
            self._delete_service(one.service(version))
            return found

    def delete(self, name: str) -> Endpoint:
        """Close the endpoint, and delete its versions; raises ``NotFoundError``."""
        with self._changing(name):
            one = self.get(name)
            if is_known(self._workspace, one.compute_type, one.target, f"endpoint {name}"):
                self._target(one).unroute(name)
            for version in one.weights:
                self._delete_service(one.service(version))
            self._store.remove(name)  # last, so that the same command goes on after it was killed
            return one

    def _delete_service(self, name: str) -> None:
        with suppress(NotFoundError):  # by a command that was killed a moment later
            self._services.delete(name)
        self._store.unmark(name)

    def keys(self, name: str) -> dict[str, ServiceKeys]:
        """The keys of each version, the default one first, which are the same unless one was given others by itself.

        Raises ``NotFoundError``, and ``UsageError`` where callers show none.
        """
        return keys_of_versions(self._workspace.root, self._services, self.get(name))

    def regenerate(self, name: str, which: Which, own: HiddenText | None = None) -> ServiceKeys:
        """Put another key in place of one of the two, the same for all versions, ``own`` or a new one; returns both.

        Raises as ``Services.regenerate``; no version has the key then, unless its target was told.
        """
        with self._changing(name):
            one = self.get(name)
            regenerate(self._workspace.root, self._services, one, which, own or new_key())
            return self.keys(name)[one.default]

    def _routed(self, one: Endpoint) -> Observed:
        """Tell the target, and keep the endpoint once it has taken it."""
        one = replace(one, updated=now())
        check_record(one.to_json(), f"endpoint {one.name}")
        services = [self._services.get(one.service(version)) for version in one.weights]
        try:
            seen = self._target(one).route(one.desired(), services)
        except UnseenError:  # it stands
            self._store.put(one)
            raise
        self._store.put(one)
        return Observed(one, seen)

    def _target(self, one: Endpoint) -> RoutingTarget:
        return routing_target(self._workspace, one.compute_type, one.target)

    def _changing(self, name: str) -> AbstractContextManager[int]:
        return exclusive(self._workspace.root / SERVICES / "endpoints" / f".{name}.lock", f"endpoint {name}")
