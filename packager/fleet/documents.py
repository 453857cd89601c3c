"""Desired states as a person writes them: an image may be named by its tag, which is looked up before signing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from edgepack.documents import canonical_json, parse_object
from edgepack.errors import EdgepackError, InvalidDocumentError, InvalidReferenceError, UsageError
from edgepack.oci.digest import Digest
from edgepack.oci.reference import image_tag
from edgepack.state.desired import Desired
from packager.fleet.registry import Target

_FIND_IMAGE = "an image is named by its tag, such as churn:1, or its digest: edgepack package list shows both"


def read_desired(data: bytes, where: object, find: Callable[[str], Digest]) -> Desired:
    """The desired state in ``data``, where ``find`` gives the digest of a tag.

    Raises ``InvalidDocumentError`` with every violation, tags that there are not among them.
    """
    value = parse_object(data, where)
    violations: list[str] = []
    if "agent" in value:
        value |= {"agent": _with_digest({"image": value["agent"]}, "agent", find, violations)["image"]}
    services = value.get("services")
    if isinstance(services, list):
        value["services"] = [
            _with_digest(one, f"services[{at}].image", find, violations) for at, one in enumerate(services)
        ]
    try:
        found = Desired.from_bytes(canonical_json(value), where, find_image=_FIND_IMAGE)
    except InvalidDocumentError as error:
        raise InvalidDocumentError(where, [*violations, *error.violations], hint=error.hint) from error
    if violations:
        raise InvalidDocumentError(where, violations)
    return found


def _with_digest(service: Any, path: str, find: Callable[[str], Digest], violations: list[str]) -> Any:
    if not isinstance(service, Mapping) or not isinstance(service.get("image"), str) or _is_digest(service["image"]):
        return service
    found = dict(service)
    try:
        found["image"] = str(find(image_tag(service["image"])))
    except EdgepackError as error:
        way = "" if error.hint is None else f"; {error.hint}"
        violations.append(f"{path}: {error.what}{way}")
        found["image"] = str(Digest("0" * 64))  # stands in, so that everything else is checked too
    return found


def _is_digest(text: str) -> bool:
    if text.startswith("sha256:"):  # a digest that is misspelt is no tag
        return True
    try:
        Digest.parse(text)
    except InvalidReferenceError:
        return False
    return True


def addressed(desired: Desired, target: Target, serial: int, signed_at: int) -> Desired:
    """``desired`` for ``target``, with its serial; raises ``UsageError`` where it says that it is for another one."""
    named = Target("device", desired.device) if desired.device is not None else None
    if desired.group is not None:
        named = Target("group", desired.group)
    if named not in (None, target):
        raise UsageError(f"says that it is for {named}", where=str(target), hint="leave that out of the document")
    device, group = (target.name, None) if target.kind == "device" else (None, target.name)
    return replace(desired, serial=serial, device=device, group=group, signed_at=max(signed_at, desired.signed_at or 0))
