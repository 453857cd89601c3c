"""Statements on images: each rule of ``edgepack.signing.rules`` has an attack here that it stops."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import edgepack
from edgepack.errors import SignatureError, VerificationError
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from edgepack.signing import envelope
from edgepack.signing.keys import PrivateKey, create_key
from edgepack.signing.statement import attach, make_statement, verify_image
from tests.edgepack.support.bundles import AMD64, ARM64, add_image, add_index, add_layer, simple, snapshot

KEY, OTHER = create_key(), create_key()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return simple(tmp_path / "store")


@pytest.fixture
def image(store: Store) -> Descriptor:
    return store.resolve("churn:1")


def attach_payload(
    store: Store,
    image: Descriptor,
    payload: bytes,
    key: PrivateKey = KEY,
    kind: str = mediatypes.IN_TOTO,
    **change: Any,
) -> None:
    """Attach any payload, signed, the way ``attach`` does; ``change`` replaces fields of the artifact."""
    layer = store.put_bytes(envelope.sign(payload, kind, key), mediatypes.DSSE)
    artifact = Manifest(
        store.put_bytes(b"{}", mediatypes.EMPTY),
        (layer,),
        subject=Descriptor(image.media_type, image.digest, image.size),
        artifact_type=mediatypes.STATEMENT_ARTIFACT,
    )
    held = store.put_bytes(replace(artifact, **change).to_bytes(), mediatypes.MANIFEST)
    store.add_referrer(image.digest, replace(held, artifact_type=mediatypes.STATEMENT_ARTIFACT))


def statement_json(store: Store, image: Descriptor, **change: Any) -> bytes:
    return json.dumps({**json.loads(make_statement(store, image, "churn:1").to_bytes()), **change}).encode()


def test_a_signed_image_verifies(store: Store, image: Descriptor) -> None:
    attach(store, image, "churn:1", KEY)
    verified = verify_image(store, image.digest, [OTHER.public, KEY.public])
    assert verified.key_ids == (KEY.id,)
    assert verified.statement == make_statement(store, image, "churn:1")
    assert verified.statement.platforms == {"linux/amd64": image.digest}
    assert verified.statement.created_by == f"edgepack {edgepack.__version__}"


def test_the_statement_is_an_in_toto_statement_in_an_oci_artifact(store: Store, image: Descriptor) -> None:
    artifact = attach(store, image, "churn:1", KEY)
    manifest = json.loads(store.read(artifact))
    assert manifest["artifactType"] == mediatypes.STATEMENT_ARTIFACT
    assert manifest["subject"]["digest"] == str(image.digest)
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    opened = envelope.verify(
        store.read(Descriptor.from_json(manifest["layers"][0])), "application/vnd.in-toto+json", [KEY.public]
    )
    assert json.loads(opened.payload) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "churn:1", "digest": {"sha256": image.digest.hex}}],
        "predicateType": "https://edgepack.dev/statement/v1",
        "predicate": {
            "platforms": {"linux/amd64": str(image.digest)},
            "created_by": f"edgepack {edgepack.__version__}",
        },
    }


def test_attaching_twice_changes_nothing(store: Store, image: Descriptor) -> None:
    first = attach(store, image, "churn:1", KEY)
    before = snapshot(store.root)
    assert attach(store, image, "churn:1", KEY) == first
    assert snapshot(store.root) == before


def test_a_time_stands_in_a_statement_only_when_it_is_given(store: Store, image: Descriptor) -> None:
    assert b'created"' not in make_statement(store, image, "churn:1").to_bytes()
    attach(store, image, "churn:1", KEY, created="2026-01-02T03:04:05Z")
    assert verify_image(store, image.digest, [KEY.public]).statement.created == "2026-01-02T03:04:05Z"


def test_every_trusted_signer_is_told(store: Store, image: Descriptor) -> None:
    attach(store, image, "churn:1", KEY)
    attach(store, image, "churn:1", OTHER)
    assert verify_image(store, image.digest, [KEY.public, OTHER.public]).key_ids == tuple(sorted([KEY.id, OTHER.id]))


def test_an_image_without_a_statement_is_refused(store: Store, image: Descriptor) -> None:
    with pytest.raises(SignatureError, match="has no statement attached"):
        verify_image(store, image.digest, [KEY.public])


def test_a_statement_by_an_unknown_key_is_refused_and_the_key_named(store: Store, image: Descriptor) -> None:
    attach(store, image, "churn:1", OTHER)
    with pytest.raises(SignatureError, match=OTHER.id):
        verify_image(store, image.digest, [KEY.public])


def test_one_good_statement_is_enough_beside_bad_ones(store: Store, image: Descriptor) -> None:
    attach(store, image, "churn:1", OTHER)
    attach_payload(store, image, b"not even json")
    attach(store, image, "churn:1", KEY)
    assert verify_image(store, image.digest, [KEY.public]).key_ids == (KEY.id,)


def test_rule_1_a_statement_attached_to_another_image_does_not_count(store: Store, image: Descriptor) -> None:
    other = add_image(store, [add_layer(store, 10, "other")])
    artifact = attach(store, other, "churn:1", KEY)
    store.add_referrer(image.digest, artifact)
    with pytest.raises(SignatureError, match="attached to another image"):
        verify_image(store, image.digest, [KEY.public])


@pytest.mark.parametrize("change", [{"artifact_type": "application/x.sbom"}, {"subject": None}, {"layers": ()}])
def test_rule_1_another_artifact_does_not_count(store: Store, image: Descriptor, change: dict[str, Any]) -> None:
    attach_payload(store, image, statement_json(store, image), **change)
    with pytest.raises(SignatureError):
        verify_image(store, image.digest, [KEY.public])


def test_rule_3_what_the_key_signed_as_something_else_does_not_count(store: Store, image: Descriptor) -> None:
    attach_payload(store, image, statement_json(store, image), kind="application/vnd.edgepack.bundle.v1+json")
    with pytest.raises(SignatureError, match=r"application/vnd\.edgepack\.bundle"):
        verify_image(store, image.digest, [KEY.public])


@pytest.mark.parametrize(
    "change", [{"predicateType": "https://slsa.dev/provenance/v1"}, {"_type": "https://in-toto.io/Statement/v0.1"}]
)
def test_rule_4_another_predicate_does_not_count(store: Store, image: Descriptor, change: dict[str, Any]) -> None:
    attach_payload(store, image, statement_json(store, image, **change))
    with pytest.raises(SignatureError, match="not a statement that the image may run"):
        verify_image(store, image.digest, [KEY.public])


def test_rule_5_a_statement_on_another_digest_does_not_count(store: Store, image: Descriptor) -> None:
    other = add_image(store, [add_layer(store, 10, "other")])
    attach_payload(store, image, statement_json(store, other))
    with pytest.raises(SignatureError, match="on another image"):
        verify_image(store, image.digest, [KEY.public])


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "x"},
        {"subject": [1, {"digest": 3}, {"digest": {"sha512": "a"}}]},
        {"predicate": None},
        {"predicate": {"platforms": []}},
        {"predicate": {"platforms": {"linux/amd64": "md5:1"}}},
    ],
)
def test_a_malformed_statement_does_not_count(store: Store, image: Descriptor, change: dict[str, Any]) -> None:
    attach_payload(store, image, statement_json(store, image, **change))
    with pytest.raises(SignatureError):
        verify_image(store, image.digest, [KEY.public])


def test_rule_6_a_signed_index_covers_its_manifests_and_no_other(store: Store) -> None:
    layer = add_layer(store, 10, "shared")
    amd, arm = add_image(store, [layer], AMD64), add_image(store, [layer], ARM64)
    index = add_index(store, amd, arm)
    attach(store, index, "churn:2", KEY)
    verified = verify_image(store, arm.digest, [KEY.public], index=index)
    assert verified.key_ids == (KEY.id,)
    assert verified.statement.platforms == {"linux/amd64": amd.digest, "linux/arm64": arm.digest}
    stranger = add_image(store, [add_layer(store, 11, "stranger")], ARM64)
    with pytest.raises(SignatureError, match="is not listed"):
        verify_image(store, stranger.digest, [KEY.public], index=index)
    with pytest.raises(SignatureError, match="no statement"):
        verify_image(store, arm.digest, [KEY.public])


def test_rule_6_an_index_whose_bytes_changed_vouches_for_nothing(store: Store) -> None:
    arm = add_image(store, [add_layer(store, 10, "shared")], ARM64)
    stranger = add_image(store, [add_layer(store, 11, "stranger")], ARM64)
    index = add_index(store, arm)
    attach(store, index, "churn:2", KEY)
    data = store.read(index).replace(arm.digest.hex.encode(), stranger.digest.hex.encode())
    store.path(index.digest).write_bytes(data)
    with pytest.raises(VerificationError):
        verify_image(store, stranger.digest, [KEY.public], index=index)


def test_a_damaged_statement_does_not_count(store: Store, image: Descriptor) -> None:
    manifest = store.manifest(attach(store, image, "churn:1", KEY))
    path = store.path(manifest.layers[0].digest)
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(VerificationError, match="no statement by a trusted key"):
        verify_image(store, image.digest, [KEY.public])
    assert store.path(Digest.of(b"{}")).read_bytes() == b"{}"
