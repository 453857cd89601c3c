"""A model as an artifact in a team's image registry, by ModelPack's model-spec, so that other tools read it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgepack.documents import canonical_json
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.layer import Layer
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from packager.models.model import Conversion, Model

_ENDINGS = {mediatypes.LAYER: "", mediatypes.LAYER_GZIP: "+gzip", mediatypes.LAYER_ZSTD: "+zstd"}


@dataclass(frozen=True)
class Shared:
    """Where a team has the blobs of a model: the repository, and what lies there."""

    repository: str
    blobs: tuple[Descriptor, ...]

    def rows(self) -> list[dict[str, str]]:
        """As rows of the database."""
        return [{"digest": str(blob.digest), "repository": self.repository} for blob in self.blobs]


class Sharing(Protocol):
    """Gives a team the blobs of its models."""

    def share(self, model: Model) -> Shared:
        """Send the files and samples of a model that was just made; raises ``RegistryError``."""

    def share_conversion(self, model: Model, conversion: Conversion) -> Shared:
        """Send the ONNX form of a model; raises ``RegistryError``."""


def model_artifact(model: Model, store: Store) -> Descriptor:
    """Put the artifact of a model's files and samples into ``store``; returns its manifest."""
    layers = _weights(model, model.layers)
    diff_ids = [str(layer.diff_id) for layer in model.layers]
    for sample in (model.sample, model.sample_output):
        if sample is not None:
            layers.append(_file(sample.blob, mediatypes.MODEL_DATASET, sample.filename))
            diff_ids.append(str(sample.blob.digest))
    return _put(store, model, {"format": model.framework.value}, layers, diff_ids)


def conversion_artifact(model: Model, conversion: Conversion, store: Store) -> Descriptor:
    """Put the artifact of a model's ONNX form, with its parity report, into ``store``; returns its manifest."""
    layers = _weights(model, conversion.layers)
    layers.append(_file(conversion.report, mediatypes.MODEL_DOCUMENT, "parity-report.json"))
    diff_ids = [*(str(layer.diff_id) for layer in conversion.layers), str(conversion.report.digest)]
    if conversion.sample is not None:
        layers.append(_file(conversion.sample.blob, mediatypes.MODEL_DATASET, conversion.sample.filename))
        diff_ids.append(str(conversion.sample.blob.digest))
    return _put(store, model, {"format": "onnx"}, layers, diff_ids)


def _weights(model: Model, layers: Sequence[Layer]) -> list[Descriptor]:
    """The layers as they are, called by the artifact's own types; each unpacks to the paths of an image."""
    return [
        Descriptor(
            f"{mediatypes.MODEL_WEIGHTS}{_ENDINGS[layer.descriptor.media_type]}",
            layer.descriptor.digest,
            layer.descriptor.size,
            {mediatypes.MODEL_FILE_PATH: model.name},
        )
        for layer in layers
    ]


def _file(blob: Descriptor, media_type: str, path: str) -> Descriptor:
    return Descriptor(media_type, blob.digest, blob.size, {mediatypes.MODEL_FILE_PATH: path})


def _put(
    store: Store, model: Model, config: Mapping[str, str], layers: Sequence[Descriptor], diff_ids: Sequence[str]
) -> Descriptor:
    about: dict[str, Any] = {"createdAt": model.created, "name": model.name, "version": str(model.version)}
    if model.description:
        about["description"] = model.description
    document = {"descriptor": about, "config": dict(config), "modelfs": {"type": "layers", "diffIds": list(diff_ids)}}
    manifest = Manifest(
        store.put_bytes(canonical_json(document), mediatypes.MODEL_CONFIG),
        tuple(layers),
        annotations={mediatypes.MODELS: model.id},
        artifact_type=mediatypes.MODEL_ARTIFACT,
    )
    return store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST)
