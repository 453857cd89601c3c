"""conda's files of environments: read by conda's documented grammar, and refused with every field that is wrong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from edgepack.errors import EdgepackError, InvalidDocumentError, InvalidReferenceError
from edgepack.trees.yaml_tree import parse_yaml
from packager.environments.conda import conda_text, parse_conda
from packager.environments.document import digest_of
from packager.environments.environment import Environment, with_default_python
from packager.environments.match_spec import parse_match_spec, python_specifiers
from packager.environments.pip_requirements import PipRequirements
from packager.environments.sources import from_conda_file
from tests.packager.support.environments import SPECIFICATION
from tests.support.sampling import times

# ---- Files that people have ---------------------------------------------------------------------------------------

EXPORTED = """\
name: base
channels:
  - pytorch
  - conda-forge
  - defaults
dependencies:
  - _libgcc_mutex=0.1=conda_forge
  - _openmp_mutex=4.5=2_gnu
  - bzip2=1.0.8=hd590300_5
  - python=3.11.7=hab00c5b_1_cpython
  - libstdcxx-ng=13.2.0=h7e041cc_5
  - pip=23.3.2=pyhd8ed1ab_0
  - pip:
      - torch==2.1.2+cpu
      - mypkg @ git+https://github.com/acme/mypkg.git@v1
prefix: /opt/conda/envs/base
"""
MLFLOW = """\
channels:
- conda-forge
dependencies:
- python=3.10.12
- pip<=23.2.1
- pip:
  - mlflow==2.9.2
  - cloudpickle==2.2.1
  - scikit-learn==1.3.2
name: mlflow-env
"""
BY_HAND = """\
# conda env create -f environment.yaml
name: serve
channels: [conda-forge, nodefaults, "https://conda.example.com/main"]
dependencies:
  - python >=3.9,<3.12
  - numpy 1.26.*
  - blas=*=openblas
  - conda-forge::lightgbm>=4
  - pytorch::pytorch=2.1.*=*cpu*
  - "scipy[version='>=1.11,<2', build=py311*]"
  - r-base
  - pip
  - pip:
    - --extra-index-url https://download.pytorch.org/whl/cpu
    - xgboost ; platform_machine == "x86_64"
variables:
  OMP_NUM_THREADS: 1
  MODE: fast
