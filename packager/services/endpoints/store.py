"""Where a workstation keeps its endpoints: a file for each, in the workspace's own folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from edgepack.errors import InvalidDocumentError, InvalidReferenceError, NotFoundError, UsageError, disk_errors
from edgepack.host.files import atomic_write, make_dirs
from edgepack.names import check_service_name
from edgepack.nearness import did_you_mean, listed
from packager.services.endpoints.endpoint import Endpoint, service_of
from packager.services.targets.places import SERVICES

_FOLDER = "endpoints"


class Part(NamedTuple):
    """A version, and the endpoint that it is of."""

    endpoint: Endpoint
    version: str


class EndpointStore:
    """The endpoints of the workspace at ``root``.

    Beside them it has a mark for each service that is becoming a version, or ceases to be one: after a command that was
    killed it is told from one that somebody else made.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / SERVICES / _FOLDER

    def list(self) -> tuple[Endpoint, ...]:
        """The endpoints by name."""
        with disk_errors(self._folder):
            files = sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []
        return tuple(sorted((self._read(file) for file in files), key=lambda one: one.name))

    def find(self, name: str) -> Endpoint | None:
        """The endpoint called ``name``; ``None`` without one."""
        try:
            file = self._file(check_service_name(name))
        except InvalidReferenceError:  # which nothing is called
            return None
        return self._read(file) if file.exists() else None

    def get(self, name: str) -> Endpoint:
        """The endpoint called ``name``; raises ``NotFoundError``."""
        found = self.find(name)
        if found is None:
            names = [one.name for one in self.list()]
            there = f"there are {listed(names)}" if names else "make it with: edgepack endpoint create"
            raise NotFoundError(
                f"endpoint {name!r} not found", where="endpoint registry", hint=did_you_mean(name, names, there)
            )
        return found

    def put(self, endpoint: Endpoint) -> None:
        """Keep ``endpoint``, in place of what was known of it."""
        make_dirs(self._folder)
        atomic_write(self._file(endpoint.name), json.dumps(endpoint.to_json(), indent=2).encode())

    def remove(self, name: str) -> None:
        """Forget an endpoint."""
        self._file(name).unlink(missing_ok=True)

    def part(self, service: str) -> Part | None:
        """What a service is the version of; ``None`` for one that is none."""
        found = (Part(one, version) for one in self.list() for version in one.weights)
        return next((one for one in found if service_of(one.endpoint.name, one.version) == service), None)

    def check_free(self, service: str) -> None:
        """Raise ``UsageError`` for a service that is a version of an endpoint: it is deleted there."""
        if (part := self.part(service)) is not None:
            name, version = part.endpoint.name, part.version
            raise UsageError(
                f"is version {version} of endpoint {name}", where=f"service {service}",
                hint=f"delete it there: edgepack endpoint delete-version {name} {version}",
            )  # fmt: skip

    def mark(self, service: str) -> None:
        """Note that ``service`` is becoming a version, or ceases to be one."""
        make_dirs(self._folder)
        atomic_write(self._mark(service), b"")

    def unmark(self, service: str) -> None:
        """Note that it is one, or is gone."""
        self._mark(service).unlink(missing_ok=True)

    def is_marked(self, service: str) -> bool:
        """Whether a command that was to make it a version, or to delete it as one, has not come to its end."""
        try:
            return self._mark(check_service_name(service)).exists()
        except InvalidReferenceError:
            return False

    def _mark(self, service: str) -> Path:
        return self._folder / f".{service}.unfinished"

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _read(self, file: Path) -> Endpoint:
        try:
            with disk_errors(file):
                return Endpoint.of_json(json.loads(file.read_bytes()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidDocumentError(file, ["is not an endpoint that was kept here"]) from error
