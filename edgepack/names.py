"""The names of models, environments, services, devices and groups; those of images: ``edgepack.oci.reference``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgepack.errors import InvalidReferenceError

# What Azure's registry takes for models and environments, with the length of its later versions.
_REGISTERED = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,254}")
_VERSION = re.compile(r"0*[1-9][0-9]{0,17}")
# Azure's service names. Each is also a host name (RFC 1123), a folder and part of a container's name on a device.
SERVICE_NAME_RULE = "use 3 to 32 lowercase letters, digits and '-', starting with a letter and not ending in '-'"
_SERVICE = re.compile(r"[a-z]([-a-z0-9]{1,30})[a-z0-9]")
# Part of a topic of MQTT, a client's id and a file's name: no slash, no wildcard, no dot in front. A host's name fits.
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class ModelRef:
    """A model by name and version; no version means the latest."""

    name: str
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """Parse ``NAME`` or ``NAME:VERSION``; raises ``InvalidReferenceError``."""
        return cls(*_name_and_version(text, "model"))

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}:{self.version}"


@dataclass(frozen=True)
class EnvironmentRef:
    """An environment by name and version; no version means the latest."""

    name: str
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> EnvironmentRef:
        """Parse ``NAME`` or ``NAME:VERSION``; raises ``InvalidReferenceError``."""
        return cls(*_name_and_version(text, "environment"))

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}:{self.version}"


def _name_and_version(text: str, kind: str) -> tuple[str, int | None]:
    name, colon, version = text.partition(":")
    _check_registered(name, kind)
    if not colon:
        return name, None
    # A database's whole numbers end at 63 bits, and Python refuses to read very long ones.
    if not _VERSION.fullmatch(version):
        raise InvalidReferenceError(
            f"{version[:40]!r} is not {_with_article(kind)} version", where=name,
            hint="versions are whole numbers from 1",
        )  # fmt: skip
    return name, int(version)


def check_model_name(name: str) -> str:
    """``name`` when a model may have it; raises ``InvalidReferenceError``."""
    return _check_registered(name, "model")


def check_environment_name(name: str) -> str:
    """``name`` when an environment may have it; raises ``InvalidReferenceError``."""
    return _check_registered(name, "environment")


def _check_registered(name: str, kind: str) -> str:
    if not _REGISTERED.fullmatch(name):
        raise InvalidReferenceError(
            f"{name!r} is not {_with_article(kind)} name",
            hint="use letters, digits, '.', '_' and '-', starting with a letter or digit, at most 255 characters",
        )
    return name


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def check_service_name(name: str) -> str:
    """``name`` when a service may have it; raises ``InvalidReferenceError``."""
    if not _SERVICE.fullmatch(name):
        raise InvalidReferenceError(
            f"{name!r} is not a service name",
            hint=SERVICE_NAME_RULE,
        )
    return name


def check_device_name(name: str) -> str:
    """``name`` when a device may have it; raises ``InvalidReferenceError``."""
    return _check_device(name, "device")


def check_group_name(name: str) -> str:
    """``name`` when a group of devices may have it; raises ``InvalidReferenceError``."""
    return _check_device(name, "group")


def _check_device(name: str, kind: str) -> str:
    if not _DEVICE.fullmatch(name):
        raise InvalidReferenceError(
            f"{name!r} is not {_with_article(kind)} name",
            hint="use letters, digits, '.', '_' and '-', starting with a letter or digit, at most 128 characters",
        )
    return name
