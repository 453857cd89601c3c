"""Who writes what leaves this process, and that each of them searches it for credentials first, or need not.

A new writer fails the first test until it is in the table: let it search by
``packager.layers.secrets``, or say why not.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepack.errors import EdgepackError
from edgepack.names import ModelRef
from packager.environments.environment import Environment
from packager.images.search import check_documents
from packager.models.details import ModelDetails
from packager.sdk.package_record import PackageRecord
from packager.workspaces.config import Team, WorkspaceConfig
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import debian, make_base
from tests.support.forked import finish

ROOT = Path(__file__).parents[2]
WRITES = {
    "add_referrer", "add_referrers", "atomic_write", "attach", "attach_built", "put_bytes", "replacing",
    "write_archive",
    "write_best_layer", "write_bundle", "write_bytes", "write_layer", "write_text", "store_tar", "copyfile", "records",
}  # fmt: skip
SEARCHES = {"SecretSearch", "check_written", "check_record", "check_secrets", "check_documents", "check_plan"}

# Module -> the module that searches what it writes: itself, or its caller.
SEARCHED = {
    "packager/commands/bundle_create.py": "packager/commands/bundle_create.py",
    "packager/commands/compute_attach.py": "packager/services/targets/compute_targets.py",
    "packager/commands/desired_sign.py": "packager/commands/desired_sign.py",
    "packager/commands/device_deploy.py": "packager/commands/device_deploy.py",
    "packager/commands/model_convert.py": "packager/models/conversion.py",
    "packager/commands/package_build.py": "packager/images/build.py",
    "packager/contexts/engine.py": "packager/contexts/engine.py",
    "packager/contexts/write.py": "packager/contexts/save.py",
    "packager/environments/registry.py": "packager/environments/registry.py",
    "packager/exports/exported.py": "packager/exports/exported.py",
    "packager/fleet/registry.py": "packager/commands/device_deploy.py",
    "packager/images/attachments.py": "packager/images/build.py",
    "packager/images/build.py": "packager/images/build.py",
    "packager/images/write.py": "packager/images/write.py",
    "packager/layers/compressors.py": "packager/images/write.py",
    "packager/models/conversion.py": "packager/models/conversion.py",
    "packager/models/files.py": "packager/models/files.py",
    "packager/models/registry.py": "packager/models/registry.py",
    "packager/models/samples.py": "packager/models/samples.py",
    "packager/models/sharing.py": "packager/models/registry.py",
    "packager/sdk/compute.py": "packager/services/targets/compute_targets.py",
    "packager/sdk/package_record.py": "packager/sdk/package_record.py",
    "packager/services/endpoints/store.py": "packager/services/endpoint_deploying.py",
    "packager/services/registry.py": "packager/services/deploying.py",
    "packager/services/targets/channels/folder.py": "packager/services/targets/channels/documents.py",
    "packager/services/targets/compute_targets.py": "packager/services/targets/compute_targets.py",
    "packager/wheels/solving.py": "packager/wheels/solving.py",
    "packager/wheels/stack.py": "packager/wheels/stack.py",
    "packager/workspaces/config.py": "packager/workspaces/config.py",
}
# Module -> why what it writes needs no search.
NOT_SEARCHED = {
    "packager/agent_file/image.py": "the agent: our own files and locked wheels, the same for everybody",
    "packager/bases/cache.py": "a base of ours: Debian's packages by a lock, the same for everybody",
    "packager/bases/debian/debs.py": "files of Debian's packages, checked against their hashes",
    "packager/bases/debian/download.py": "Debian's packages, checked against their hashes",
    "packager/bases/debian/entries.py": "files of Debian's packages",
    "packager/bases/debian/recipe.py": "a lock of Debian's packages, by a maintainer",
    "packager/bases/facts.py": "a cache of what bases offer",
    "packager/bases/debian/resolve.py": "indexes of Debian's packages",
    "packager/commands/device_command.py": "a command: names, numbers and times",
    "packager/commands/bundle_receipt.py": "digests of blobs",
    "packager/commands/bundle_verify.py": "numbers of parts, digests and tags of a bundle, which was searched",
    "packager/commands/key_export.py": "a public key",
    "packager/contexts/base.py": "a base, which is in the store",
    "packager/database/upgrades.py": "records of an earlier edgepack, as they are",
    "packager/demo.py": "the demonstration's own files",
    "packager/environments/azure.py": "an environment that was registered, which searched it, in its user's folder",
    "packager/exports/modelcar.py": "the model of a package, which was searched when that was built",
    "packager/images/inputs.py": "scratch files of what is in the store",
    "packager/inference/server.py": "a cache of bytecode of our own server",
    "packager/inference/service_settings.py": "a scratch file that the server's own reader checks",
    "packager/layers/kept.py": "layers of our own files, the same for everybody",
    "packager/native/files.py": "a cache of what compiled files of wheels need",
    "packager/places/archive.py": "a copy of an image of the store",
    "packager/places/docker_daemon.py": "a copy of an image of the store",
    "packager/registries/docker_folder.py": "the one file that is there for a login: mode 0600, outside of contexts",
    "packager/registries/known_blobs.py": "which digests are in which repositories, in its user's cache",
    "packager/runs/folder.py": "a run's own folder on this machine; what is registered of it is searched then",
    "packager/sbom/components.py": "a cache of what Debian's packages and wheels are",
    "packager/sbom/layers.py": "a cache of what layers have, which were searched",
    "packager/sbom/wheels.py": "a cache of what wheels are",
    "packager/sdk/conda_dependencies.py": "a file that a script writes for itself",
    "packager/sdk/configuration.py": "names of a workspace, for a script of Azure's",
    "packager/sdk/run_files.py": "a file of a run, copied for its user",
    "packager/services/credentials/folder.py": "the one file with the keys of a service: mode 0600",
    "packager/services/looking.py": "the state of a service and a time",
    "packager/services/serving.py": "a scratch file: the names of models and where a script is on this machine",
    "packager/services/source_copy.py": "a copy for a service of this machine, in a folder of mode 0700",
    "packager/services/targets/channels/ssh.py": "a bundle of an image, which was searched; what a command said",
    "packager/services/targets/local.py": "names, digests and ports of services on this machine",
    "packager/wheels/cache.py": "wheels as the index has them, checked against their hashes",
    "packager/wheels/layers.py": "wheels, the same for everybody",
    "packager/wheels/listing.py": "a cache of what wheels have",
    "packager/wheels/locks.py": "locks that maintainers make of public indexes; scratch files for uv",
    "packager/wheels/pip_download.py": "a scratch file for pip",
    "packager/workspaces/migrate.py": "records that were searched when they were made",
}


def calls(path: Path) -> set[str]:
    """The names of what a module calls; ``open`` to write is ``opens``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found.add(name)
            if name in ("insert", "update") and ast.unparse(node.func).startswith("connection."):
                found.add("records")
            words = [*node.args, *(word.value for word in node.keywords)]
            modes = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
            if name == "open" and any(len(mode) < 4 and set(mode) & set("wxa") for mode in modes):
                found.add("opens")
    return found


