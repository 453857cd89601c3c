"""``Section``: an object whose attributes scripts set; a name that it does not have is refused, and not lost."""

from __future__ import annotations

from typing import ClassVar

from edgepack.errors import UsageError
from edgepack.nearness import did_you_mean
from packager.exceptions import UserErrorException, WebserviceException


class UnknownAttributeError(UsageError, WebserviceException, UserErrorException, AttributeError):
    """An attribute that an object does not have."""


class Section:
    """What has the attributes ``_NAMES`` and no others, beside private ones."""

    _NAMES: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self._NAMES and not name.startswith("_"):
            hint = did_you_mean(name, self._NAMES, f"it has {', '.join(self._NAMES)}")
            raise UnknownAttributeError(f"{type(self).__name__} has no attribute {name!r}", hint=hint)
        super().__setattr__(name, value)
