"""A package of the workspace as a workload: what its image says of itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgepack.errors import IncompatibleError, UsageError
from edgepack.names import check_service_name
from edgepack.oci import mediatypes
from edgepack.oci.reference import Reference, image_tag, names_registry
from packager.exports.workload import Workload, numeric_user
from packager.images.inspect import ImageView, views
from packager.workspaces.workspace import Workspace


def workload_of(workspace: Workspace, package: str, name: str | None = None, repository: str | None = None) -> Workload:
    """The image ``package`` as a workload called ``name``, pulled from ``repository``.

    Without them the name is made of the package's, and the repository is what the package names, if that has a
    registry. Raises ``NotFoundError``, ``UsageError`` and ``IncompatibleError``.
    """
    tag = image_tag(package)
    root = workspace.image(tag)
    images = views(workspace.store, root)
    one = images[0]
    if not one.config.labels.get(mediatypes.MODELS) and "edge_server" not in one.config.entrypoint:
        raise IncompatibleError(
            "is not an image that serves models", where=tag, hint="build one with: edgepack package build"
        )
    users = {numeric_user(image.config.user, tag) for image in images}
    user, group = users.pop()
    if users:
        raise IncompatibleError("runs as another user on each platform", where=tag, hint="build it again")
    return Workload(
        name=_name(tag, name),
        digest=root.digest,
        repository=_repository(tag, repository),
        platforms=tuple(image.platform for image in images),
        models=tuple(filter(None, one.config.labels.get(mediatypes.MODELS, "").split(","))),
        package=tag,
        version=tag.rpartition(":")[2],
        user=user,
        group=group,
        python=_python(images, tag),
        port=_port(one),
    )


def _name(tag: str, name: str | None) -> str:
    if name is not None:
        return check_service_name(name)
    found = re.sub(r"[^a-z0-9]+", "-", Reference.parse(tag).repository.rpartition("/")[2]).strip("-")
    try:
        return check_service_name(found)
    except UsageError as error:
        hint = f"give the service a name: --name NAME; {error.hint}"
        raise UsageError("has a name that no service can have", where=tag, hint=hint) from error


def _repository(tag: str, repository: str | None) -> str | None:
    if repository is None:
        return Reference.parse(tag).name if names_registry(tag) else None
    reference = Reference.parse(repository)
    written = repository.rpartition("/")[2]
    if reference.digest is not None or ":" in written:
        raise UsageError(
            f"{repository!r} has a tag or a digest, and the image's own digest goes there", where="--repository",
            hint=f"write it as {reference.name}",
        )  # fmt: skip
    return reference.name


def _python(images: Sequence[ImageView], tag: str) -> str:
    """The interpreter that the entrypoint starts, which probes use too."""
    found = {image.config.entrypoint[:1] for image in images}
    if len(found) == 1 and (argv := found.pop()) and argv[0].rpartition("/")[2].startswith("python"):
        return argv[0]
    raise IncompatibleError(
        "does not start a Python that probes could use", where=tag, hint="build it again with: edgepack package build"
    )


def _port(image: ImageView) -> int:
    ports = [port.partition("/")[0] for port in image.config.exposed_ports]
    return next((int(port) for port in ports if port.isdecimal()), 5001)
