"""``Webservice``: a deployed service as scripts use it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from edgepack.errors import EdgepackError, NotFoundError, RuntimeFailedError, UsageError
from packager.exceptions import translated, translating
from packager.sdk.arguments import label_of, labels_of
from packager.sdk.owner import Named, Owner
from packager.services.configuration.values import Auth
from packager.services.deploying import Services
from packager.services.plan import Change
from packager.services.service import Service
from packager.services.states import State, spelled
from packager.services.targets.base import Observation

if TYPE_CHECKING:
    from packager.sdk.inference import InferenceConfig
    from packager.sdk.webservice.deployment import DeploymentConfiguration
    from packager.services.credentials.tokens import Token

# The class of each kind: ``packager.sdk.webservice.kinds`` imports them all.
_CLASSES: dict[str, type[Webservice]] = {}
_ENDPOINT = "AKSENDPOINT"
_STATES_OF_FAILURE = ("Failed", "failed", "Unschedulable")


class Webservice:
    """A service of a workspace. ``Webservice(ws, "churn")`` is the class of the kind that it is of.

    Raises ``NotFoundError``, which is Azure's ``WebserviceException`` too.
    """

    _KIND: ClassVar[str | None] = None

    _service: Service
    _seen: Observation | None
    _cause: EdgepackError | None = None

    def __init_subclass__(cls) -> None:
        if cls._KIND is not None:
            _CLASSES[cls._KIND] = cls

    def __new__(cls, workspace: Owner, name: str, *args: object, **kwargs: object) -> Webservice:
        with translating():
            return super().__new__(_class_of(workspace, name) if cls is Webservice else cls)

    @translated
    def __init__(self, workspace: Owner, name: str) -> None:
        self.workspace = workspace
        self._take(find(workspace, name))

    @classmethod
    def _of(
        cls, workspace: Owner, service: Service, cause: EdgepackError | None = None, seen: Observation | None = None
    ) -> Webservice:
        made = object.__new__(_CLASSES[service.compute_type])
        made.workspace = workspace
        made._take(service, seen)
        made._cause = cause
        return made

    def _take(self, service: Service, seen: Observation | None = None) -> None:
        self._service, self._seen = service, seen

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(workspace={self.workspace!r}, name={self.name}, compute_type={self.compute_type}, "
            f"tags={self.tags}, properties={self.properties})"
        )

    # What it is

    @property
    def name(self) -> str:
        """Its name."""
        return self._service.name

    @property
    def compute_type(self) -> str:
        """The kind of its target: ``Local``, ``ACI`` or ``AKS``."""
        return self._service.compute_type.value

    @property
    def state(self) -> str:
        """Its state when it was last looked at: ``update_deployment_state`` looks again."""
        return spelled(self._observed.state, self._service.compute_type)

    @property
    def error(self) -> str | None:
        """Why it is as it is, or why its last change failed."""
        return self._observed.reason or self._service.error

    @property
    def scoring_uri(self) -> str | None:
        """Where it scores; ``None`` where that is not known."""
        return self._address("/score")

    @property
    def swagger_uri(self) -> str | None:
        """Where its OpenAPI document is; ``None`` where that is not known."""
        return self._address("/swagger.json")

    @property
    def auth_enabled(self) -> bool:
        """Whether callers show a key."""
        return self._service.auth is Auth.KEY

    @property
    def token_auth_enabled(self) -> bool:
        """Whether callers show a token."""
        return self._service.auth is Auth.TOKEN

    @property
    def tags(self) -> dict[str, str]:
        """Its tags, a copy; ``update`` and ``add_tags`` change them."""
        return dict(self._service.tags)

    @property
    def properties(self) -> dict[str, str]:
        """Its properties, a copy; they only grow."""
        return dict(self._service.properties)

    @property
    def description(self) -> str | None:
        """What it is for."""
        return self._service.description

    @property
    def created_time(self) -> str:
        """When it was first deployed, in UTC."""
        return self._service.created

    @property
    def updated_time(self) -> str:
        """When it was last changed, in UTC."""
        return self._service.updated

    @property
    def image_id(self) -> str:
        """The tag of its image in the workspace."""
        return self._service.package

    @property
    def image_digest(self) -> str:
        """The digest of its image."""
        return str(self._service.image)

    @property
    def models(self) -> Sequence[Any]:
        """The models that it serves."""
        return [self.workspace.models[one] for one in self._model_ids]

    @property
    def _model_ids(self) -> tuple[str, ...]:
        return self._service.models

    @property
    def _observed(self) -> Observation:
        if self._seen is None:
            self._seen = self._services.observe(self.name)[1]
        return self._seen

    @property
    def _services(self) -> Services:
        return Services(self.workspace.parts)

    def _recorded(self) -> Service:
        """The service as it is recorded now."""
        return find(self.workspace, self.name)

    def _address(self, path: str) -> str | None:
        service, target = self._services.target(self.name)
        address = target.address(service)
        return None if address is None else address + path

    # Finding

    @staticmethod
    @translated
    def list(
        workspace: Owner,
        compute_type: str | None = None,
        image_name: str | None = None,
        image_id: str | None = None,
        model_name: str | None = None,
        model_id: str | None = None,
        tags: Sequence[Any] | None = None,
        properties: Sequence[Any] | None = None,
        image_digest: str | None = None,
    ) -> Sequence[Webservice]:
        """The services that meet every filter; each item of ``tags`` is ``'key'`` or ``['key', 'value']``.

        Endpoints are among them, and their versions are not.
        """
        if image_name is not None:
            raise UsageError("services are of packages", where="image_name", hint="filter by image_id or model_name")
        return [
            one
            for one in _all(workspace)
            if (compute_type is None or one.compute_type.lower() == str(compute_type).lower())
            and (image_id is None or one.image_id == image_id)
            and (image_digest is None or one.image_digest == image_digest)
            and (model_id is None or model_id in one._model_ids)
            and (model_name is None or model_name in [each.partition(":")[0] for each in one._model_ids])
            and _meets(one.tags, tags, "tags")
            and _meets(one.properties, properties, "properties")
        ]

    # What is done with it

    @translated
    def update_deployment_state(self) -> None:
        """Look at it again."""
        self._take(find(self.workspace, self.name))

    @translated
    def wait_for_deployment(self, show_output: bool = False, timeout_sec: float | None = None) -> None:
        """Wait until it is healthy; raises ``WebserviceException`` with the reason where it failed."""
        if self._cause is not None:
            raise self._cause

        waited = False

        def tell(seen: Observation) -> None:
            nonlocal waited
            waited = waited or seen.state is State.TRANSITIONING
            if show_output and waited:
                sys.stdout.write("\n" if seen.state is not State.TRANSITIONING else ".")
                sys.stdout.flush()

        self._take(*self._services.wait(self.name, timeout_sec, tell))
        if self.state in _STATES_OF_FAILURE:
            raise RuntimeFailedError(
                self.error or f"is {self.state}", where=f"service {self.name}", hint="see service.get_logs()"
            )
        if show_output:
            sys.stdout.write(f"{self._kind_in_words} is {self._in_words} at {self.scoring_uri}\n")

    _kind_in_words: ClassVar[str] = "Service"

    @property
    def _in_words(self) -> str:
        return self.state.lower()

    @translated
    def get_logs(self, num_lines: int = 5000, init: bool = False) -> str:
        """The last lines that it wrote."""
        service, target = self._services.target(self.name)
        return target.logs(service, num_lines)

    @translated
    def run(self, input: Any) -> Any:  # noqa: A002 - Azure's name
        """Let it score the text or bytes of a request's body; returns the answer, read as JSON where it is JSON.

        Raises ``WebserviceException`` with the status, the headers and the text of an answer that is not 200.
        """
        from packager.services.calling import score
        from packager.services.credentials.callers import shown_to

        root, service = self.workspace.parts.root, self._recorded()
        return score(
            self._address("/score"), input, where=f"service {self.name}", shown=lambda: shown_to(root, service)
        )

    @translated
    def get_keys(self) -> tuple[str, str]:
        """The primary and the secondary key; raises ``WebserviceException`` where it asks for none."""
        from packager.services.credentials.callers import keys_of

        found = keys_of(self.workspace.parts.root, self._recorded())
        return str(found.primary), str(found.secondary)

    @translated
    def regen_key(self, key: str, set_key: str | None = None) -> None:
        """Put ``set_key`` or a new key in place of the ``primary`` or ``secondary`` one; the other one stays."""
        from packager.services.credentials.keys import given_key, which_of

        own = None if set_key is None else given_key(set_key, "set_key")
        self._services.regenerate(self.name, which_of(key, "key"), own)

    @translated
    def get_token(self) -> tuple[str, datetime]:
        """A token, and from when on to get another one, by this machine's clock.

        Raises ``WebserviceException`` where the service asks for none.
        """
        found = self._token()
        return str(found.text), local_time(found.refresh_after)

    def _token(self) -> Token:
        from packager.services.credentials.callers import token_of

        return token_of(self.workspace.parts.root, self._recorded())

    @translated
    def delete(self) -> None:
        """Stop and forget it; its models and its package stay."""
        from packager.services.endpoints.store import EndpointStore

        EndpointStore(self.workspace.parts.root).check_free(self.name)
        self._services.delete(self.name)

    def _update(
        self,
        models: Sequence[Named | str] | None,
        inference_config: InferenceConfig | None,
        configuration: DeploymentConfiguration | None = None,
        tags: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
        description: str | None = None,
    ) -> None:
        from packager.sdk.webservice.change import change_of

        change = change_of(self.workspace, models, inference_config, configuration)
        said = Change(
            change.models, change.options, change.source, change.configuration, description,
            None if tags is None else labels_of(tags, "tags"),
            None if properties is None else labels_of(properties, "properties"),
        )  # fmt: skip
        self._take(*self._services.update(self.name, said))

    def serialize(self) -> dict[str, Any]:
        """Its fields by Azure's names."""
        return {
            "name": self.name, "computeType": self.compute_type, "state": self.state, "error": self.error,
            "description": self.description, "tags": self.tags, "properties": self.properties,
            "createdTime": self.created_time, "updatedTime": self.updated_time, "authEnabled": self.auth_enabled,
            "imageId": self.image_id, "imageDigest": self.image_digest, "models": [*self._model_ids],
            "scoringUri": self.scoring_uri, "swaggerUri": self.swagger_uri,
            "deploymentConfig": dict(self._service.deployment),
        }  # fmt: skip


