"""The rules that leave files of wheels out: which, how they are switched off, and that scoring works without."""

from __future__ import annotations

import os
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgepack.errors import EdgepackError, UsageError
from edgepack.oci.descriptor import Platform
from edgepack.oci.store import Store
from edgepack.oci.tar.compression import decompressed
from packager.layers.rules import rules_without
from packager.wheels.cache import Wheel, WheelCache
from packager.wheels.layers import group_wheels
from packager.wheels.locks import parse_lock, shipped_lock
from packager.wheels.settings import LayerSettings
from packager.wheels.tags import Target
from packager.wheels.trim import RULES, dropped, file_rules, holding
from packager.workspaces.workspace import default_cache
from tests.packager.support.wheels import saved_bytes, wheel_layers
from tests.support.running import run


@dataclass(frozen=True)
class Named:
    name: str
    requires: tuple[str, ...] = ()


ORT = Named("onnxruntime", ("numpy", "protobuf", "sympy", "packaging"))
REST = (Named("numpy"), Named("protobuf"), Named("sympy", ("mpmath",)), Named("mpmath"), Named("packaging"))


def test_what_only_the_tooling_asks_for_is_left_out() -> None:
    assert set(dropped((ORT, *REST), RULES)) == {"protobuf", "sympy", "mpmath", "packaging"}


def test_what_somebody_else_asks_for_stays() -> None:
    out = dropped((ORT, *REST, Named("scipy", ("mpmath",)), Named("pandas", ("packaging",))), RULES)
    assert set(out) == {"protobuf", "sympy"}
    assert set(dropped((ORT, *REST), RULES, requested=["protobuf"])) == {"sympy", "mpmath", "packaging"}
    assert dropped(REST[1:2], RULES) == {}


def test_files_that_are_left_out_for_one_stay_where_others_ask_for_them() -> None:
    """scipy runs ``from numpy import *``, which takes ``numpy.f2py`` too."""
    alone = [Named("onnxruntime", ("numpy",)), Named("numpy")]
    assert holding(RULES, alone) == RULES
    names = {rule.name for rule in holding(RULES, [*alone, Named("scipy", ("numpy",))])}
    assert {rule.name for rule in RULES} - names == {"numpy-f2py"}
    assert "numpy" not in dropped(alone, RULES)


def test_a_rule_is_switched_off_by_its_name() -> None:
    assert "onnxruntime-protobuf" in {rule.name for rule in RULES}
    assert "onnxruntime-protobuf" not in {rule.name for rule in rules_without(RULES, ["onnxruntime-protobuf"])}
    assert rules_without(RULES, []) == RULES
    with pytest.raises(UsageError, match=r"no-such.*numpy-tests"):
        rules_without(RULES, ["no-such"])


def test_rules_have_names_of_their_own_and_reasons() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.reason and bool(rule.paths) != bool(rule.only_for) for rule in RULES)


@pytest.mark.parametrize(
    ("distribution", "path", "stays"),
    [
        ("numpy", "numpy/tests/test_a.py", False),
        ("numpy", "numpy/_core/tests/data/x.csv", False),
        ("numpy", "numpy/testing/__init__.py", True),
        ("numpy", "numpy/linalg/_linalg.pyi", False),
        ("numpy", "numpy/linalg/_umath_linalg.cpython-311-x86_64-linux-gnu.so", True),
        ("numpy", "numpy.libs/libscipy_openblas64_-32a4b2a6.so", True),
        ("numpy", "numpy-2.4.6.dist-info/licenses/LICENSE.txt", True),
        ("onnxruntime", "onnxruntime/capi/libonnxruntime.so.1.32.0", False),
        ("onnxruntime", "onnxruntime/capi/libonnxruntime_providers_shared.so", True),
        ("onnxruntime", "onnxruntime/ThirdPartyNotices.txt", True),
        ("onnxruntime", "onnxruntime/transformers/models/x.py", False),
        ("scipy", "numpy/tests/test_a.py", True),
        ("scipy", "scipy/linalg/a.cpython-311-x86_64-linux-gnu.so", True),
    ],
)
def test_which_files_stay(distribution: str, path: str, stays: bool) -> None:
    left_out = any(rule.leaves_out(path) for rule in file_rules(RULES, distribution))
    assert left_out is not stays


