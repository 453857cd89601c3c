"""The layer plan: pure, in the order of what changes least, and the exact bytes that come of it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack import __version__
from edgepack.errors import UsageError
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer, LayerEntry
from edgepack.oci.manifest import Manifest
from packager.bases.facts import CheckedFacts
from packager.bases.find import Base, find_base
from packager.images.plan import MAX_LAYERS, FilesLayer, ReadyLayer, plan_image, service_config
from packager.images.write import ImageWriter
from packager.layers.compressors import compressor_name
from packager.layers.folder import entries_of
from packager.layers.paths import model_dir
from packager.layers.secrets import SecretSearch
from packager.models.files import describe_files, write_model_layers
from packager.models.served import ServedModel
from packager.wheels.groups import WheelGroup
from packager.wheels.trim import RULES
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import AMD64, debian, make_base

GOLDEN = Path(__file__).parent / "golden"


def blob(number: int) -> Descriptor:
    return Descriptor("application/vnd.oci.image.layer.v1.tar", Digest(f"{number:064x}"), number)


def base_of(layers: int = 1, env: dict[str, str] | None = None, labels: dict[str, str] | None = None) -> Base:
    config = ImageConfig(AMD64, tuple(blob(at).digest for at in range(layers)), env=env or {}, labels=labels or {})
    manifest = Manifest(blob(99), tuple(blob(at) for at in range(layers)))
    facts = CheckedFacts("/usr/local/bin/python3.12", "3.12", "2.36", (0,) * layers)
    return Base("mine", blob(7), manifest, config, facts)


def served(layers: int = 1) -> ServedModel:
    return ServedModel("Churn", 3, "m.onnx", tuple(Layer(blob(at), blob(at).digest, at) for at in range(layers)))


SERVER = (LayerEntry.of_bytes("opt/edgepack/server/edge_server/__init__.py", b"# server\n"),)
GROUPS = (WheelGroup("wheel", "onnxruntime 1", ()), WheelGroup("wheels", "numpy 2, orjson 3", ()))


# ---- What is planned ----------------------------------------------------------------------------------------------


def test_what_changes_with_every_model_version_comes_last() -> None:
    plan = plan_image(AMD64, base_of(), GROUPS, SERVER, (served(2),))
    assert [layer.kind for layer in plan.layers] == ["wheel", "wheels", "server", "config", "model", "model"]
    assert plan.layers[:2] == GROUPS
    assert isinstance(plan.layers[-1], ReadyLayer)


def test_it_runs_as_a_number_and_never_as_root_on_azures_port() -> None:
    plan = plan_image(AMD64, base_of(), GROUPS, SERVER, (served(),))
    assert (plan.user, plan.port) == ("10001:10001", 5001)
    assert plan.entrypoint == (
        "/usr/local/bin/python3.12", "-m", "edge_server", "--config", "/opt/edgepack/service.json",
    )  # fmt: skip


def test_the_environment_of_the_base_is_kept_but_for_what_finds_our_modules() -> None:
    base = base_of(env={"PATH": "/x:/bin", "LANG": "C.UTF-8", "PYTHONPATH": "/theirs", "PYTHONUNBUFFERED": ""})
    plan = plan_image(AMD64, base, (), SERVER, (served(),))
    assert plan.env == {
        "PATH": "/x:/bin",
        "LANG": "C.UTF-8",
        "PYTHONPATH": "/opt/edgepack/server:/opt/edgepack/lib/python3.12/site-packages",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
    }


def test_labels_say_what_is_inside_and_annotations_what_is_below() -> None:
    plan = plan_image(AMD64, base_of(labels={"vendor": "somebody"}), (), SERVER, (served(),))
    assert plan.labels == {"vendor": "somebody", "io.edgepack.models": "Churn:3", "io.edgepack.python": "3.12"}
    assert plan.annotations == {
        "org.opencontainers.image.base.digest": str(blob(7).digest),
        "org.opencontainers.image.base.name": "mine",
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [("oci:/home/me/base", None), ("docker-archive:b.tar", None), ("docker-daemon:b:1", None),
     ("docker://r.example/b:1", "r.example/b:1"), ("python:3.12-slim", "python:3.12-slim")],
)  # fmt: skip
def test_where_a_base_lies_on_this_machine_is_not_told(name: str, said: str | None) -> None:
    plan = plan_image(AMD64, replace(base_of(), name=name), (), SERVER, (served(),))
    assert plan.annotations.get("org.opencontainers.image.base.name") == said


def test_the_service_configuration_finds_the_model_from_where_it_lies() -> None:
    value = json.loads(service_config((served(),)))
    (model,) = value["models"]
    assert model == {"name": "Churn", "version": 3, "file": "m.onnx",
                     "path": "../../var/azureml-app/azureml-models/Churn/3"}  # fmt: skip
    found = os.path.normpath(os.path.join("/opt/edgepack", model["path"]))  # noqa: PTH118 - a path in an image
    assert found == f"/{model_dir('Churn', 3)}"
    assert (value["schema"], value["host"], value["port"]) == ("edgepack.service/v1", "0.0.0.0", 5001)  # noqa: S104


@given(base=st.integers(0, 70), wheels=st.integers(0, 20), models=st.integers(1, 70))
def test_no_image_has_more_than_sixty_layers(base: int, wheels: int, models: int) -> None:
    groups = tuple(WheelGroup("wheel", str(number), ()) for number in range(wheels))
    count = base + wheels + 2 + models
    if count > MAX_LAYERS:
        with pytest.raises(UsageError, match=f"{count} layers, more than 60"):
            plan_image(AMD64, base_of(base), groups, SERVER, (served(models),))
    else:
        assert len(plan_image(AMD64, base_of(base), groups, SERVER, (served(models),)).layers) == count - base


@given(env=st.dictionaries(st.text("ABCP_", min_size=1), st.text("xyz:/"), max_size=5))
def test_planning_is_pure(env: dict[str, str]) -> None:
    base = base_of(env=env)
    one, two = (plan_image(AMD64, base, GROUPS, SERVER, (served(),)) for _ in range(2))
    # Contents are compared by size and path: what opens them differs from object to object.
    assert one == two
    assert base == base_of(env=env)
    assert set(env) <= set(one.env)


def test_planned_sizes_are_those_of_what_goes_in() -> None:
    assert FilesLayer("server", "x", SERVER).planned_size == len(b"# server\n")
    assert ReadyLayer("model", "x", Layer(blob(5), blob(5).digest, 10)).planned_size == 5
    assert WheelGroup("wheels", "none", ()).planned_size == 0


# ---- The exact bytes ----------------------------------------------------------------------------------------------


def test_the_bytes_of_an_image_are_those_of_the_golden_file(tmp_path: Path) -> None:
    """Bytes that change make every image of every user new. Write the file anew with EDGEPACK_GOLDEN=write."""
    workspace = Workspace(tmp_path / "workspace", tmp_path / "cache")
    root = make_base(workspace.bases.store, [debian(), {"etc/os-release": b"ID=tiny\n"}], env={"PATH": "/usr/bin"})
    workspace.bases.store.tag("tiny:1", root)
    base = replace(find_base(f"oci:{workspace.bases.store.root}", AMD64, workspace.store, workspace.bases), name="tiny")
    model = tmp_path / "churn.onnx"
    model.write_bytes(bytes(range(256)) * 8)
    entries = entries_of(model)
    files = describe_files(entries, model)
    layers = write_model_layers(entries, files, model_dir("churn", 1), workspace.store, "churn:1")
    plan = plan_image(AMD64, base, (), SERVER, (ServedModel("churn", 1, "churn.onnx", layers),))
    image = ImageWriter(workspace.store, tmp_path / "notes", RULES, SecretSearch(())).write(plan)
    manifest = workspace.store.manifest(image.descriptor)
    config = workspace.store.read(manifest.config)

    found = {
        "plan": {
            "layers": [[layer.kind, layer.title, layer.planned_size] for layer in plan.layers],
            "entrypoint": plan.entrypoint, "env": plan.env, "labels": plan.labels, "annotations": plan.annotations,
            "user": plan.user, "port": plan.port,
            "service": service_config((ServedModel("churn", 1, "churn.onnx", ()),)).decode(),
        },
        "config": json.loads(config),
        "manifest": json.loads(manifest.to_bytes()),
        "digest": str(image.descriptor.digest),
    }  # fmt: skip
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    text = text.replace(compressor_name(), "COMPRESSOR").replace(f"scoring {__version__}", "scoring VERSION")
    path = GOLDEN / "image.json"
    if os.environ.get("EDGEPACK_GOLDEN") == "write":
        path.write_text(text)
    written = json.loads(path.read_text())
    found = json.loads(text)
    assert found["plan"] == written["plan"]
    assert found["config"] == written["config"]
    # With another version of the compressor the blobs are others, the diff IDs in the configuration are not.
    if compressor_name() == "libdeflate by deflate 0.9.0 level 6" and __version__ == "0.1.0":
        assert found == written