def writers() -> set[str]:
    paths = (ROOT / "packager").rglob("*.py")
    return {str(path.relative_to(ROOT)) for path in paths if calls(path) & {*WRITES, "opens"}}


def test_every_writer_is_known_to_search_or_to_need_no_search() -> None:
    assert not SEARCHED.keys() & NOT_SEARCHED.keys()
    found, known = writers(), SEARCHED.keys() | NOT_SEARCHED.keys()
    assert sorted(found - known) == [], "search what they write by packager.layers.secrets, and list them here"
    assert sorted(known - found) == [], "they write nothing any more"


@pytest.mark.parametrize("module", sorted(set(SEARCHED.values())))
def test_who_is_said_to_search_does(module: str) -> None:
    assert calls(ROOT / module) & SEARCHES or "search.check" in (ROOT / module).read_text()


# ---- Each of them, hit ----------------------------------------------------------------------------------------------

SECRET = "hit-me-if-you-can-7"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("EDGEPACK_REGISTRY_PASSWORD", SECRET)
    monkeypatch.setenv("EDGEPACK_REGISTRY_USERNAME", "ann")
    monkeypatch.setenv("EDGEPACK_REGISTRY", "a.lan")
    return Workspace(tmp_path / "w", tmp_path / "cache")


def refused(do: Callable[[], object], place: str) -> None:
    with pytest.raises(EdgepackError, match="the credential from the variable EDGEPACK_REGISTRY_PASSWORD") as failed:
        do()
    assert SECRET not in str(failed.value)
    assert place in str(failed.value)


