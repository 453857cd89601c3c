"""The workspace's database: earlier and later forms of it, other programs' databases, and servers that refuse."""

from __future__ import annotations

import multiprocessing
import sqlite3
import sys
from pathlib import Path

import pytest

from edgepack.errors import EdgepackError, IncompatibleError, UsageError
from edgepack.names import ModelRef
from edgepack.oci.store import Store
from packager.database.address import check_address
from packager.database.database import Database
from packager.database.tables import SCHEMA_VERSION, TABLES
from packager.models.details import ModelDetails
from packager.models.model import Framework
from packager.models.registry import ModelRegistry
from tests.packager.database.conftest import Open
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.running import finish

FORMS = Path(__file__).parent / "forms"


@pytest.fixture
def first_form(tmp_path: Path) -> Path:
    """A database as the first edgepack wrote it, with two models, one of them converted."""
    path = tmp_path / "models.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((FORMS / "first.sql").read_text())
    connection.close()
    return path


def columns_of(database: Database) -> dict[str, set[str]]:
    with database.reading() as connection:
        names = connection.column("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name: set(connection.column("SELECT name FROM pragma_table_info(?)", name)) for name in names}


def test_the_first_edgepacks_models_are_there_after_the_upgrade(first_form: Path, tmp_path: Path) -> None:
    registry = ModelRegistry(Database.beside(first_form), Store.create(tmp_path / "store"))
    iris, plain = registry.list()
    assert (iris.id, iris.framework, iris.tags, iris.size) == ("iris:2", Framework.SCIKIT_LEARN, {"team": "blue"}, 912)
    assert iris.conversion is not None
    assert iris.conversion.file == "model.onnx"
    assert iris.sample is not None
    assert iris.sample.filename == "rows.json"
    assert (plain.id, plain.sample, plain.properties, plain.description) == ("plain:1", None, {}, None)
    (tmp_path / "x").write_text("x")
    assert registry.register("iris", tmp_path / "x", ModelDetails(properties={"a": "b"})).id == "iris:3"
    assert registry.update(ModelRef("plain"), add_tags={"a": "b"}).tags == {"a": "b"}


def test_an_upgraded_database_has_the_columns_of_a_new_one(first_form: Path, tmp_path: Path) -> None:
    upgraded, new = Database.beside(first_form), Database.beside(tmp_path / "new.db")
    assert columns_of(upgraded) == columns_of(new)
    assert set(columns_of(new)) == {table.name for table in TABLES}


def _open(path: Path, start: object, ended: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    ended.put(len(ModelRegistry(Database.beside(path), Store.create(path.parent / "store")).list()))  # type: ignore[attr-defined]


def test_processes_that_open_an_earlier_form_at_once_upgrade_it_once(first_form: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, ended = context.Event(), context.Queue()
    workers = [context.Process(target=_open, args=(first_form, start, ended)) for _ in range(6)]
    for worker in workers:
        worker.start()
    start.set()
    assert [ended.get(timeout=60) for _ in workers] == [2] * 6
    for worker in workers:
        worker.join(60)


def test_an_upgrade_that_fails_leaves_the_earlier_form(first_form: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from packager.database import upgrades

    steps = {1: [*upgrades._STEPS[1], "SELECT * FROM nowhere"]}
    before = first_form.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(upgrades, "_STEPS", steps)
        with pytest.raises(EdgepackError, match="nowhere"):
            Database.beside(first_form)
    with sqlite3.connect(first_form) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert tables == {"models", "model_names"}
    assert first_form.read_bytes()[100:] == before[100:]


def test_a_newer_form_is_refused_with_the_edgepack_that_it_needs(open_database: Open) -> None:
    database = open_database()
    with database.writing() as connection:
        connection.run("UPDATE edgepack_schema SET version = ?, edgepack = ?", 99, "7.1.0")
    with pytest.raises(IncompatibleError, match=f"needs edgepack 7.1.0 or later.*up to {SCHEMA_VERSION}"):
        open_database()


def test_another_programs_database_is_left_alone(tmp_path: Path, server: Postgres, team_address: str) -> None:
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE experiments (id INTEGER)")
    connection.close()
    with pytest.raises(IncompatibleError, match=r"mlflow\.db: is the database of another program.*'experiments'"):
        Database.beside(path)
    name = team_address.rpartition("/")[2]
    server.sql(name, "CREATE SCHEMA edgepack CREATE TABLE experiments (id INTEGER)")
    with pytest.raises(IncompatibleError, match=r"is the database of another program.*'experiments'"):
        Database.at(team_address)


def test_tables_of_others_beside_ours_do_not_matter_in_postgresql(server: Postgres, team_address: str) -> None:
    name = team_address.rpartition("/")[2]
    server.sql(name, "CREATE TABLE models (id INTEGER)")
    Database.at(team_address)
    assert (
        server.sql(name, "SELECT count(*) FROM edgepack.models; SELECT count(*) FROM public.models").split()
        == ["0"] * 2
    )


@pytest.mark.parametrize(
    "address",
    ["", "x", "mysql://a@b/c", "postgresql://host", "sqlite:///x.db", "http://host/db", "postgresql://h:x/db"],
)
def test_what_is_no_address_of_a_team_database_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="write postgresql://USER@HOST:PORT/DATABASE"):
        check_address(address)


def test_a_server_that_does_not_let_in_is_named_without_a_password(
    server: Postgres, team_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PGPASSFILE")
    monkeypatch.setenv("HOME", str(tmp_path))
    for address in (team_address, team_address + "x", f"postgresql://team@127.0.0.1:{free_port()}/x"):
        with pytest.raises(EdgepackError, match=r"the workspace's database cannot be used.*~/\.pgpass") as error:
            Database.at(address)
        assert "127.0.0.1" in str(error.value)


def test_who_may_not_make_tables_is_told_what_to_ask_for(server: Postgres, team_address: str) -> None:
    name = team_address.rpartition("/")[2]
    server.sql("postgres", "DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN PASSWORD 'g'")
    with server.passwords.open("a") as file:
        file.write(f"127.0.0.1:{server.port}:*:guest:g\n")
    with pytest.raises(EdgepackError, match=r"permission denied.*ask for the right to create tables there"):
        Database.at(f"postgresql://guest@127.0.0.1:{server.port}/{name}")


@pytest.mark.parametrize(
    "address", ["postgresql://team:hidden-word@db/x", "postgresql://db/x?user=team&password=hidden-word"]
)
def test_a_password_in_an_address_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(UsageError, match=r"holds a password.*~/\.pgpass") as error:
        check_address(address)
    assert "hidden-word" not in str(error.value)


def test_a_command_that_lists_loads_only_what_it_needs(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom packager.commands.main import main\n"
        f"from packager.database.database import Database\nDatabase.beside(Path({str(tmp_path / 'models.db')!r}))\n"
        f"sys.argv[1:] = ['model', 'list', '--workspace', {str(tmp_path)!r}, '--tag', 'a=b']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "unwanted = 'sqlalchemy psycopg asyncio packager.models.registering packager.layers packager.images'\n"
        "print([name for name in unwanted.split() if name in sys.modules], file=sys.stderr)\n"
    )
    (tmp_path / "keys").mkdir()
    (tmp_path / "workspace.json").write_text('{"schema": "edgepack.workspace/v1"}')
    done = finish(sys.executable, "-c", program)
    assert done.code == 0
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_server_that_ends_in_the_middle_leaves_nothing_half(
    server: Postgres, team_address: str, tmp_path: Path
) -> None:
    database = Database.at(team_address)
    registry = ModelRegistry(database, Store.create(tmp_path / "store"))
    (tmp_path / "x").write_text("x")
    name = team_address.rpartition("/")[2]
    ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608

    def write() -> None:
        with database.writing() as one:
            one.run("INSERT INTO last_versions (kind, name, version) VALUES ('model', 'lost', 1)")
            server.sql("postgres", ended)
            one.run("INSERT INTO last_versions (kind, name, version) VALUES ('model', 'lost too', 1)")

    with pytest.raises(EdgepackError, match=r"the workspace's database cannot be used.*check that the server runs"):
        write()
    assert server.sql(name, "SELECT count(*) FROM edgepack.last_versions") == "0\n"
    assert registry.register("churn", tmp_path / "x").id == "churn:1"
