"""Manifests, indexes and configurations are values: what is written is read again, and hostile bytes are refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.documents import canonical_json
from edgepack.errors import EdgepackError, InvalidDocumentError, InvalidReferenceError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.config import History, ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Index, Manifest

texts = st.text(st.characters(codec="utf-8"), max_size=20)
words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
notes = st.dictionaries(texts, texts, max_size=3)
digests = st.binary(max_size=8).map(Digest.of)
platforms = st.builds(
    Platform,
    st.sampled_from(["linux", "windows"]),
    st.sampled_from(["amd64", "arm64", "arm"]),
    st.sampled_from([None, "v7"]),
)
descriptors = st.builds(
    Descriptor,
    st.sampled_from(
        sorted(mediatypes.PLAIN_LAYERS | mediatypes.GZIP_LAYERS | mediatypes.ZSTD_LAYERS | mediatypes.MANIFESTS)
    ),
    digests,
    st.integers(0, LIMITS.blob_bytes),
    notes,
    st.none() | platforms,
    st.none() | st.just("application/vnd.example+json"),
)
names = st.text(st.characters(codec="utf-8", exclude_characters="="), min_size=1, max_size=8)
configs = st.builds(
    ImageConfig,
    platform=platforms,
    diff_ids=st.lists(digests, max_size=3).map(tuple),
    env=st.dictionaries(names, texts, max_size=3),
    entrypoint=st.lists(texts, max_size=3).map(tuple),
    cmd=st.lists(texts, max_size=3).map(tuple),
    user=texts,
    working_dir=texts,
    exposed_ports=st.lists(words, max_size=2, unique=True).map(lambda found: tuple(sorted(found))),
    labels=notes,
    stop_signal=texts,
    history=st.lists(st.builds(History, texts, texts, st.booleans()), max_size=3).map(tuple),
    other=st.dictionaries(st.sampled_from(["Healthcheck", "Shell", "OnBuild"]), words, max_size=2),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(configs)
def test_a_configuration_is_read_as_it_was_written(config: ImageConfig) -> None:
    assert ImageConfig.from_bytes(config.to_bytes()) == config
    assert ImageConfig.from_bytes(config.to_bytes()).to_bytes() == config.to_bytes()


@given(
    st.builds(
        Manifest,
        descriptors,
        st.lists(descriptors, max_size=3).map(tuple),
        st.sampled_from(sorted(mediatypes.MANIFESTS)),
        notes,
        st.none() | descriptors,
        st.none() | st.just("application/vnd.example+json"),
    )
)
def test_a_manifest_is_read_as_it_was_written(manifest: Manifest) -> None:
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


@given(
    st.builds(Index, st.lists(descriptors, max_size=3).map(tuple), st.sampled_from(sorted(mediatypes.INDEXES)), notes)
)
def test_an_index_is_read_as_it_was_written(index: Index) -> None:
    assert Index.from_bytes(index.to_bytes()) == index


def test_the_digest_of_one_manifest_never_changes() -> None:
    config = ImageConfig(
        Platform("linux", "arm64"),
        (Digest.of(b"layer"),),
        env={"PATH": "/usr/bin", "LANG": "C.UTF-8"},
        entrypoint=("/usr/bin/python3.11", "-m", "scoring"),
        user="10001:10001",
        exposed_ports=("5001/tcp",),
        labels={"name": "größe"},
        history=(History("edgepack model", "", False),),
    )
    data = config.to_bytes()
    layer = Descriptor(mediatypes.LAYER, Digest.of(b"layer"), 5, {mediatypes.LAYER_KIND: "model"})
    manifest = Manifest(Descriptor(mediatypes.CONFIG, Digest.of(data), len(data)), (layer,))

    assert str(Digest.of(data)) == "sha256:bca21bf5b533b9b02682879c3f165f99c2c257e9fef5db63eb41e2fb090acec9"
    assert (
        str(Digest.of(manifest.to_bytes())) == "sha256:03991ebf586aa8af1ccdaabc9fd14dc853203d38178771b62b5accef233c11d8"
    )


def test_json_is_canonical() -> None:
    assert canonical_json({"b": 1, "a": ["ü"]}) == '{"a":["ü"],"b":1}'.encode()


@pytest.mark.parametrize("kind", [ImageConfig, Manifest, Index])
@given(field=st.sampled_from(
    ["os", "architecture", "variant", "config", "rootfs", "history", "created", "layers", "manifests", "annotations",
     "mediaType", "schemaVersion", "subject", "artifactType"]), value=json_values)  # fmt: skip
def test_whatever_a_document_holds_no_other_error_comes_out(kind: Any, field: str, value: Any) -> None:
    descriptor = {"mediaType": "a/b", "digest": str(Digest.of(b"")), "size": 0}
    base: dict[str, Any] = {
        ImageConfig: {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"diff_ids": []}},
        Manifest: {"schemaVersion": 2, "config": descriptor, "layers": [descriptor]},
        Index: {"schemaVersion": 2, "manifests": [descriptor]},
    }[kind]
    with contextlib.suppress(EdgepackError):
        kind.from_bytes(json.dumps(base | {field: value}).encode()).to_bytes()


@given(
    json_values, st.sampled_from(["Env", "Entrypoint", "Cmd", "User", "WorkingDir", "ExposedPorts", "Labels", "Shell"])
)
def test_whatever_the_run_settings_hold_no_other_error_comes_out(value: Any, field: str) -> None:
    data = json.dumps({"os": "linux", "architecture": "amd64", "config": {field: value}}).encode()
    with contextlib.suppress(EdgepackError):
        ImageConfig.from_bytes(data).to_bytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"schemaVersion":1}',
        b'{"schemaVersion":2,"mediaType":"text/plain","layers":[],"config":{}}',
        b'{"schemaVersion":2,"annotations":{"a":"\\ud800"}}',
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidDocumentError):
        Manifest.from_bytes(data)
    with pytest.raises(InvalidDocumentError):
        Index.from_bytes(data)


def test_a_document_that_is_both_manifest_and_index_is_refused() -> None:
    descriptor = {"mediaType": "a/b", "digest": str(Digest.of(b"")), "size": 0}
    both = canonical_json({"schemaVersion": 2, "config": descriptor, "layers": [descriptor], "manifests": [descriptor]})

    with pytest.raises(InvalidDocumentError, match="another kind of document"):
        Manifest.from_bytes(both)
    with pytest.raises(InvalidDocumentError, match="another kind of document"):
        Index.from_bytes(both)


def test_every_wrong_field_of_a_descriptor_is_named() -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        Descriptor.from_json({"mediaType": "", "digest": "md5:0", "size": -1, "annotations": {"a": 1}})

    assert len(caught.value.violations) == 4


@pytest.mark.parametrize("size", [True, 1.5, "1", None, LIMITS.blob_bytes + 1])
def test_a_size_is_a_whole_number_of_bytes(size: object) -> None:
    with pytest.raises(InvalidDocumentError, match="size"):
        Descriptor.from_json({"mediaType": "a/b", "digest": str(Digest.of(b"")), "size": size})


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "A" * 64, "sha512:" + "a" * 64, "sha256:" + "a" * 63 + "\n", None]
)
def test_what_is_no_digest_is_refused(text: object) -> None:
    with pytest.raises(InvalidReferenceError, match="is not a digest"):
        Digest.parse(text)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v7"),
    ],
)
def test_platforms_have_one_spelling(text: str, normal: str) -> None:
    assert str(Platform.parse(text)) == normal
    assert Platform.from_json(Platform.parse(text).to_json()) == Platform.parse(text)


@pytest.mark.parametrize("text", ["linux", "linux/", "linux/arm/v7/x", "../etc", "linux amd64"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(InvalidReferenceError, match="is not a platform"):
        Platform.parse(text)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_configuration_that_does_not_have_a_diff_id_for_each_layer_is_refused(count: int) -> None:
    digests = tuple(Digest.of(bytes([number])) for number in range(count))
    layers = [Descriptor(mediatypes.LAYER, Digest.of(b"layer"), 5)] * 2
    config = ImageConfig(Platform("linux", "amd64"), diff_ids=digests)

    with pytest.raises(InvalidDocumentError, match=f"image x: its configuration has {count} diff IDs for 2 layers"):
        config.check_layers(layers, "image x")
    config.check_layers(layers[:1] * count, "image x")
