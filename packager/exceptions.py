"""Errors by the names that scripts written for Azure's SDK catch; each is also the edgepack error that it stands for.

::

    AzureMLException
    ├── UserErrorException
    ├── WorkspaceException
    ├── WebserviceException
    │   ├── ModelNotFoundException, ModelPathNotFoundException
    ├── RunEnvironmentException, ExperimentExecutionException
    ├── ComputeTargetException
    └── ActivityFailedException
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from edgepack.errors import EdgepackError, NotFoundError, UsageError

_P = ParamSpec("_P")
_R = TypeVar("_R")


class AzureMLException(Exception):  # noqa: N818 - Azure's name
    """What every error of Azure's SDK is; ``message`` holds its text."""

    @property
    def message(self) -> str:
        """The text of the error."""
        return str(self)


class UserErrorException(AzureMLException):
    """Wrong configuration or arguments."""


class WorkspaceException(AzureMLException):
    """A workspace that cannot be found or used."""


class WebserviceException(AzureMLException):
    """What models, packages and services raise."""


class ModelNotFoundException(WebserviceException):
    """No such model."""


class ModelPathNotFoundException(WebserviceException):
    """No such file of a model."""


class RunEnvironmentException(AzureMLException):
    """There is no run that this program belongs to."""


class ExperimentExecutionException(AzureMLException):
    """A run that failed."""


class ComputeTargetException(AzureMLException):
    """A compute target that cannot be used."""


class ActivityFailedException(AzureMLException):
    """Work that was waited for and failed."""


_BOTH: dict[type[EdgepackError], type[EdgepackError]] = {}


def _both(kind: type[EdgepackError]) -> type[EdgepackError]:
    """The class that is ``kind`` and what Azure's SDK raises in its place."""
    if kind not in _BOTH:
        _BOTH[kind] = _joined(kind)
    return _BOTH[kind]


def _joined(kind: type[EdgepackError]) -> type[EdgepackError]:
    also: tuple[type[AzureMLException], ...] = (WebserviceException,)
    if issubclass(kind, NotFoundError):
        also = (ModelNotFoundException, ModelPathNotFoundException)
    elif issubclass(kind, UsageError):
        also = (WebserviceException, UserErrorException)
    return type(kind.__name__, (kind, *also), {"__module__": kind.__module__, "__doc__": kind.__doc__})


@contextmanager
def translating() -> Iterator[None]:
    """A block whose errors may be caught by Azure's names and by ours."""
    try:
        yield
    except EdgepackError as error:
        if not isinstance(error, AzureMLException):
            error.__class__ = _both(type(error))
        raise


def translated(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """``function``, whose errors may be caught by Azure's names and by ours."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with translating():
            return function(*args, **kwargs)

    return call
