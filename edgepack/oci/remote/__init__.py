"""A client of image registries (distribution-spec 1.1): pull, push, attach; verified, resumable, flat in memory."""

from edgepack.oci.remote.client import RemoteRepository
from edgepack.oci.remote.credentials import CredentialLookup, Credentials, DockerConfig, anonymous
from edgepack.oci.remote.transport import Policy

__all__ = ["CredentialLookup", "Credentials", "DockerConfig", "Policy", "RemoteRepository", "anonymous"]
