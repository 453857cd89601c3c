"""Deltas: what they make is what was asked for, they are small where they can be, and nothing in them is trusted."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.deltas import frames, planes
from edgepack.deltas.apply import apply
from edgepack.deltas.format import (
    GZIP,
    MAGIC,
    WIDTHS,
    Blob,
    Content,
    Copy,
    Description,
    Difference,
    Patch,
    Segment,
    Whole,
    read_description,
)
from edgepack.deltas.make import make
from edgepack.documents import canonical_json
from edgepack.errors import DigestMismatchError, IncompatibleError, SizeMismatchError, VerificationError
from edgepack.limits import LIMITS
from edgepack.oci.digest import Digest
from tests.support.sampling import times

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "reference" / "delta.schema.json").read_text("utf-8"))


def blob(data: bytes) -> Blob:
    return Blob.plain(Digest.of(data), len(data))


def made(base: bytes, result: bytes) -> bytes | None:
    delta = make(io.BytesIO(base), io.BytesIO(result), blob(base), blob(result))
    if delta is None:
        return None
    with delta:
        out = io.BytesIO()
        delta.write_to(out)
        assert len(out.getvalue()) == delta.size
        return out.getvalue()


def applied(delta: bytes, base: bytes, memory: int = LIMITS.delta_memory_bytes) -> bytes:
    out = io.BytesIO()
    apply(io.BytesIO(delta), io.BytesIO(base), out.write, memory=memory)
    return out.getvalue()


def described(delta: bytes) -> Description:
    return read_description(io.BytesIO(delta))


def layer(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def weights(seed: int = 0) -> list[Any]:
    draw = np.random.default_rng(seed)
    return [draw.normal(size=shape).astype(np.float32) for shape in ((64, 512), (512, 256), (256, 10))]


def tuned(values: list[Any], amount: float) -> list[Any]:
    draw = np.random.default_rng(9)
    return [(one * (1 + amount * draw.normal(size=one.shape))).astype(one.dtype) for one in values]


def network(values: list[Any]) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", [f"x{at}", f"w{at}"], [f"x{at + 1}"]) for at in range(len(values))],
        "network",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [None, 64])],
        [helper.make_tensor_value_info(f"x{len(values)}", TensorProto.FLOAT, [None, 10])],
        [numpy_helper.from_array(one, f"w{at}") for at, one in enumerate(values)],
    )
    return bytes(helper.make_model(graph).SerializeToString())


def safetensors(values: list[Any]) -> bytes:
    at, head = 0, {}
    for number, one in enumerate(values):
        head[f"w{number}"] = {"dtype": "F32", "shape": list(one.shape), "data_offsets": [at, at + one.nbytes]}
        at += one.nbytes
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(one.tobytes() for one in values)


def code(seed: int, size: int) -> bytes:
    """Bytes as of a program: words of a small vocabulary."""
    draw = Random(seed)  # noqa: S311 - no secret
    words = [draw.randbytes(draw.randint(3, 9)) for _ in range(300)]
    return b"".join(draw.choice(words) for _ in range(size // 5))[:size]


# What is made


@pytest.mark.parametrize("kind", WIDTHS)
def test_planes_are_the_same_with_and_without_numpy_and_give_back_what_they_were_made_of(kind: str) -> None:
    draw = Random(kind)  # noqa: S311 - no secret
    for count in (1, 7, 40_000):
        base = draw.randbytes(count * WIDTHS[kind])
        result = bytes(byte ^ (draw.randrange(256) if at % 5 == 0 else 0) for at, byte in enumerate(base))
        stored = planes.encode(kind, base, result, numpy=False)

        assert planes.encode(kind, base, result, numpy=True) == stored
        assert b"".join(planes.decode(kind, base, stored, numpy=False)) == result
        assert b"".join(planes.decode(kind, base, stored, numpy=True)) == result


@pytest.mark.parametrize("form", [network, safetensors, lambda one: b"".join(part.tobytes() for part in one)])
def test_a_network_that_was_tuned_moves_half_of_itself(form: Callable[[list[Any]], bytes]) -> None:
    base, result = (layer({"m/model": form(one)}) for one in (weights(), tuned(weights(), 3e-4)))
    delta = made(base, result)

    assert delta is not None
    assert len(delta) < 0.52 * len(result)
    assert any(isinstance(one, Difference) for one in described(delta).segments)
    assert applied(delta, base) == result


def test_a_changed_last_layer_moves_little_more_than_itself() -> None:
    old = weights()
    base, result = layer({"m": network(old)}), layer({"m": network([*old[:2], weights(1)[2]])})
    delta = made(base, result)

    assert delta is not None
    assert len(delta) < old[2].nbytes + 2000
    assert applied(delta, base) == result


def test_files_of_another_version_are_found_by_name_and_unchanged_ones_are_copied() -> None:
    old = {f"pkg-1.2.dist-info/{n}": code(n, 3000) for n in range(9)}
    old |= {"pkg/a.so": code(20, 500_000), "pkg/lib-0123456789ab.so": code(21, 300_000), "pkg/z.py": code(22, 9000)}
    new = {name.replace("1.2", "1.3"): data for name, data in old.items()}
    new["pkg/a.so"] = old["pkg/a.so"][:200_000] + b"inserted here" * 100 + old["pkg/a.so"][200_050:]
    new["pkg/lib-ba9876543210.so"] = new.pop("pkg/lib-0123456789ab.so")
    new["pkg/new.py"] = code(30, 2000)
    base, result = layer(dict(sorted(old.items()))), layer(dict(sorted(new.items())))
    delta = made(base, result)

    assert delta is not None
    assert len(delta) < 12_000
    assert applied(delta, base) == result
    assert any(isinstance(one, Copy) and one.length == 300_000 for one in described(delta).segments)


@pytest.mark.parametrize("base", [b"", b"x", layer({"a": b"1" * 5000})[:1000], b"\x08\x07" * 4000, bytes(4096)])
def test_anything_may_be_a_base(base: bytes) -> None:
    result = code(1, 60_000)
    delta = made(base, result + base)

    assert delta is not None
    assert applied(delta, base) == result + base


def test_an_equal_blob_is_one_copy_and_equal_arguments_give_equal_bytes() -> None:
    base = layer({"a": code(1, 200_000), "b": code(2, 100)})
    result = layer({"a": code(1, 200_000), "b": code(3, 100)})

    assert described(made(base, base) or b"").segments == (Copy(0, len(base)),)
    assert made(base, result) == made(base, result)


def test_there_is_no_delta_where_it_would_not_save_a_tenth_or_needs_more_memory_than_it_may() -> None:
    draw = Random(1)  # noqa: S311 - no secret
    base, result = draw.randbytes(200_000), draw.randbytes(200_000)
    nearly = base[:14_000] + result[14_000:]
    # Stored in less than what the delta would have.
    small = Blob(Digest.of(b""), 60, GZIP, Content(Digest.of(base), len(base)), 6)

    assert made(base, result) is None
    assert made(base, nearly[:150_000]) is None
    assert make(io.BytesIO(base), io.BytesIO(base), blob(base), small) is None
    assert make(io.BytesIO(base), io.BytesIO(base), blob(base), blob(base), memory=1 << 20) is None


@settings(max_examples=times(500, 40), deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.binary(max_size=3000)), max_size=6), st.data())
def test_whatever_became_of_a_layer_comes_out(files: list[tuple[str, bytes]], data: st.DataObject) -> None:
    base = layer(dict(files))
    new = dict(files)
    for name, content in data.draw(st.lists(st.tuples(st.sampled_from("abcxyz"), st.binary(max_size=3000)))):
        new[name] = new.get(name, b"")[: len(content)] + content
    result = layer(new)
    delta = made(base, result)

    assert delta is None or applied(delta, base) == result


def test_descriptions_are_as_the_schema_says() -> None:
    base, result = layer({"m": network(weights())}), layer({"m": network(tuned(weights(), 1e-3))})
    description = described(made(base, result) or b"")
    gzipped = replace(description, result=replace(description.result, form=GZIP, level=6))

    for one in (description, gzipped):
        jsonschema.validate(json.loads(one.to_bytes()), SCHEMA)
        assert Description.from_bytes(one.to_bytes()) == one


def test_applying_needs_no_numpy_and_little_memory(tmp_path: Path) -> None:
    values = [np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)]
    base = layer({"m": network(values), "z": code(1, 600_000)})
    result = layer({"m": network(tuned(values, 1e-3)), "z": code(1, 600_000)[100:]})
    for name, data in (("base", base), ("delta", made(base, result) or b"")):
        (tmp_path / name).write_bytes(data)
    program = (
        "import sys\n"
        "from edgepack.deltas.apply import apply\n"
        "apply(open('delta', 'rb'), open('base', 'rb'), open('out', 'wb').write)\n"
        "assert 'numpy' not in sys.modules\n"
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert (tmp_path / "out").read_bytes() == result
    assert int(done.stdout) << 10 <= LIMITS.delta_memory_bytes


# What is not trusted


FEW = [np.random.default_rng(5).normal(size=(64, 64)).astype(np.float32)]
BASE = layer({"m": network(FEW), "a": code(1, 50_000)})
RESULT = layer({"m": network(tuned(FEW, 1e-3)), "a": code(1, 50_000)[10:] + b"end", "n": code(2, 900)})
DELTA = made(BASE, RESULT) or b""


def parts(delta: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack(">I", delta[len(MAGIC) : len(MAGIC) + 4])
    at = len(MAGIC) + 4
    return json.loads(delta[at : at + length]), delta[at + length :]


def whole(description: dict[str, Any], payload: bytes) -> bytes:
    data = canonical_json(description)
    return MAGIC + struct.pack(">I", len(data)) + data + payload


def forged(segments: list[Segment], payload: bytes, result: bytes = RESULT) -> bytes:
    found = Description(blob(BASE), blob(result), tuple(segments))
    return found.head() + payload


def refused(delta: bytes, base: bytes = BASE) -> VerificationError:
    written: list[bytes] = []
    with pytest.raises(VerificationError) as caught:
        apply(io.BytesIO(delta), io.BytesIO(base), written.append)
    assert sum(map(len, written)) <= len(RESULT)
    assert "whole blob" in str(caught.value)
    return caught.value


def test_a_delta_with_a_byte_changed_is_refused() -> None:
    draw = Random(3)  # noqa: S311 - no secret
    for at in draw.sample(range(len(DELTA)), times(3000, 120)):
        changed = bytearray(DELTA)
        changed[at] ^= draw.randrange(1, 256)
        refused(bytes(changed))


def test_a_delta_that_is_cut_short_or_goes_on_is_refused() -> None:
    draw = Random(4)  # noqa: S311 - no secret
    for at in [0, 1, len(MAGIC) + 2, len(DELTA) - 1, *draw.sample(range(len(DELTA)), times(1000, 60))]:
        refused(DELTA[:at])
    refused(DELTA + b"\0")


def test_another_base_is_named_as_the_reason() -> None:
    other = bytearray(BASE)
    other[-3000] ^= 1  # within what is copied
    copy = forged([Copy(0, len(BASE))], b"", BASE)

    assert applied(copy, BASE) == BASE
    error = refused(copy, bytes(other))
    assert isinstance(error, DigestMismatchError)
    assert f"its base is not {Digest.of(BASE)}" in str(error)
    assert isinstance(refused(DELTA, BASE + b"\0"), SizeMismatchError)


@pytest.mark.parametrize(
    ("segment", "says"),
    [
        (["copy", 0, len(BASE) + 1], "past the end"),
        (["copy", len(BASE), 1], "past the end"),
        (["copy", -1, 5], "not a size"),
        (["copy", 0, 1 << 63], "not a size"),
        (["copy", 0, True], "none of"),
        (["copy", 0.0, 5], "none of"),
        (["copy", 0], "none of"),
        (["copy", 0, 0], "is empty"),
        (["patch", 0, 9 << 20, 100, 50], "past the end"),
        (["patch", 0, 100, 5 << 20, 50], "makes more than"),
        (["whole", 100, 0], "must store something"),
        (["whole", 100, 101], "no more than it makes"),
        (["difference", "f32", 0, 6, 6], "whole elements"),
        (["difference", "f80", 0, 16, 6], "whole elements"),
        (["evaluate", "print()", 3], "none of"),
        ([], "none of"),
        ({"copy": 3}, "none of"),
        ("copy", "none of"),
    ],
)
def test_a_segment_that_is_not_one_is_refused_before_anything_is_written(segment: object, says: str) -> None:
    description, payload = parts(DELTA)
    written: list[bytes] = []
    delta = whole(description | {"segments": [segment, *description["segments"]]}, payload)
    with pytest.raises(VerificationError, match=says):
        apply(io.BytesIO(delta), io.BytesIO(BASE), written.append)

    assert not written


@pytest.mark.parametrize(
    "change",
    [
        {"memory": 1}, {"schema": "edgepack.delta/v2"}, {"extra": 1}, {"base": None},
        {"result": {"digest": "sha256:0"}}, {"segments": None}, {"segments": []},
    ],
)  # fmt: skip
def test_a_description_with_other_fields_is_refused(change: dict[str, Any]) -> None:
    description, payload = parts(DELTA)

    refused(whole(description | change, payload))


def test_a_large_or_deep_description_is_refused_unread() -> None:
    refused(MAGIC + struct.pack(">I", LIMITS.delta_description_bytes + 1) + bytes(10))
    deep = b"[" * 100_000
    refused(MAGIC + struct.pack(">I", len(deep)) + deep)


def test_frames_that_say_or_make_something_else_are_refused() -> None:
    from backports import zstd

    bomb = zstd.compress(bytes(40 << 20))
    nameless = zstd.ZstdCompressor(options={zstd.CompressionParameter.content_size_flag: 0})
    no_size = nameless.compress(bytes(1000)) + nameless.flush()
    two = zstd.compress(bytes(500)) * 2
    for frame, length in ((bomb, 4 << 20), (no_size, 1000), (two, 1000), (zstd.compress(bytes(999)), 1000)):
        refused(forged([Whole(length, len(frame))], frame, bytes(length)))
        refused(forged([Patch(0, 4096, length, len(frame))], frame, bytes(length)))


def test_a_window_that_is_too_large_is_refused() -> None:
    from backports import zstd

    # A frame that says its length and asks for a window of 128 MiB all the same (RFC 8878, 3.1.1.1).
    plain = zstd.compress(bytes(1000))
    frame = plain[:4] + bytes([0x40, (27 - 10) << 3]) + plain[5:]

    assert plain[4] == 0x60  # one segment, and two bytes for its length
    assert len(zstd.decompress(frame)) == 1000
    refused(forged([Whole(1000, len(frame))], frame, bytes(1000)))


def test_more_memory_than_it_may_use_is_refused_before_anything_is_written() -> None:
    written: list[bytes] = []
    with pytest.raises(IncompatibleError, match="whole blob"):
        apply(io.BytesIO(DELTA), io.BytesIO(BASE), written.append, memory=described(DELTA).memory - 1)

    assert not written
    assert applied(DELTA, BASE, described(DELTA).memory) == RESULT


def test_what_is_made_of_nothing_is_nothing() -> None:
    assert frames.decompress(frames.compress(b"", b"", 9), b"", 0, "") == b""