@pytest.mark.parametrize(
    "details",
    [
        ModelDetails(description=f"log in with {SECRET}"), ModelDetails(tags={"login": SECRET}),
        ModelDetails(properties={"login": f"ann:{SECRET}"}), ModelDetails(experiment=SECRET), ModelDetails(run=SECRET),
    ],
)  # fmt: skip
def test_no_record_of_a_model_holds_a_credential(workspace: Workspace, tmp_path: Path, details: ModelDetails) -> None:
    (tmp_path / "m.bin").write_bytes(b"weights")
    refused(lambda: workspace.models.register("m", tmp_path / "m.bin", details), "model m")
    workspace.models.register("m", tmp_path / "m.bin")
    if details.tags or details.properties or details.description:
        changes = {"add_tags": details.tags, "add_properties": details.properties, "description": details.description}
        refused(lambda: workspace.models.update(ModelRef("m", 1), **changes), "model m:1")  # type: ignore[arg-type]
    assert SECRET.encode() not in (workspace.root / "models.db").read_bytes()


def test_no_sample_of_a_model_holds_a_credential(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(b"weights")
    rows = tmp_path / "rows.csv"
    rows.write_text(f"a,b\n1,{SECRET}\n")
    for name in ("sample_input", "sample_output"):
        options = {name: rows}
        refused(
            lambda: workspace.models.register("m", tmp_path / "m.bin", **options),  # type: ignore[arg-type] # noqa: B023
            "rows.csv",
        )


def test_no_environment_holds_a_credential(workspace: Workspace) -> None:
    found = Environment(name="e", variables={"TOKEN": SECRET})
    refused(lambda: workspace.environments.register(found), "environment e")


def test_the_settings_of_a_workspace_hold_no_credential(workspace: Workspace) -> None:
    team = Team("postgresql://ann@db.lan/x", f"a.lan/{SECRET}")
    refused(lambda: WorkspaceConfig("w", team).write(workspace.root), "workspace.json")


def test_what_is_attached_to_an_image_holds_no_credential_when_it_leaves(workspace: Workspace) -> None:
    root = make_base(workspace.store, [debian()])
    check_documents(workspace.store, [root])
    from edgepack.oci.attachments import Attachment, attach

    attach(workspace.store, root, Attachment("application/x-note", "text/plain", SECRET.encode()))
    refused(lambda: check_documents(workspace.store, [root]), "text/plain")


def test_a_log_of_a_package_is_not_kept_with_a_credential(workspace: Workspace, tmp_path: Path) -> None:
    PackageRecord("Failed", False).write(tmp_path, "0" * 32, f"Step 1: {SECRET}")
    (log,) = tmp_path.rglob("build.log")
    assert SECRET not in log.read_text()
    assert "EDGEPACK_REGISTRY_PASSWORD" in log.read_text()


@pytest.mark.parametrize("what", ["bundle", "desired"])
def test_commands_refuse_what_would_leave_with_a_credential(
    workspace: Workspace, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.keys.create("k")
    root = make_base(workspace.store, [debian()], env={"LOGIN": SECRET})
    workspace.store.tag("churn:1", root)
    service = {"name": "churn", "image": str(root.digest), "port": 6789, "env": {"LOGIN": SECRET}}
    desired = tmp_path / "desired.json"
    desired.write_text(json.dumps({"schema": "edgepack.desired/v1", "serial": 1, "services": [service]}))
    words = ["desired", "sign", desired, "--key", "k", "-o", tmp_path / "out"]
    if what == "bundle":
        words = ["bundle", "create", "churn:1", "-o", tmp_path / "out"]
    done = finish("edgepack", *words, "--workspace", workspace.root)
    assert done.code == 1, done.stderr
    assert "contains the credential from the variable EDGEPACK_REGISTRY_PASSWORD" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert not (tmp_path / "out").exists()
    monkeypatch.delenv("EDGEPACK_REGISTRY_PASSWORD")
    monkeypatch.delenv("EDGEPACK_REGISTRY_USERNAME")
    assert finish("edgepack", *words, "--workspace", workspace.root).code == 0