"""


def read(text: str) -> Environment:
    return parse_conda(text, "mine", "conda.yml")


def test_the_specifications_example_is_read() -> None:
    found = read(SPECIFICATION)
    assert found == Environment(
        "mine", python="==3.6.2", conda_packages=("python=3.6.2", "scikit-learn=0.20.0"),
        pip=PipRequirements(("azureml-defaults>=1.0.45", "inference-schema[numpy-support]")), conda_file=SPECIFICATION,
    )  # fmt: skip


def test_an_exported_file_is_read() -> None:
    found = read(EXPORTED)
    assert found.python == "==3.11.7"
    assert found.conda_channels == ("pytorch", "conda-forge", "defaults")
    assert found.conda_packages[0] == "_libgcc_mutex=0.1=conda_forge"
    assert found.pip.requirements == ("torch==2.1.2+cpu", "mypkg @ git+https://github.com/acme/mypkg.git@v1")


def test_a_file_of_mlflow_is_read() -> None:
    found = read(MLFLOW)
    assert (found.python, found.conda_channels) == ("==3.10.12", ("conda-forge",))
    assert found.pip.requirements == ("mlflow==2.9.2", "cloudpickle==2.2.1", "scikit-learn==1.3.2")


def test_a_file_with_everything_is_read() -> None:
    found = read(BY_HAND)
    assert found.python == ">=3.9,<3.12"
    assert found.conda_channels == ("conda-forge", "nodefaults", "https://conda.example.com/main")
    assert found.variables == {"OMP_NUM_THREADS": "1", "MODE": "fast"}
    assert found.pip.extra_index_urls == ("https://download.pytorch.org/whl/cpu",)
    assert "scipy[version='>=1.11,<2', build=py311*]" in found.conda_packages


@pytest.mark.parametrize("text", [SPECIFICATION, EXPORTED, MLFLOW, BY_HAND])
def test_a_file_is_written_again_as_it_was(text: str) -> None:
    assert conda_text(read(text)) == text


@pytest.mark.parametrize("text", [SPECIFICATION, EXPORTED, MLFLOW, BY_HAND])
def test_a_file_written_anew_says_the_same(text: str) -> None:
    from dataclasses import replace

    without = replace(read(text), conda_file=None)
    written = conda_text(without)
    assert set(yaml.safe_load(written)) >= {"name", "dependencies"}
    again = read(written)
    assert again.python == without.python
    assert again.pip == without.pip
    assert again.variables == without.variables
    assert [name for name in again.conda_packages if name != "pip"] == [
        name for name in without.conda_packages if name != "pip"
    ]


def test_a_file_that_no_longer_says_it_is_not_written() -> None:
    from dataclasses import replace

    changed = replace(read(SPECIFICATION), conda_packages=("python=3.6.2",))
    assert "scikit-learn" not in conda_text(changed)
    assert "azureml-defaults" in conda_text(changed)


def test_comments_and_names_are_not_content() -> None:
    other = SPECIFICATION.replace("project_environment", "other") + "# more\n"
    assert digest_of(read(SPECIFICATION)) == digest_of(read(other))
    assert digest_of(read(SPECIFICATION)) != digest_of(read(SPECIFICATION.replace("0.20.0", "0.20.1")))


def test_a_requirement_file_that_the_pip_section_names_is_read(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy==1.26.4\n")
    (tmp_path / "conda.yml").write_text(
        "dependencies: [python=3.11, pip, {pip: [-r requirements.txt, '-c requirements.txt', flask]}]"
    )
    found = from_conda_file(tmp_path / "conda.yml", "mine")
    assert found.pip == PipRequirements(("numpy==1.26.4", "flask"), ("numpy==1.26.4",))
    (tmp_path / "conda.yml").write_text("dependencies: [python=3.11, pip: [-r requirements.txt]]")
    # The text alone does not say what it needs, so it is written anew.
    assert "numpy==1.26.4" in conda_text(from_conda_file(tmp_path / "conda.yml", "mine"))


def test_without_python_the_default_is_taken_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from packager.bases.find import DEFAULT_RECIPE
    from packager.environments.environment import DEFAULT_PYTHON

    (tmp_path / "conda.yml").write_text("dependencies: [numpy]")
    found = from_conda_file(tmp_path / "conda.yml", "mine")
    assert found.python == f"=={DEFAULT_PYTHON}.*"
    assert "names no Python; 3.11 is taken, the default" in caplog.text
    assert DEFAULT_RECIPE.endswith(f"-python{DEFAULT_PYTHON}")


def test_azures_package_is_missed_in_a_note_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    read(SPECIFICATION)
    assert "azureml-defaults" not in caplog.text
    read(MLFLOW)
    assert "does not list azureml-defaults, which only Azure needs" in caplog.text
    read(EXPORTED)
    assert "prefix names a folder of one machine and is left out" in caplog.text


# ---- Packages -----------------------------------------------------------------------------------------------------

SPECS = [
    ("numpy", "numpy", None, None, None),
    ("NumPy", "numpy", None, None, None),
    ("numpy=1.26", "numpy", "=1.26", None, None),
    ("numpy =1.26", "numpy", "=1.26", None, None),
    ("numpy = 1.26", "numpy", "=1.26", None, None),
    ("numpy==1.26.4", "numpy", "==1.26.4", None, None),
    ("numpy 1.26*", "numpy", "1.26*", None, None),
    ("numpy=1.26.*", "numpy", "=1.26.*", None, None),
    ("numpy>=1.20,<2", "numpy", ">=1.20,<2", None, None),
    ("numpy >=1.20 , < 2.0", "numpy", ">=1.20,<2.0", None, None),
    ("numpy>1.8,<2|==1.7", "numpy", ">1.8,<2|==1.7", None, None),
    ("numpy ~=1.20", "numpy", "~=1.20", None, None),
    ("numpy!=1.20", "numpy", "!=1.20", None, None),
    ("numpy=1.26.4=py311h64a7726_0", "numpy", "=1.26.4", "py311h64a7726_0", None),
    ("numpy 1.26.4 py311h64a7726_0", "numpy", "1.26.4", "py311h64a7726_0", None),
    ("numpy >=1.0 , < 2.0 =py34_0", "numpy", ">=1.0,<2.0", "py34_0", None),
    ("numpy==1.26.4=py311h64a7726_0", "numpy", "==1.26.4", "py311h64a7726_0", None),
    ("blas * openblas", "blas", "*", "openblas", None),
    ("blas=*=*mkl", "blas", "=*", "*mkl", None),
    ("conda-forge::numpy", "numpy", None, None, "conda-forge"),
    ("conda-forge/linux-64::numpy=1.26", "numpy", "=1.26", None, "conda-forge/linux-64"),
    ("https://conda.example.com/main::numpy", "numpy", None, None, "https://conda.example.com/main"),
    ("numpy[version='>=1.2,<2', build=py*, channel=main]", "numpy", ">=1.2,<2", "py*", "main"),
    ('numpy=1.8[build="py*"]', "numpy", "=1.8", "py*", None),
    ("numpy[version=1.2 build=py*]", "numpy", "1.2", "py*", None),
    ("_libgcc_mutex=0.1=conda_forge", "_libgcc_mutex", "=0.1", "conda_forge", None),
    ("openssl=1.1.1w=hd590300_0", "openssl", "=1.1.1w", "hd590300_0", None),
    ("tzdata=2023d=h0c530f3_0", "tzdata", "=2023d", "h0c530f3_0", None),
    ("pkg 1!2.0.*", "pkg", "1!2.0.*", None, None),
    ("gxx_linux-64", "gxx_linux-64", None, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "name", "version", "build", "channel"), SPECS, ids=[spec[0] for spec in SPECS])
def test_a_package_is_read(text: str, name: str, version: str | None, build: str | None, channel: str | None) -> None:
    found = parse_match_spec(text)
    assert (found.name, found.version, found.build, found.channel) == (name, version, build, channel)
    assert found.text == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it is empty"),
        ("=1.2", "the name is missing"),
        ("num py!", "'py!' is not a version"),
        ("numpy=", "is not a version"),
        ("numpy=1.2=b=c", "is not a version"),
        ("numpy>=1.2,", "lacks a version"),
        ("numpy>=1.2,,<2", "lacks a version"),
        ("numpy (>=1.2", "a parenthesis is missing"),
        ("numpy[version", "its brackets must be one pair, at the end"),
        ("numpy[verison=1]", "'verison' is not known in brackets; did you mean 'version'?"),
        ("numpy[version=1, version=2]", "'version' is there twice"),
        ("numpy[build=]", "is not key=value"),
        ("numpy[build=a'b']", "is not key=value"),
        ('numpy[build="]', "is not key=value; quote a value with a comma"),
        ("main:numpy", "a channel is written before the name with '::'"),
        ("../x::numpy", "its channel is not a name or an address"),
        ("https://u:hunter22@x.example/c::numpy", "its channel carries a password or token"),
        ("https://x.example/t/hunter22/c::numpy", "its channel carries a token in its path"),
        ("./numpy-1.26.4-py311_0.tar.bz2", "it is the file of a package; name the package and its version"),
        ("https://x.example/numpy-1.26.4-0.conda", "it is the file of a package"),
        ("git+https://github.com/a/b", "a channel is written before"),
        ("nu\x1b[0mpy", "a character that cannot be printed"),
    ],
)
def test_a_package_that_conda_does_not_read_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidReferenceError) as raised:
        parse_match_spec(text)
    assert says in str(raised.value)
    assert "is not a conda package" in str(raised.value)


PYTHONS = [
    ("python", None, ["3.8", "3.14"], []),
    ("python=3.11", "==3.11.*", ["3.11.0", "3.11.9"], ["3.1.1", "3.12.0"]),
    ("python=3.1", "==3.1.*", ["3.1.5"], ["3.11.0"]),
    ("python=3", "==3.*", ["3.14.1"], ["2.7.18"]),
    ("python=3.11.*", "==3.11.*", ["3.11.4"], ["3.12.1"]),
    ("python 3.11*", "==3.11.*", ["3.11.4"], ["3.12.1"]),
    ("python==3.11", "==3.11", ["3.11.0"], ["3.11.4"]),
    ("python=3.6.2", "==3.6.2", ["3.6.2"], ["3.6.3"]),
    ("python=3.11.4=h955ad1f_0", "==3.11.4", ["3.11.4"], ["3.11.5"]),
    ("python>=3.9,<3.12", ">=3.9,<3.12", ["3.9.0", "3.11.9"], ["3.12.0", "3.8.18"]),
    ("python !=3.10.*", "!=3.10.*", ["3.9.0"], ["3.10.2"]),
    ("python>=3.9.2,=3.9", ">=3.9.2,==3.9.*", ["3.9.3"], ["3.9.1", "3.10.0"]),
    ("python~=3.9", "~=3.9", ["3.11.1"], ["4.0"]),
    ("conda-forge::python=3.11", "==3.11.*", ["3.11.1"], ["3.10.1"]),
    ("python[version='>=3.9']", ">=3.9", ["3.11.1"], ["3.8.1"]),
]


@pytest.mark.parametrize(("text", "specifiers", "fits", "does_not"), PYTHONS, ids=[row[0] for row in PYTHONS])
def test_the_versions_of_python_are_those_that_conda_takes(
    text: str, specifiers: str | None, fits: list[str], does_not: list[str]
) -> None:
    found = python_specifiers(parse_match_spec(text))
    assert found == specifiers
    assert all(version in SpecifierSet(found or "") for version in fits)
    assert not any(version in SpecifierSet(found or "") for version in does_not)


@pytest.mark.parametrize("text", ["python=3.8|3.9", "python=311", "python=abc", "python=^3.*$", "python=3,11"])
def test_a_python_that_nobody_has_is_refused(text: str) -> None:
    with pytest.raises(InvalidReferenceError):
        python_specifiers(parse_match_spec(text))


@settings(max_examples=times(300, 100), deadline=None)
@given(text=st.one_of(st.text(max_size=40), st.text("ab1.=<>!~,|*[]() :_-'\"/", max_size=30)))
def test_no_package_makes_it_fail_in_another_way(text: str) -> None:
    try:
        found = parse_match_spec(text)
        python_specifiers(found)
    except EdgepackError:
        return
    assert parse_match_spec(found.text) == found


# ---- Bad input ----------------------------------------------------------------------------------------------------

WRONG = [
    ("", "conda.yml: is empty and not a mapping; a conda file has 'dependencies'"),
    ("- numpy", "is a list and not a mapping"),
    ("numpy==1.26\nscipy", "is text and not a mapping; a conda file has 'dependencies'; pip's requirement files"),
    ("name: x", "dependencies is missing"),
    ("dependencies:", "line 1: dependencies is empty and not a list"),
    ("dependancies: [numpy]", "dependancies is not a known field; did you mean 'dependencies'?; depen"),
    ("dependencies: numpy", "dependencies is text and not a list"),
    ("dependencies: [[numpy]]", "line 1: dependencies[0] is a list and not a package"),
    ("dependencies: [~]", "dependencies[0] is empty and not a package"),
    ("dependencies: [yes]", "dependencies[0] is true or false and not a package"),
    ("dependencies:\n- python: 3.11", "line 2: dependencies[0]: 'python' is not a section; a version is written"),
    ("dependencies:\n- npm: [x]", "dependencies[0]: 'npm' is not a section; only 'pip' is known there"),
    ("dependencies:\n- pip: numpy", "dependencies[0].pip is text and not a list"),
    ("dependencies:\n- pip: [{a: b}]", "dependencies[0].pip[0] is a mapping and not a requirement"),
    ("dependencies:\n- pip: [a]\n- pip: [b]", "line 3: dependencies[1].pip is a second pip section"),
    ("dependencies:\n- pip:\n  - numpy=1.2", "line 3: dependencies[0].pip[0]: 'numpy=1.2' is how conda writes"),
    ("dependencies:\n- pip:\n  - -e .", "dependencies[0].pip[0]: -e names '.', a working copy"),
    ("dependencies:\n- pip:\n  - -r gone.txt", "gone.txt: there is no such requirement file; check its path"),
    ('dependencies:\n- pip:\n  - "a\\nb"', "dependencies[0].pip[0]: has more than one line"),
    ("dependencies: [numpy=1, numpy=2]", "dependencies has 'numpy=1' and 'numpy=2'; keep one"),
    ("dependencies: [python=3.8, Python=3.9]", "dependencies has 'python=3.8' and 'Python=3.9'; keep one"),
    ("dependencies: [python=311]", "dependencies: there is no Python 311; write it as 3.11"),
    ("channels: main\ndependencies: []", "channels is text and not a list"),
    ("channels: ['../x']\ndependencies: []", "channels[0] '../x' is not a name or an address"),
    ("channels: ['https://u:hunter22@x.example/c']\ndependencies: []", "channels[0] 'https://****@x.example/c'"),
    ("channels: ['https://x.example/t/hunter22/c']\ndependencies: []", "'https://x.example/t/****/c' carries a token"),
    ("variables: [A=1]\ndependencies: []", "variables is a list and not a mapping"),
    ("variables: {DEBUG: yes}\ndependencies: []", "variables.DEBUG is true or false; write 'yes' in quotes"),
    ("variables: {'A-B': x}\ndependencies: []", "variable 'A-B': use letters, digits and '_'"),
    # YAML
    ("dependencies: [numpy\nname: x", "is not YAML"),
    ("dependencies:\n\t- numpy", "line 2: is not YAML"),
    ("a: 1\na: 2\ndependencies: []", "line 2: 'a' is listed twice, first on line 1"),
    ("? [a]\n: b\n", "the name of a field is a list"),
    ("dependencies: []\n---\ndependencies: []", "a second document begins here; keep one in a file"),
    ("dependencies: [!!python/object/apply:os.system ['true']]", "the tag 'tag:yaml.org,2002:python/object/apply:os"),
    ("dependencies: !mine [numpy]", "the tag '!mine' is not supported"),
    ("x: &a [numpy]\n<<: *a\ndependencies: []", "'<<' is not supported; write the fields out"),
    ("dependencies: &a [*a]", "alias *a names nothing that ends before it"),
    ("dependencies: [*gone]", "alias"),
    ("dependencies: " + "[" * 60, "is nested more than 32 deep"),
    ("dependencies: [" + "a, " * 30_000 + "]", "holds more than 20000 values, aliases included"),
    ("dependencies: [\x01]", "is not YAML"),
    ("dependencies: [" + "a" * 5000 + "]", "it has more than 4096 characters"),
    ("? " + "a" * 5000 + "\n: 1\ndependencies: []", "the name of a field has more than 1000 characters"),
    ("channels: [" + "a" * 5000 + "]\ndependencies: []", "has more than 4096 characters"),
    ("dependencies: [python=" + "3" * 4000 + "]", "a version of Python that is too long; write it as 3.11"),
    ("channels: ['https://u:hunter22" + "a" * 5000 + "@x.example']\ndependencies: []", "has more than 4096 characters"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"), WRONG, ids=[text[:40].encode("unicode_escape").decode() for text, _ in WRONG]
)
def test_a_wrong_file_is_named_with_its_field(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "conda.yml").write_text(text)
    with pytest.raises(InvalidDocumentError) as raised:
        from_conda_file(tmp_path / "conda.yml", "mine")
    message = str(raised.value).replace(f"{tmp_path}/", "")
    assert says in message
    assert message.startswith("conda.yml: ")
    assert "hunter22" not in message
    assert len(message) < 1000


def test_everything_that_is_wrong_is_reported_together() -> None:
    text = "nmae: x\nchannels: {}\ndependencies:\n- numpy==\n- [a]\n- pip:\n  - b=1\n  - -e .\nvariables: {A: no}\n"
    with pytest.raises(InvalidDocumentError) as raised:
        read(text)
    assert len(raised.value.violations) == 7


def test_an_alias_is_what_it_names() -> None:
    found = read("channels: &c [main]\ndependencies: [numpy]\nplatforms: *c\n")
    assert found.conda_channels == ("main",)


def test_a_file_that_grows_when_it_is_read_is_refused_at_once() -> None:
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    begun = time.monotonic()
    with pytest.raises(InvalidDocumentError, match="holds more than 20000 values"):
        read("\n".join(lines))
    assert time.monotonic() - begun < 30


YAML = st.recursive(
    st.one_of(st.text(max_size=8), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=times(150, 100), deadline=None)
@given(value=st.dictionaries(st.sampled_from(["dependencies", "channels", "variables", "name"]), YAML))
def test_no_file_makes_it_fail_in_another_way(value: dict[str, object]) -> None:
    try:
        found = with_default_python(read(yaml.safe_dump(value)))
    except EdgepackError:
        return
    assert digest_of(found)


@settings(max_examples=times(150, 100), deadline=None)
@given(text=st.one_of(st.text(max_size=60), st.text("ab:-[]{}&*!|>'\"%@\n #?,", max_size=40)))
def test_yaml_is_read_as_pyyaml_reads_it(text: str) -> None:
    try:
        found = parse_yaml(text, "x")
    except EdgepackError:
        return
    try:
        value = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - makes nothing but texts
    except (yaml.YAMLError, TypeError):
        return  # a name that is a list and no name to Python
    assert plain(found) == ("" if value is None else value)


def plain(node: object) -> object:
    from edgepack.trees.yaml_tree import Node

    assert isinstance(node, Node)
    if node.kind == "map":
        return {key: plain(item) for key, item in node.fields.items()}
    if node.kind == "list":
        return [plain(item) for item in node.items]
    return node.text
