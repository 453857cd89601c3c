"""A client of image registries (distribution-spec 1.1): pull, push, attach; verified, resumable, flat in memory."""

from edgepack.host.credentials import CredentialLookup, Credentials, anonymous
from edgepack.oci.docker_config import DockerConfig
from edgepack.oci.remote.client import RemoteRepository
from edgepack.oci.remote.known import KnownBlobs
from edgepack.oci.remote.transport import Policy

__all__ = ["CredentialLookup", "Credentials", "DockerConfig", "KnownBlobs", "Policy", "RemoteRepository", "anonymous"]
