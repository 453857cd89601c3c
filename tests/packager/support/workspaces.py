"""A workspace with models and a base."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto, helper

from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import AMD64, ARM64, debian, make_base, make_index


def make_workspace(folder: Path, versions: int = 1) -> Workspace:
    """A workspace with versions of a model, and a base for two platforms called ``tiny:1``."""
    folder.mkdir(exist_ok=True)
    workspace = Workspace(folder / "workspace", folder / "cache")
    for version in range(1, versions + 1):
        register(workspace, folder, version)
    images = [(one, make_base(workspace.store, [debian(one.architecture)], one)) for one in (AMD64, ARM64)]
    workspace.store.tag("tiny:1", make_index(workspace.store, images))
    return workspace


def register(workspace: Workspace, folder: Path, seed: int) -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, seed]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ports[:1], ports[1:])
    (folder / "m.onnx").write_bytes(helper.make_model(graph, ir_version=9).SerializeToString())
    workspace.models.register("churn", folder / "m.onnx")