@pytest.mark.parametrize(
    ("path", "cut"),
    [("a/b.cpython-311-x86_64-linux-gnu.so", True), ("a.libs/libb.so.3", True), ("a/b.py", False), ("a/so", False)],
)
def test_compiled_modules_lose_their_symbols(path: str, cut: bool) -> None:
    assert any(rule.cuts(path) for rule in file_rules(RULES, "any")) is cut
    assert not any(rule.cuts(path) for rule in file_rules(rules_without(RULES, ["symbols"]), "any"))


@pytest.fixture(scope="module")
def stack() -> tuple[Wheel, ...]:
    """The wheels of the shipped lock for this machine, from the user's cache or by pip."""
    platform = Platform.host()
    lock = shipped_lock(platform, "3.11")
    if lock is None or sys.version_info[:2] != (3, 11):
        pytest.skip("the scoring stack is locked for Python 3.11 on linux/amd64 and linux/arm64")
    try:
        return WheelCache(default_cache()).get(parse_lock(lock), Target(platform))
    except EdgepackError as error:
        if os.environ.get("EDGEPACK_REQUIRE_REAL") == "1":
            raise
        pytest.skip(f"the wheels of the scoring stack are out of reach: {error}")


SCORE = """
import sys
sys.path[:0] = [sys.argv[1]]
import numpy, numpy.fft, numpy.linalg, numpy.ma, numpy.polynomial, numpy.random, numpy.testing, numpy.typing
import onnxruntime, orjson, httptools
assert numpy.__file__.startswith(sys.argv[1]) and onnxruntime.__file__.startswith(sys.argv[1])
assert abs(numpy.linalg.inv(numpy.eye(9) * 2).sum() - 4.5) < 1e-9
assert abs(numpy.fft.ifft(numpy.fft.fft(numpy.arange(8.0))).real.sum() - 28) < 1e-9
assert numpy.random.default_rng(1).normal(size=5).shape == (5,)
assert httptools.HttpRequestParser(object()) is not None
session = onnxruntime.InferenceSession(sys.argv[2])
print(session.run(None, {"x": numpy.full((2, 3), 2, numpy.float32)})[0].tolist())
print(sorted({n.split(".")[0] for n in sys.modules} & {"google", "flatbuffers", "packaging", "sympy"}))
"""


def test_the_trimmed_stack_imports_and_scores_by_itself(stack: tuple[Wheel, ...], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    square = onnx.helper.make_node("Mul", ["x", "x"], ["y"])
    shape = [None, 3]
    graph = onnx.helper.make_graph(
        [square],
        "square",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)],
    )
    model = tmp_path / "square.onnx"
    model.write_bytes(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
        ).SerializeToString()
    )
    store = Store.create(tmp_path / "store")
    layers = wheel_layers(stack, store, tmp_path / "cache", LayerSettings())
    for layer in layers:
        with store.open(layer.descriptor) as blob:
            stream = decompressed(blob, layer.descriptor, 1 << 30)
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                archive.extractall(tmp_path / "root", filter="data")
    site = tmp_path / "root" / LayerSettings().site_packages
    command = [sys.executable, "-I", "-S", "-B", "-W", "error::ImportWarning", "-c", SCORE, str(site), str(model)]
    assert run(*command, cwd=tmp_path).splitlines() == ["[[4.0, 4.0, 4.0], [4.0, 4.0, 4.0]]", "[]"]
    # The budget of an image's wheels; a new version that breaks it wants a look at the rules.
    assert sum(layer.unpacked_size for layer in layers) <= 88_000_000
    assert sum(layer.descriptor.size for layer in layers) <= 31_000_000


def test_every_rule_for_the_shipped_stack_saves_something(stack: tuple[Wheel, ...]) -> None:
    whole = dropped(stack, RULES)
    saved = saved_bytes({wheel.name: wheel.path for wheel in stack}, RULES, whole)
    here = {"*", *(wheel.name for wheel in stack)}
    idle = [rule.name for rule in RULES if rule.distribution in here and not saved[rule.name]]
    assert not idle
    assert not {wheel.name for group in group_wheels(stack) for wheel in group.wheels} & set(whole)
