"""What an environment asks for as requirements of pip: conda's names, the server's stand-ins, what has no wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.errors import InvalidDocumentError, NotFoundError, UsageError
from packager.environments.asked import asked_of
from packager.environments.conda import parse_conda
from packager.environments.conda_names import NO_WHEELS, NOT_NEEDED, PYPI_NAMES, translated
from packager.environments.environment import Environment
from packager.environments.match_spec import parse_match_spec
from packager.environments.pip_requirements import parse_requirements
from packager.environments.server_packages import SERVER_PACKAGES, kept_packages
from packager.wheels.indexes import Indexes
from packager.wheels.requirements import Asked


def of_pip(text: str, **more: object) -> Asked:
    return asked_of(Environment("e", pip=parse_requirements(text)), **more)  # type: ignore[arg-type]


def of_conda(*specs: str) -> Asked:
    text = "dependencies:\n" + "".join(f"- {spec!r}\n" for spec in specs)
    return asked_of(parse_conda(text, "e"))


@pytest.mark.parametrize(
    ("spec", "requirement"),
    [
        ("numpy", "numpy"),
        ("numpy=1.26", "numpy==1.26.*"),
        ("numpy==1.26", "numpy==1.26"),
        ("numpy 1.26", "numpy==1.26"),
        ("numpy=1.26.4=py311h64a7726_0", "numpy==1.26.4"),
        ("numpy>=1.26,<2", "numpy>=1.26,<2"),
        ("numpy 1.26.* *openblas", "numpy==1.26.*"),
        ("numpy[version='>=1.26,<2']", "numpy>=1.26,<2"),
        ("numpy=1.26,!=1.26.2", "numpy==1.26.*,!=1.26.2"),
        ("pandas=*", "pandas"),
        ("pandas>=1.5.*", "pandas>=1.5"),
        ("pytorch::pytorch=2.1", "torch==2.1.*"),
        ("matplotlib-base", "matplotlib"),
        ("py-xgboost", "xgboost"),
        # The wheel without the libraries of graphics processors has its own name, from 2.1.1 on.
        ("py-xgboost-cpu", "xgboost-cpu"),
        ("py-xgboost-cpu>=1.7", "xgboost-cpu>=1.7"),
        ("py-xgboost-cpu=3.0", "xgboost-cpu==3.0.*"),
        ("py-xgboost-cpu=1.7.6", "xgboost==1.7.6.*"),
        ("py-xgboost-cpu<2.1.1", "xgboost<2.1.1"),
        ("py-xgboost-cpu>=1.7,<3", "xgboost-cpu>=1.7,<3"),
        ("msgpack-python=1.0", "msgpack==1.0.*"),
        ("pytables", "tables"),
    ],
)
def test_a_package_of_conda_is_asked_for_as_pip_writes_it(spec: str, requirement: str) -> None:
    assert of_conda(spec).requirements == (requirement,)


def test_a_name_that_differs_is_said() -> None:
    assert of_conda("pytorch").notes[0] == "conda package pytorch is torch on PyPI"
    assert of_conda("pytorch").conda == {"torch"}
    assert of_conda("numpy").notes == ()


@pytest.mark.parametrize("name", ["nomkl", "openssl", "libgcc-ng", "mkl", "gcc_linux-64", "ca-certificates"])
def test_what_an_image_does_without_is_left_out_and_said(name: str) -> None:
    asked = of_conda(name, "pip", "python=3.11", "pandas")
    assert asked.requirements == ("pandas",)
    assert asked.notes[0].startswith(f"conda package {name} is left out: ")


def test_what_no_wheel_replaces_is_refused_with_every_other_and_the_way_out() -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        of_conda("graphviz=2", "cudatoolkit=11.3", "numpy>=1.26|<1", "jq=1.1.1w", "pandas")
    assert len(caught.value.violations) == 4
    said = str(caught.value)
    for part in (
        "'graphviz=2' has no counterpart on PyPI",
        "graphics processors",
        "by choice",
        "package save",
        "1.1.1w",
    ):
        assert part in said


def test_the_tables_say_one_thing_of_a_name() -> None:
    assert not set(PYPI_NAMES) & (set(NOT_NEEDED) | set(NO_WHEELS))
    assert not set(NOT_NEEDED) & set(NO_WHEELS)
    for name in (*PYPI_NAMES, *NOT_NEEDED, *NO_WHEELS):
        assert parse_match_spec(name).name == name
        translated(parse_match_spec(name))


def test_what_the_server_stands_in_for_is_not_installed_and_said() -> None:
    asked = of_pip("azureml-defaults>=1.0.45\nInference_Schema[numpy-support]\npandas\n")
    assert asked.requirements == ("pandas",)
    assert asked.names == {"pandas"}
    assert [note.partition(":")[0] for note in asked.notes] == [
        "azureml-defaults is not installed", "inference-schema is not installed",
    ]  # fmt: skip
    assert asked.variables == {}


def test_the_real_inference_schema_stays_where_it_is_kept_and_the_server_steps_back() -> None:
    packages, rules = kept_packages(["inference-schema", "numpy-tests"])
    assert rules == ("numpy-tests",)
    asked = of_pip("inference-schema[numpy-support]==1.8\n", keep=packages)
    assert asked.requirements == ("inference-schema[numpy-support]==1.8",)
    assert asked.variables == {"EDGEPACK_INFERENCE_SCHEMA": "installed"}
    assert {name for name, one in SERVER_PACKAGES.items() if one.can_stay} == {"inference-schema"}


def test_hashes_of_the_user_are_kept_apart_from_the_requirement() -> None:
    asked = of_pip(f"numpy==2.0 --hash=sha256:{'a' * 64} --hash=sha512:{'b' * 128}\n")
    assert asked.requirements == ("numpy==2.0",)
    assert asked.hashes == {"numpy": frozenset({"a" * 64})}
    with pytest.raises(InvalidDocumentError, match="no sha256 hash"):
        of_pip(f"numpy==2.0 --hash=sha512:{'b' * 128}\n")


@pytest.mark.parametrize("line", ["git+https://host/a/b.git@main#egg=b", "b @ https://host/b-1.0-py3-none-any.whl"])
def test_an_address_is_refused_with_the_way_to_a_wheel(line: str) -> None:
    with pytest.raises(InvalidDocumentError, match=r"is an address.*pip wheel.*--find-links"):
        of_pip(f"{line}\n")


def test_dependencies_that_the_user_manages_are_not_installed() -> None:
    environment = Environment("e", pip=parse_requirements("pandas\n"), user_managed_dependencies=True)
    asked = asked_of(environment)
    assert asked.requirements == ()
    assert "the base has them" in asked.notes[0]


def test_a_build_from_source_is_not_followed_and_said() -> None:
    assert of_pip("--no-binary pandas\npandas\n").notes == (
        "--no-binary pandas is not followed: images are made of wheels",
    )


def test_indexes_of_an_environment_go_to_uv_and_pip_without_their_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDEX_TOKEN", "s3cretvalue")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    asked = of_pip(
        "--index-url https://ann:${INDEX_TOKEN}@host/simple\n--extra-index-url https://more/simple\n"
        "--trusted-host more\npandas\n"
    )
    environment = asked.indexes.for_uv()
    assert environment["UV_DEFAULT_INDEX"] == "https://ann:s3cretvalue@host/simple"
    assert environment["UV_EXTRA_INDEX_URL"].split()[-1] == "https://more/simple"
    assert environment["UV_INSECURE_HOST"] == "more"
    assert asked.indexes.lines_for_pip()[0] == "--index-url https://ann:${INDEX_TOKEN}@host/simple"
    assert asked.indexes.redacted("at s3cretvalue and https://a:b@c/") == "at **** and https://****@c/"
    assert "s3cretvalue" not in repr(asked)


def test_a_variable_that_is_not_set_and_a_folder_that_is_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    with pytest.raises(
        UsageError, match=r"index https://\$\{NO_SUCH_TOKEN\}@host/simple: the variable NO_SUCH_TOKEN is not"
    ):
        of_pip("--index-url https://${NO_SUCH_TOKEN}@host/simple\npandas\n").indexes.check()
    with pytest.raises(NotFoundError, match="there is no such folder"):
        Indexes(folders=(tmp_path / "none",)).check()
