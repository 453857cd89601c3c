"""What uv says when it finds no solution, as one sentence: asked of the real uv, over a folder of small wheels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgepack.errors import EdgepackError, IncompatibleError, NotFoundError, UsageError
from edgepack.oci.descriptor import Platform
from packager.wheels.conflicts import Askers, explained
from packager.wheels.locks import resolve
from packager.wheels.tags import Target
from tests.packager.support.wheels import make_wheel, only_folder

TARGET = Target(Platform("linux", "amd64"))
SERVER = ("httptools>=0.6", "numpy>=2.0", "onnxruntime>=1.27", "orjson>=3.10")
HERE = "linux/amd64 with Python 3.11 and glibc 2.36"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "wheels"
    for version in ("1.26.4", "2.0.0", "2.4.6"):
        make_wheel(folder, "numpy", version)
    for version in ("1.27.0", "1.32.0"):
        make_wheel(folder, "onnxruntime", version, requires=("numpy>=2",))
    for name, version in (("httptools", "0.6"), ("orjson", "3.10.0"), ("pre", "2.0rc1")):
        make_wheel(folder, name, version)
    for version in ("1.0", "1.1"):
        make_wheel(folder, "old_lib", version, requires=("numpy<2",))
    make_wheel(folder, "new_lib", "3.0", requires=("numpy>=2.4",))
    make_wheel(folder, "marked", requires=("numpy>=2.4; python_version < '3.14'",))
    make_wheel(folder, "middle", requires=("old_lib",))
    make_wheel(folder, "choosy", requires=("pre>=3,!=3.1,<5",))
    make_wheel(folder, "only_arm", tag="cp311-cp311-manylinux_2_28_aarch64")
    make_wheel(folder, "old_python", tag="cp38-cp38-manylinux_2_28_x86_64")
    make_wheel(folder, "new_glibc", tag="cp311-cp311-manylinux_2_39_x86_64")
    make_wheel(folder, "needs_arm", requires=("only_arm",))
    make_wheel(folder, "needs_missing", requires=("no-such-thing>=1",))
    (folder / "sources_only-1.0.tar.gz").write_bytes(b"")
    (folder / "sklearn-0.0.tar.gz").write_bytes(b"")
    return folder


def only(folder: Path) -> dict[str, str]:
    """An environment for uv that has the wheels in ``folder`` and no others."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    cache = str(folder.parent / "uv-cache")
    return {**own, "UV_NO_CONFIG": "1", "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(folder), "UV_CACHE_DIR": cache}


CASES = {
    "the server's and an exclusion": (
        ["numpy<2"], UsageError,
        "no version of numpy is right for all: the scoring server needs numpy>=2.0 and your environment needs numpy<2; "
        "relax your side, the server's is fixed: ask for numpy>=2.0, or for any numpy; or convert the model",
    ),
    "the server's and a pin": (["numpy==1.26.4"], UsageError, "your environment needs numpy==1.26.4"),
    "the server's own package": (["onnxruntime<1.27"], UsageError, "the scoring server needs onnxruntime>=1.27"),
    "the server's and a dependency": (
        ["old-lib"], UsageError,
        "old-lib needs numpy<2 and the scoring server needs numpy>=2.0; relax your side, the server's is fixed: ask "
        "for a release of old-lib that takes numpy>=2.0, or for any",
    ),
    "the server's and a dependency of a pin": (["old-lib==1.1"], UsageError, "old-lib>=1.1 needs numpy<2"),
    "a dependency of a dependency": (["middle"], UsageError, "(old-lib comes with middle)"),
    "two of the user's": (
        ["new-lib", "numpy==2.0.0"], UsageError,
        "new-lib needs numpy>=2.4 and your environment needs numpy==2.0.0; relax one side: ask for another version of "
        "new-lib or of numpy",
    ),
    "a dependency under a marker": (
        ["marked", "numpy==2.0.0"], UsageError,
        "marked needs numpy>=2.4 and your environment needs numpy==2.0.0; relax one side: ask for another version of "
        "marked or of numpy",
    ),
    "one twice": (["numpy==2.0.0", "numpy==2.4.6"], UsageError, "keep one of the two for numpy"),
    "a version that there is not": (["numpy==9.9"], NotFoundError, "numpy==9.9 is in no package index"),
    "a range that is empty": (["orjson>=99"], NotFoundError, "there is orjson==3.10.0; ask for a version"),
    "a pre-release alone": (["pre>=2.0"], NotFoundError, "there is pre==2.0rc1"),
    "a name that there is not": (["scikit-lern"], NotFoundError, "scikit-lern is in no package index; check its name"),
    "a dependency that there is not": (
        ["needs-missing"], NotFoundError, "no-such-thing is in no package index (no-such-thing comes with needs",
    ),
    "another platform": (
        ["only-arm"], IncompatibleError, f"only-arm 1.0 has no wheel for {HERE}, only for manylinux_2_28_aarch64",
    ),
    "another platform of a dependency": (["needs-arm"], IncompatibleError, "(only-arm comes with needs-arm)"),
    "another Python": (["old-python"], IncompatibleError, f"old-python 1.0 has no wheel for {HERE}, only for cp38"),
    "a newer glibc": (["new-glibc"], IncompatibleError, "only for manylinux_2_39_x86_64"),
    "a module, of which there are sources": (
        ["sklearn"], IncompatibleError, "only sources; that is the name of a module; ask for scikit-learn",
    ),
    "a module": (["PIL"], NotFoundError, "in no package index; that is the name of a module; ask for pillow"),
    "sources alone": (["sources-only"], IncompatibleError, "only sources; use another version of it"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_uv_is_explained_in_one_sentence(case: str, wheels: Path) -> None:
    asked, kind, part = CASES[case]
    with pytest.raises(EdgepackError) as caught:
        resolve([*SERVER, *asked], TARGET, askers=Askers(SERVER, tuple(asked)), environment=only(wheels))
    said = str(caught.value)
    assert part in said
    assert type(caught.value) is kind
    assert not [word for word in ("Because", "we can conclude", "\n") if word in said]


def test_what_only_another_part_gives_is_a_way_out(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_folder(wheels, monkeypatch)
    with pytest.raises(IncompatibleError, match=r"--find-links, or build with an engine: edgepack package save"):
        resolve(["sources-only"], TARGET)


def test_a_constraint_and_a_conda_name_are_called_so(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_folder(wheels, monkeypatch)
    with pytest.raises(UsageError, match="a constraint needs numpy<2"):
        resolve(SERVER, TARGET, constraints=["numpy<2"], askers=Askers(SERVER, (), ("numpy<2",)))
    with pytest.raises(NotFoundError, match=r"conda package libfoo has no package of its name on PyPI.*engine"):
        resolve(["libfoo"], TARGET, askers=Askers((), ("libfoo",), (), frozenset({"libfoo"})))


def test_a_constraint_of_this_machine_is_called_by_its_file(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_folder(wheels, monkeypatch)
    file = tmp_path / "constraints.txt"
    file.write_text("# of the site\nnumpy<2  # old\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(file))
    with pytest.raises(UsageError, match=r"this machine's constraint file .*constraints\.txt needs numpy<2") as caught:
        resolve(["numpy>=2"], TARGET, askers=Askers((), ("numpy>=2",)))
    assert "your environment needs numpy>=2" in str(caught.value)
    assert "or change that file, which pip config list names" in str(caught.value)


def test_offline_the_package_that_is_missing_is_named(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_folder(wheels, monkeypatch)
    monkeypatch.delenv("PIP_NO_INDEX")
    with pytest.raises(
        NotFoundError, match=r"no-such-thing is in no folder of wheels and not cached \(.*needs-missing"
    ):
        resolve(["needs-missing"], TARGET, offline=True)


@pytest.mark.parametrize(
    ("said", "kind", "part"),
    [
        (
            "error: Because transformers==4.30.0 depends on one of: tokenizers>=0.11.1,<0.11.3 tokenizers>0.11.3,<0.14 "
            "and you require transformers==4.30, we can conclude that you require one of: tokenizers>=0.11.1,<0.11.3 "
            "tokenizers>0.11.3,<0.14 And because you require tokenizers==0.10, we can conclude that your requirements "
            "are unsatisfiable.",
            UsageError, "transformers 4.30.0 needs tokenizers>=0.11.1,<0.11.3 or >0.11.3,<0.14 and your",
        ),
        ("error: No space left on device (os error 28)", EdgepackError, "no space for the wheels"),
        ("cause: HTTP status client error (401 Unauthorized) for url (https://x/simple/)", EdgepackError, "refuses"),
        ("something new", EdgepackError, "the requirements cannot be resolved: something new"),
    ],
)  # fmt: skip
def test_messages_that_need_another_index(said: str, kind: type[EdgepackError], part: str) -> None:
    """As uv 0.13 and pip 26 wrote them with PyPI, a full disk and an index that refuses."""
    error = explained(said, TARGET, Askers(SERVER, ("transformers==4.30", "tokenizers==0.10")))
    assert isinstance(error, kind)
    assert part in str(error)
