"""Media types of the OCI image specification 1.1, Docker's older ones, and ours."""

from __future__ import annotations

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
EMPTY = "application/vnd.oci.empty.v1+json"

# Docker distribution's image manifest, version 2, schema 2; and schema 1, which is known here to be refused by name.
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
SCHEMA_1 = frozenset(f"application/vnd.docker.distribution.manifest.v1+{kind}" for kind in ("json", "prettyjws"))

DSSE = "application/vnd.dsse.envelope.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
CYCLONEDX = "application/vnd.cyclonedx+json"
# The wheels of an image by their hashes, as pip reads them.
LOCK_ARTIFACT = "application/vnd.edgepack.lock.v1"
# A signature for Sigstore's tools: the artifact's type and its document's.
SIGSTORE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_ARTIFACT = "application/vnd.edgepack.statement.v1+json"

# The agent of devices as one file, a zip application, which is the only layer of an image.
AGENT = "application/vnd.edgepack.agent.v1+zip"

# ModelPack's model-spec, version 1: a model as an artifact that other tools read. The type of a layer of files has an
# ending for its compression, as the image specification's.
MODEL_ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
MODEL_CONFIG = "application/vnd.cncf.model.config.v1+json"
MODEL_WEIGHTS = "application/vnd.cncf.model.weight.v1.tar"
MODEL_DATASET = "application/vnd.cncf.model.dataset.v1.raw"
MODEL_DOCUMENT = "application/vnd.cncf.model.doc.v1.raw"
MODEL_FILE_PATH = "org.cncf.model.filepath"

INDEXES = frozenset({INDEX, DOCKER_INDEX})
MANIFESTS = frozenset({MANIFEST, DOCKER_MANIFEST})
CONFIGS = frozenset({CONFIG, DOCKER_CONFIG})
PLAIN_LAYERS = frozenset({LAYER, DOCKER_LAYER})
GZIP_LAYERS = frozenset({LAYER_GZIP, DOCKER_LAYER_GZIP})
ZSTD_LAYERS = frozenset({LAYER_ZSTD})

# Annotation keys: the image specification's pre-defined ones, containerd's, and ours.
REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
LAYER_KIND = "io.edgepack.layer.kind"
LAYER_TITLE = "org.opencontainers.image.title"
LAYER_UNPACKED = "io.edgepack.layer.unpacked-size"
LAYER_COMPRESSOR = "io.edgepack.layer.compressor"
# Of an image: the models that it serves, such as ``churn:2``, separated by commas.
MODELS = "io.edgepack.models"
# Of an artifact that edgepack itself attached to an image: what it is, such as ``sbom``.
ATTACHMENT_KIND = "io.edgepack.attachment.kind"
# Of the image of an agent: its version.
AGENT_VERSION = "io.edgepack.agent.version"
