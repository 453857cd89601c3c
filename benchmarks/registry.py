"""The model registry: registering beside ``sha256sum`` and ``cp``, listing, twenty that register at once, collecting.

Limits: 1 GB at most 1.5 times as long as ``sha256sum`` and ``cp`` of it, with flat memory; a list of 10,000 models with
a filter by tag in 0.5 s for the whole command, on SQLite and on PostgreSQL; 200 registrations by 20 processes get the
numbers 1 to 200; 10,000 blobs collected in 5 s beside a build, and nothing lost in 100 tries. The times of a busy
machine say little; the ratios and counts do.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import secrets
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.lab import edgepack, median, seconds, write_model
from edgepack.oci.graph import walk
from edgepack.oci.store import Store
from packager.database.database import Database
from packager.database.tables import MODELS
from packager.models.details import ModelDetails
from packager.models.registry import ModelRegistry
from packager.models.rows import row_of
from packager.workspaces.collect import collect
from packager.workspaces.config import FILE
from packager.workspaces.workspace import Workspace
from tests.support.postgres import postgres

GIGABYTE = 1 << 30
ROUNDS = 3


def main() -> None:
    """Run everything and print it."""
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        server = stack.enter_context(postgres())
        os.environ["PGPASSFILE"] = str(server.passwords)
        register_a_gigabyte(folder)
        addresses = {name: server.new_database() for name in ("at-once", "many")}
        for kind, open_database in {
            "SQLite": lambda at: Database.beside(folder / at / "models.db"),
            "PostgreSQL": lambda at: Database.at(addresses[at]),
        }.items():
            at_once(kind, folder, open_database)
            list_many(kind, folder, open_database)
        collect_many(folder)


def register_a_gigabyte(folder: Path) -> None:
    """Alternately: the command, and ``sha256sum`` and ``cp`` of the same file."""
    model = folder / "large.bin"
    with model.open("wb") as file:
        for _ in range(GIGABYTE >> 24):
            file.write(secrets.token_bytes(1 << 24))
    ours, yardstick = [], []
    for number in range(ROUNDS):
        copy = folder / "copy.bin"
        yardstick.append(
            seconds(lambda: subprocess.run(["sha256sum", model], check=True, stdout=subprocess.DEVNULL))
            + seconds(lambda copy=copy: (subprocess.run(["cp", model, copy], check=True), _sync(copy)))
        )
        copy.unlink()
        ours.append(_registration(folder / f"large-{number}", model))
    model.unlink()
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    ratio = statistics.median(ours) / statistics.median(yardstick)
    print(f"register 1 GiB                        {median(ours)}")
    print(f"sha256sum + cp                        {median(yardstick)}   {ratio:.2f} times as long, of 1.5")
    print(f"memory of the largest command         {memory:.0f} MiB")


def _registration(workspace: Path, model: Path) -> float:
    spent = seconds(lambda: edgepack(workspace, "model", "register", "-n", "m", "-p", str(model)))
    shutil.rmtree(workspace)
    return spent


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _register(open_database: Callable[[str], Database], folder: Path, count: int, found: object) -> None:
    registry = ModelRegistry(open_database("at-once"), Store.create(folder / "at-once-store"))
    found.put([registry.register("churn", folder / "small.bin").version for _ in range(count)])  # type: ignore[attr-defined]


def at_once(kind: str, folder: Path, open_database: Callable[[str], Database]) -> None:
    """Twenty processes, ten registrations each, of one name."""
    (folder / "small.bin").write_bytes(b"weights")
    open_database("at-once")
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    workers = [context.Process(target=_register, args=(open_database, folder, 10, found)) for _ in range(20)]

    def run() -> list[int]:
        for worker in workers:
            worker.start()
        versions = [version for _ in workers for version in found.get(timeout=600)]
        for worker in workers:
            worker.join()
        return versions

    versions: list[int] = []
    spent = seconds(lambda: versions.extend(run()))
    each = "1 to 200, each once" if sorted(versions) == list(range(1, 201)) else f"WRONG: {sorted(versions)}"
    print(f"{kind:<10} 200 by 20 processes         {spent:.1f} s   {each}")


def list_many(kind: str, folder: Path, open_database: Callable[[str], Database]) -> None:
    """10,000 models, of which every hundredth has the tag that is asked for."""
    database = open_database("many")
    model = ModelRegistry(database, Store.create(folder / "many-store")).register(
        "m", folder / "small.bin", ModelDetails(tags={"area": "sales"})
    )
    rows = [
        {**row_of(model), "name": f"m{number % 500}", "version": number // 500 + 1,
         "tags": {"area": "sales", "stage": "prod" if number % 100 == 0 else "dev"}}
        for number in range(10_000)
    ]  # fmt: skip
    with database.writing() as connection:
        connection.insert(MODELS, rows)
    workspace = folder / f"list-{kind}"
    workspace.mkdir()
    (workspace / "keys").mkdir()
    if kind == "SQLite":
        shutil.copy(folder / "many/models.db", workspace / "models.db")
        document: dict[str, object] = {"schema": "edgepack.workspace/v1"}
    else:
        team = {"database": database.where, "registry": "127.0.0.1:1/x"}
        document = {"schema": "edgepack.workspace/v1", "team": team}
    (workspace / FILE).write_text(json.dumps(document))

    def ask(*words: str) -> list[float]:
        return [seconds(lambda: edgepack(workspace, *words)) for _ in range(7)]

    start, listed = ask("key", "list"), ask("model", "list", "--tag", "stage=prod")
    everything = ask("model", "list", "--output", "json")
    print(f"{kind:<10} list, 100 of 10,000         {median(listed)}   {statistics.median(listed) / 0.5:.2f} of 0.5 s")
    print(f"{kind:<10} a command without database  {median(start)}")
    print(f"{kind:<10} all 10,000 as JSON          {median(everything)}")


def collect_many(folder: Path) -> None:
    """10,000 blobs that nothing needs, collected while images are built; then 100 more builds, each beside one."""
    workspace = folder / "collected"
    write_model(folder / "model.onnx", 1)
    edgepack(workspace, "model", "register", "-n", "m", "-p", str(folder / "model.onnx"))
    edgepack(workspace, "package", "build", "-m", "m", "-t", "m:0")
    store = Workspace(workspace).store
    for number in range(10_000):
        store.put_bytes(number.to_bytes(8, "big") * 64, "text/plain")
    for lease in store.leases.glob("*.lease"):
        lease.unlink()
    context = multiprocessing.get_context("spawn")
    tries = 100
    builder = context.Process(target=_build, args=(str(workspace), tries))
    builder.start()
    spent = seconds(lambda: print(f"collected                             {collect(Workspace(workspace)).blobs}"))
    turns = 0
    while builder.is_alive():
        collect(Workspace(workspace))
        turns += 1
    builder.join()
    lost = 0
    for tag, root in Workspace(workspace).store.tags().items():
        try:
            lost += sum(not store.has(item) for item in walk(store, root))
        except Exception as error:  # noqa: BLE001 - counted and shown
            print(tag, error)
            lost += 1
    print(f"10,000 blobs beside builds            {spent:.2f} s   {spent / 5:.2f} of 5 s")
    print(f"{tries} builds beside {turns} collections    exit {builder.exitcode}, {lost} blobs lost")


def _build(workspace: str, tries: int) -> None:
    from edgepack.names import ModelRef
    from edgepack.oci.descriptor import Platform

    for number in range(tries):
        one = Workspace(Path(workspace))
        one.builder.build([ModelRef("m")], f"m:{number % 3}", [Platform.host()])


if __name__ == "__main__":
    main()