def _class_of(workspace: Owner, name: str) -> type[Webservice]:
    """The class of the service or of the endpoint called ``name``; raises ``NotFoundError``."""
    from packager.services.endpoints.store import EndpointStore

    if name in [one.name for one in EndpointStore(workspace.parts.root).list()]:
        return _CLASSES[_ENDPOINT]
    return _CLASSES[find(workspace, name).compute_type]


def _all(workspace: Owner) -> Sequence[Webservice]:
    """The services by name, without those that are versions of endpoints, and the endpoints."""
    from packager.services.endpoints.store import EndpointStore

    endpoints = EndpointStore(workspace.parts.root).list()
    versions = {one.service(version) for one in endpoints for version in one.weights}
    services = [one for one in Services(workspace.parts).list() if one.name not in versions]
    found = [Webservice._of(workspace, one) for one in services]
    return [*found, *(_CLASSES[_ENDPOINT](workspace, one.name) for one in endpoints)]


def find(workspace: Owner, name: str) -> Service:
    """The service called ``name``; raises ``NotFoundError`` with Azure's word."""
    try:
        return Services(workspace.parts).get(name)
    except NotFoundError as error:
        raise NotFoundError(f"WebserviceNotFound: {error.what}", where=error.where, hint=error.hint) from None


def local_time(moment: datetime) -> datetime:
    """``moment`` by this machine's clock and without a zone, as Azure's are and ``datetime.now()`` is."""
    return moment.astimezone().replace(tzinfo=None)


def _meets(labels: Mapping[str, str], wanted: Sequence[Any] | None, what: str) -> bool:
    for item in wanted or ():
        key, value = (item, None) if isinstance(item, str) else (str(item[0]), label_of(item[0], item[1], what))
        if key not in labels or (value is not None and labels[key] != value):
            return False
    return True
