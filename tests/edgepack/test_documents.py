"""JSON documents that decide what runs mean one thing only: no field twice, one encoding, one spelling."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepack.bundle.listing import PAYLOAD_TYPE, Contents, NamedImage
from edgepack.bundle.read import import_bundle
from edgepack.bundle.receipt import Receipt
from edgepack.bundle.write import write_bundle
from edgepack.documents import canonical_json, parse_canonical, parse_foreign, parse_foreign_list, parse_object
from edgepack.errors import EdgepackError, InvalidDocumentError, SignatureError, VerificationError
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.store import Store
from edgepack.signing import envelope
from edgepack.signing.keys import PrivateKey, create_key
from edgepack.signing.rules import Statement, check_statement
from edgepack.state.desired import Desired, DesiredService
from tests.edgepack.support.bundles import member, members, simple, write_tar

PAYLOAD = b'{"a":"~~~???"}'  # its base64 has such letters too


def _signature(key: PrivateKey) -> str:
    return str(json.loads(envelope.sign(PAYLOAD, PAYLOAD_TYPE, key))["signatures"][0]["sig"])


# One whose signature on PAYLOAD has letters that the alphabets of base64 differ in.
KEY = next(key for key in iter(create_key, None) if {"+", "/"} & set(_signature(key)))
DIGEST = Digest("a" * 64)
BLOB = Descriptor("application/vnd.oci.image.manifest.v1+json", DIGEST, 5)


def _signed(payload: bytes) -> bytes:
    return envelope.sign(payload, "application/vnd.in-toto+json", KEY)


# What each document is, and how it is read.
DOCUMENTS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "desired state": (Desired((DesiredService("churn", DIGEST, 1),), 3).to_bytes(), Desired.from_bytes),
    "receipt": (Receipt("d", Platform(), frozenset({DIGEST})).to_bytes(), Receipt.from_bytes),
    "bundle list": (Contents((NamedImage("a:1", BLOB),), (), (BLOB,)).to_bytes(), Contents.from_bytes),
    "envelope": (
        envelope.sign(b"{}", PAYLOAD_TYPE, KEY), lambda data: envelope.verify(data, PAYLOAD_TYPE, [KEY.public]),
    ),
    "statement": (
        Statement("a:1", DIGEST, {"linux/amd64": DIGEST}).to_bytes(),
        lambda data: check_statement(_signed(data), DIGEST, [KEY.public]),
    ),
    "manifest": (Manifest(BLOB, (BLOB,)).to_bytes(), Manifest.from_bytes),
    "index": (Index((BLOB,)).to_bytes(), Index.from_bytes),
    "configuration": (ImageConfig(Platform(), (DIGEST,), user="1").to_bytes(), ImageConfig.from_bytes),
}  # fmt: skip
STRICT = ("desired state", "receipt", "bundle list", "envelope", "statement")


def paths(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The way to every field of every object."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [(*path, key) for key, _ in items] if isinstance(value, dict) else []
    return found + [way for key, item in items for way in paths(item, (*path, key))]


def with_twice(value: object, way: tuple[object, ...], first: Callable[[object], object]) -> str:
    """``value`` as JSON with the field at ``way`` there twice, at first with what ``first`` makes of its value."""
    if isinstance(value, dict):
        parts = []
        for key, item in value.items():
            if way == (key,):
                parts.append(f"{json.dumps(key)}:{json.dumps(first(item))}")
            below = way[1:] if way and way[0] == key else ()
            parts.append(f"{json.dumps(key)}:{with_twice(item, below, first)}")
        return "{" + ",".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ",".join(
            with_twice(item, way[1:] if way and way[0] == at else (), first) for at, item in enumerate(value)
        ) + "]"  # fmt: skip
    return json.dumps(value)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_field_that_is_there_twice_is_refused_by_name_wherever_it_is(kind: str) -> None:
    data, read = DOCUMENTS[kind]
    read(data)
    ways = paths(json.loads(data))
    assert len(ways) > 2
    for way in ways:
        twice = with_twice(json.loads(data), way, lambda item: [item, "other"])
        with pytest.raises(EdgepackError, match=f"the field '{way[-1]}' is there twice"):
            read(twice.encode())
        same = with_twice(json.loads(data), way, lambda item: item)
        if kind in STRICT:
            with pytest.raises(EdgepackError, match=f"the field '{way[-1]}' is there twice"):
                read(same.encode())
        else:  # as engines take it
            read(same.encode())


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_only_utf_8_without_a_mark_is_read(kind: str, encoding: str) -> None:
    data, read = DOCUMENTS[kind]
    with pytest.raises(EdgepackError, match=r"byte order mark|not UTF-8|not JSON"):
        read(data.decode().encode(encoding))


@pytest.mark.parametrize("kind", STRICT[:4])
def test_a_field_that_is_not_known_is_refused(kind: str) -> None:
    data, read = DOCUMENTS[kind]
    for change in ({"extra": 1}, {"Schema": "x"}):
        with pytest.raises(EdgepackError, match="not a known field"):
            read(canonical_json({**json.loads(data), **change}))


@pytest.mark.parametrize("spelling", ["Layers", "LAYERS", "lAyers"])
def test_a_field_in_two_spellings_is_refused_as_engines_read_both(spelling: str) -> None:
    value = json.loads(Manifest(BLOB, (BLOB,)).to_bytes())
    for order in ((spelling, "layers"), ("layers", spelling)):
        both = {**value, **{name: [] if name == spelling else value["layers"] for name in order}}
        with pytest.raises(InvalidDocumentError, match="is there again as"):
            Manifest.from_bytes(json.dumps(both).encode())
    nested = {**value, "config": {**value["config"], "Digest": f"sha256:{'b' * 64}"}}
    with pytest.raises(InvalidDocumentError, match="the field 'digest' is there again as 'Digest'"):
        Manifest.from_bytes(json.dumps(nested).encode())


def test_names_of_others_may_differ_in_capitals() -> None:
    labels = {"os": "a", "OS": "b", "Size": "1", "size": "2"}
    config = ImageConfig(Platform(), labels=labels)
    assert ImageConfig.from_bytes(config.to_bytes()).labels == labels
    assert Index.from_bytes(Index(annotations=labels).to_bytes()).annotations == labels


def test_lists_and_other_values() -> None:
    assert parse_foreign_list(b'[{"a": 1, "a": 1}]', "w") == [{"a": 1}]
    for data in (b'{"a": 1}', b'[{"a": 1, "a": true}]', b'[{"Config": "a", "config": "b"}]', b"[", b"\xff"):
        with pytest.raises(InvalidDocumentError):
            parse_foreign_list(data, "w")
    for parse in (parse_object, parse_foreign, parse_canonical):
        for data in (b"[]", b"1", b"", b'{"a": "\\ud800"}', b"[" * 100_000, b'{"a": 1}{}'):
            with pytest.raises(InvalidDocumentError):
                parse(data, "w")
    assert parse_canonical('{"a":"ü","b":[1]}'.encode(), "w") == {"a": "ü", "b": [1]}
    for text in ('{"a": 1}', '{"b":1,"a":1}', '{"a":1}\n', '{"a":"\\u00fc"}', '{"a":1.0e2}'):
        with pytest.raises(InvalidDocumentError, match="canonical"):
            parse_canonical(text.encode(), "w")


# ---- Envelopes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "respell",
    [
        lambda text: text.replace("+", "-").replace("/", "_"),
        lambda text: text.rstrip("="),
        lambda text: f"{text}=",
        lambda text: f"{text[:8]}\n{text[8:]}",
        lambda text: f" {text}",
        lambda text: f"{text[:5]}*{text[5:]}",
        lambda text: text.rstrip("=")[:-1] + chr(ord(text.rstrip("=")[-1]) + 1) + "=" * text.count("="),
    ],
    ids=["for URLs", "not padded", "padded twice", "in lines", "with a space", "with a star", "with other last bits"],
)
@pytest.mark.parametrize("field", ["payload", "sig"])
def test_base64_in_another_spelling_is_refused(respell: Callable[[str], str], field: str) -> None:
    signed = json.loads(envelope.sign(PAYLOAD, PAYLOAD_TYPE, KEY))
    place = signed if field == "payload" else signed["signatures"][0]
    place[field] = respell(place[field])
    with pytest.raises(SignatureError, match=f"{field} ?:? ?is not standard base64|{field}: is not standard base64"):
        envelope.verify(canonical_json(signed), PAYLOAD_TYPE, [KEY.public])


def test_an_envelope_with_more_in_it_is_refused() -> None:
    signed = json.loads(envelope.sign(PAYLOAD, PAYLOAD_TYPE, KEY))
    more = {**signed, "signatures": [{**signed["signatures"][0], "cert": "x"}], "note": 1}
    with pytest.raises(SignatureError, match=r"signatures\[0\].cert is not a known field; note is not a known field"):
        envelope.verify(canonical_json(more), PAYLOAD_TYPE, [KEY.public])


@pytest.mark.parametrize("allow_unsigned", [True, False])
def test_the_list_of_a_bundle_is_as_it_was_written(tmp_path: Path, allow_unsigned: bool) -> None:
    store = simple(tmp_path / "store")
    write_bundle(store, ["churn:1"], tmp_path / "b", key=None if allow_unsigned else KEY)
    (head, data), *rest = members(tmp_path / "b")
    payload = base64.b64decode(json.loads(data)["payload"])
    keys = [] if allow_unsigned else [KEY]
    other = json.loads(payload)
    other["blobs"][0]["note"] = "x"
    for name, made in {
        "spaces around the envelope": json.dumps(json.loads(data)).encode(),
        "spaces in the list": envelope.sign(json.dumps(json.loads(payload)).encode(), PAYLOAD_TYPE, *keys),
        "more in the list": envelope.sign(canonical_json(other), PAYLOAD_TYPE, *keys),
    }.items():
        write_tar(tmp_path / "c", [member(head.name, made), *rest])
        with pytest.raises(VerificationError, match=r"canonical form|is not written as a bundle's list is"):
            import_bundle(tmp_path / "c", Store.create(tmp_path / name), [KEY.public], allow_unsigned=allow_unsigned)
