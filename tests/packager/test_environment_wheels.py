"""The wheels of an environment: one solution with the server's, kept, from a lock, a folder, a private index."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.errors import DigestMismatchError, EdgepackError, NotFoundError, UsageError
from edgepack.oci.descriptor import Platform
from packager.bases.facts import CheckedFacts
from packager.environments.asked import asked_of
from packager.environments.environment import Environment
from packager.environments.pip_requirements import parse_requirements
from packager.wheels.cache import WheelCache
from packager.wheels.groups import WheelGroup
from packager.wheels.indexes import Indexes
from packager.wheels.lock_files import joined_lock, read_lock
from packager.wheels.requirements import Asked
from packager.wheels.stack import environment_wheels, lock_of, locked_wheels
from packager.wheels.tags import Target
from tests.packager.support.bases import AMD64, ARM64
from tests.packager.support.private_index import private_index
from tests.packager.support.wheels import make_wheel, only_folder, sha256
from tests.support.uv_settings import forget_indexes

# A Python for which no lock is shipped.
FACTS = CheckedFacts("/usr/local/bin/python3.12", "3.12", "2.36", (0,))
SERVER = {"httptools": "0.6", "numpy": "2.0", "onnxruntime": "1.27", "orjson": "3.10"}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wheels"
    fill(folder)
    only_folder(folder, monkeypatch)
    return folder


def fill(folder: Path) -> None:
    for name, version in SERVER.items():
        make_wheel(folder, name, version)
    make_wheel(folder, "learn", "1.0", requires=("numpy",))


def asked(text: str, *folders: Path) -> Asked:
    return asked_of(Environment("e", pip=parse_requirements(text)), folders=folders)


def versions(groups: tuple[WheelGroup, ...]) -> dict[str, str]:
    return {wheel.name: wheel.version for group in groups for wheel in group.wheels}


def wheels_of(
    tmp_path: Path, wanted: Asked, platform: Platform = AMD64, *, lock: Path | None = None, **more: bool
) -> tuple[WheelGroup, ...]:
    cache, locks = WheelCache(tmp_path / "cache"), tmp_path / "locks"
    if lock is not None:
        return locked_wheels(lock, wanted, FACTS, platform, (), cache, locks, **more)
    return environment_wheels(wanted, FACTS, platform, (), cache, locks, **more)


def test_the_environment_and_the_server_are_solved_together(tmp_path: Path, index: Path) -> None:
    make_wheel(index, "numpy", "2.9")
    make_wheel(index, "learn", "1.1", requires=("numpy<2.5",))
    assert versions(wheels_of(tmp_path, asked("learn>1\n"))) == {**SERVER, "learn": "1.1"}


def test_a_second_build_gets_the_wheels_of_the_first_until_it_upgrades(tmp_path: Path, index: Path) -> None:
    first = versions(wheels_of(tmp_path, asked("learn\n")))
    make_wheel(index, "learn", "2.0")
    assert versions(wheels_of(tmp_path, asked("learn\n"))) == first
    assert versions(wheels_of(tmp_path, asked("learn\n"), offline=True)) == first
    assert versions(wheels_of(tmp_path, asked("learn>=1\n")))["learn"] == "2.0", "another question"
    assert versions(wheels_of(tmp_path, asked("learn\n"), again=True))["learn"] == "2.0"
    assert versions(wheels_of(tmp_path, asked("learn\n"), offline=True))["learn"] == "2.0"


def test_what_only_models_without_code_need_gives_way_to_a_script(
    tmp_path: Path, index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_wheel(index, "numpy", "1.26.4")
    with pytest.raises(UsageError, match=r"the scoring server needs numpy>=2\.0 and your environment needs numpy<2"):
        wheels_of(tmp_path, asked("learn\nnumpy<2\n"))
    found = versions(wheels_of(tmp_path, asked("learn\nnumpy<2\n"), has_script=True))
    assert found == {"httptools": "0.6", "numpy": "1.26.4", "orjson": "3.10", "learn": "1.0"}
    assert "numpy 1.26.4, no onnxruntime" in caplog.text
    with pytest.raises(UsageError, match=r"the scoring server needs httptools>=0\.6"):
        wheels_of(tmp_path, asked("httptools<0.5\n"), has_script=True)


def test_platforms_are_solved_apart_and_their_locks_are_joined_in_one_file(tmp_path: Path, index: Path) -> None:
    for version, machine in (("3.0", "x86_64"), ("2.0", "aarch64")):
        make_wheel(index, "fast", version, tag=f"cp312-cp312-manylinux_2_28_{machine}")
    groups = {one: wheels_of(tmp_path, asked("learn\nfast\n"), one) for one in (AMD64, ARM64)}
    assert [versions(found)["fast"] for found in groups.values()] == ["3.0", "2.0"]
    text = joined_lock({one: lock_of(found) for one, found in groups.items()})
    assert 'fast==2.0 ; platform_machine == "aarch64" \\\n    --hash=sha256:' in text
    assert text.count("learn==1.0") == 1
    file = tmp_path / "a folder" / "lock.txt"
    file.parent.mkdir()
    file.write_text(text)
    for one, found in groups.items():
        assert wheels_of(tmp_path, asked("learn\nfast\n"), one, lock=file) == found
        assert wheels_of(tmp_path, Asked(), one, lock=file) == found
    assert joined_lock({AMD64: lock_of(groups[AMD64])}).count(";") == 1, "the comment's"


def test_a_lock_of_another_environment_is_refused_with_what_it_lacks(tmp_path: Path, index: Path) -> None:
    file = tmp_path / "lock.txt"
    file.write_text(lock_of(wheels_of(tmp_path, asked("learn\n"))))
    with pytest.raises(UsageError) as caught:
        wheels_of(tmp_path, asked("learn>=2\npandas\nother ; python_version < '3'\n"), lock=file)
    assert "it has learn 1.0, and learn>=2 is asked for; pandas is not in it; write it again" in str(caught.value)


def test_a_lock_of_the_user_gets_what_the_server_needs_with_its_versions_fixed(tmp_path: Path, index: Path) -> None:
    make_wheel(index, "learn", "2.0")
    old = index / "learn-1.0-py3-none-any.whl"
    file = tmp_path / "lock.txt"
    file.write_text(f"--index-url https://example.org/simple\r\nlearn==1.0 \\\r\n    --hash=sha256:{sha256(old)}\r\n")
    assert versions(wheels_of(tmp_path, Asked(), lock=file)) == {**SERVER, "learn": "1.0"}
    file.write_text(f"learn==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(DigestMismatchError, match=r"no file of learn 1\.0 with a hash that the environment names"):
        wheels_of(tmp_path, Asked(), lock=file)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"learn>=1\n", "'learn>=1' is not NAME==VERSION"),
        (b"learn==1.0\n", "learn has no sha256 hash"),
        (b"\xff\xfe\x00", "is not the text of a lock"),
        (b"learn==1.0 ; nonsense == 'x' --hash=sha256:" + b"a" * 64, "has a marker that cannot be read"),
    ],
)
def test_a_lock_that_cannot_be_read_says_where(tmp_path: Path, data: bytes, part: str) -> None:
    file = tmp_path / "lock.txt"
    file.write_bytes(data)
    with pytest.raises(UsageError, match=part):
        read_lock(file, Target(AMD64))
    with pytest.raises(NotFoundError, match="there is no such lock"):
        read_lock(tmp_path / "none", Target(AMD64))


def test_hashes_of_the_user_choose_the_file(tmp_path: Path, index: Path) -> None:
    known = sha256(index / "learn-1.0-py3-none-any.whl")
    assert versions(wheels_of(tmp_path, asked(f"learn==1.0 --hash=sha256:{known}\n")))["learn"] == "1.0"
    with pytest.raises(DigestMismatchError):
        wheels_of(tmp_path, asked(f"learn==1.0 --hash=sha256:{'0' * 64}\n"))


def test_a_folder_of_wheels_is_enough_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_indexes(monkeypatch, tmp_path)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # whoever asks the network fails
    folder = tmp_path / "a house, of wheels"
    fill(folder)
    house = asked("learn\n", folder)
    found = wheels_of(tmp_path, house, offline=True)
    assert versions(found) == {**SERVER, "learn": "1.0"}
    file = tmp_path / "lock.txt"
    file.write_text(lock_of(found))
    elsewhere = tmp_path / "elsewhere"
    assert versions(wheels_of(elsewhere, house, lock=file, offline=True)) == versions(found)
    (folder / "learn-1.0-py3-none-any.whl").unlink()
    with pytest.raises(NotFoundError, match="learn is in no folder of wheels and not cached"):
        wheels_of(tmp_path / "third", house, offline=True)
    with pytest.raises(NotFoundError, match=r"learn 1\.0 not cached"):
        wheels_of(tmp_path / "third", house, lock=file, offline=True)


def test_a_private_index_is_asked_with_the_credential_that_is_referred_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_indexes(monkeypatch, tmp_path)
    fill(tmp_path / "wheels")
    monkeypatch.setenv("INDEX_PASSWORD", "s3cret-s3cret")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with private_index(tmp_path / "wheels", "ann", "s3cret-s3cret") as address:
        with_variable = address.replace("//", "//ann:${INDEX_PASSWORD}@")
        found = wheels_of(tmp_path, asked(f"--index-url {with_variable}\nlearn\n"))
        assert versions(found)["learn"] == "1.0"
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login ann password s3cret-s3cret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        by_netrc = wheels_of(tmp_path / "second", asked(f"--index-url {address}\nlearn\n"))
        assert versions(by_netrc) == versions(found)
        monkeypatch.delenv("NETRC")
        monkeypatch.setenv("INDEX_PASSWORD", "wrong-wrong")
        with pytest.raises(EdgepackError, match="refuses the credentials") as caught:
            wheels_of(tmp_path / "third", asked(f"--index-url {with_variable}\nlearn\n"))
    assert "wrong-wrong" not in str(caught.value)
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("**/locks/*"))
    assert b"s3cret" not in kept + lock_of(found).encode()
    assert b"learn==1.0" in kept


def test_an_index_that_gives_another_file_than_it_says_fails_the_verification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_indexes(monkeypatch, tmp_path)
    fill(tmp_path / "wheels")
    file = tmp_path / "lock.txt"
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    known = asked("learn\n", tmp_path / "wheels")
    file.write_text(lock_of(wheels_of(tmp_path, replace(known, indexes=replace(known.indexes, no_index=True)))))
    with (
        private_index(tmp_path / "wheels", altered=True) as address,
        pytest.raises(
            DigestMismatchError,
            match=r"a file of \S+ \S+ that the lock does not name; give the file .* --find-links, or make",
        ),
    ):
        wheels_of(tmp_path / "second", Asked(indexes=Indexes(address)), lock=file)
    with pytest.raises(EdgepackError, match="no package index is reachable"):
        wheels_of(tmp_path / "second", Asked(indexes=Indexes(address)), lock=file)
    assert not list((tmp_path / "second").glob("cache/wheels/*/*.whl"))
