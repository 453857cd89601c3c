"""Packages of conda by the names and versions of PyPI, where an image gets its wheels.

Most have one name in both, and what is not listed here keeps its own. Listed are facts for the packages that
environments of entry scripts name, ``conda env export`` among their authors: from the mapping that parselmouth derives
from the contents of conda-forge's packages (github.com/prefix-dev/parselmouth,
``files/v0/conda-forge/compressed_mapping.json``, read in November 2026), and where that has no entry from the packages'
own pages. A package of several distributions has the one that scripts import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.errors import InvalidReferenceError
from packager.environments.match_spec import MatchSpec, specifiers_of

if TYPE_CHECKING:
    from packaging.specifiers import Specifier
    from packaging.version import Version

# Conda's name and PyPI's.
PYPI_NAMES: Mapping[str, str] = {
    "antlr-python-runtime": "antlr4-python3-runtime",
    "brotli-python": "brotli",
    "dask-core": "dask",
    "docker-py": "docker",
    "faiss": "faiss-cpu",
    "google-cloud-bigquery-core": "google-cloud-bigquery",
    "libopencv": "opencv-python-headless",
    "libopenvino-python": "openvino",
    "libsvm-python": "libsvm",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "opencv": "opencv-python-headless",
    "py-lief": "lief",
    "py-opencv": "opencv-python-headless",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "py-xgboost-gpu": "xgboost",
    "pyarrow-core": "pyarrow",
    "pymc-base": "pymc",
    "pyqt": "pyqt5",
    "pysoundfile": "soundfile",
    "pytables": "tables",
    "pytensor-base": "pytensor",
    "python-annoy": "annoy",
    "python-blosc": "blosc",
    "python-blosc2": "blosc2",
    "python-confluent-kafka": "confluent-kafka",
    "python-duckdb": "duckdb",
    "python-fastjsonschema": "fastjsonschema",
    "python-flatbuffers": "flatbuffers",
    "python-graphviz": "graphviz",
    "python-isal": "isal",
    "python-kubernetes": "kubernetes",
    "python-lmdb": "lmdb",
    "python-sounddevice": "sounddevice",
    "python-tzdata": "tzdata",
    "python-xxhash": "xxhash",
    "python-zstd": "zstd",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "pytorch_cluster": "torch-cluster",
    "pytorch_geometric": "torch-geometric",
    "pytorch_scatter": "torch-scatter",
    "pytorch_sparse": "torch-sparse",
    "redis-py": "redis",
    "ruamel_yaml": "ruamel-yaml",
    "seaborn-base": "seaborn",
    "sentencepiece-python": "sentencepiece",
    "tbb4py": "tbb",
    "tensorflow-base": "tensorflow",
    "tensorflow-gpu": "tensorflow",
    "tensorflow-mkl": "tensorflow",
}
# A name on PyPI from one version on, before which it has that of ``PYPI_NAMES``.
_RENAMED: Mapping[str, tuple[str, str]] = {"py-xgboost-cpu": ("xgboost-cpu", "2.1.1")}
_IN_WHEELS = "wheels bring their own"
_IN_BASE = "the base has its own"
_FOR_BUILDS = "it is for building, and nothing is built"
_CHOICE = "it only chooses among conda's packages"
# Conda's packages without a counterpart on PyPI that an image does well without, and why.
NOT_NEEDED: Mapping[str, str] = {
    name: why
    for why, names in {
        _IN_WHEELS: (
            "blas libblas libcblas liblapack liblapacke openblas libopenblas mkl mkl-include mkl-service mkl_fft "
            "mkl_random numpy-base intel-openmp llvm-openmp tbb libgfortran libgfortran-ng libgfortran5 libquadmath "
            "arrow-cpp libarrow libparquet libprotobuf hdf5 libhdf5 libpng libjpeg-turbo jpeg libtiff libwebp lcms2 "
            "openjpeg freetype lerc libdeflate zstd lz4-c snappy libxgboost lightgbm-base libtorch libfaiss libxslt "
            "libxml2 geos proj libspatialindex librdkafka libpq grpc-cpp re2 abseil-cpp libsndfile libprotobuf-static"
        ),
        _IN_BASE: (
            "ca-certificates openssl sqlite libsqlite zlib libzlib bzip2 xz liblzma libffi ncurses readline tk expat "
            "libexpat libuuid libnsl libxcrypt tzdata libgcc libgcc-ng libstdcxx libstdcxx-ng libgomp _libgcc_mutex "
            "_openmp_mutex python_abi ld_impl_linux-64 ld_impl_linux-aarch64 icu krb5 libcurl"
        ),
        _FOR_BUILDS: (
            "wheel compilers c-compiler cxx-compiler fortran-compiler gcc gxx gfortran gcc_linux-64 gxx_linux-64 "
            "gcc_linux-aarch64 gxx_linux-aarch64 binutils cmake make ninja-base pkg-config swig patchelf conda-build"
        ),
        _CHOICE: "nomkl cpuonly pytorch-mutex blas-devel conda mamba __glibc __cuda __unix __linux",
    }.items()
    for name in names.split()
}
_GPU = "it is for graphics processors, and images of edgepack calculate on the CPU"
_PROGRAM = "it is a program or library outside of Python"
# Conda's packages that no wheel replaces, and why.
NO_WHEELS: Mapping[str, str] = {
    name: why
    for why, names in {
        _GPU: "cudatoolkit cudnn cuda cuda-toolkit cuda-version cuda-nvcc pytorch-cuda nccl cupti",
        _PROGRAM: (
            "ffmpeg graphviz nginx nodejs openjdk git r-base r-essentials julia perl unixodbc mysql postgresql redis "
            "redis-server libgdal tesseract poppler ghostscript imagemagick texlive-core pandoc java-jdk maven sox "
            "libopenvino vim curl wget bash"
        ),
    }.items()
    for name in names.split()
}


@dataclass(frozen=True)
class Translated:
    """A conda package as a ``requirement`` of pip, None for one that an image does not need; ``note`` says it."""

    requirement: str | None
    note: str = ""


def translated(spec: MatchSpec) -> Translated | str:
    """``spec`` as pip takes it, or why no wheel can satisfy it."""
    if spec.name in NO_WHEELS:
        return (
            f"conda package {spec.text!r} has no counterpart on PyPI ({NO_WHEELS[spec.name]}): leave it out where the "
            "script does without it, or build with an engine on a base that has conda: edgepack package save"
        )
    if spec.name in NOT_NEEDED:
        return Translated(None, f"conda package {spec.name} is left out: {NOT_NEEDED[spec.name]}")
    try:
        specifiers = specifiers_of(spec, spec.name)
    except InvalidReferenceError as error:
        return f"conda package {error}"
    if (problem := _problem(specifiers)) is not None:
        return f"conda package {spec.text!r}: {problem}"
    name = _name_on_pypi(spec.name, specifiers)
    return Translated(name + specifiers, f"conda package {spec.name} is {name} on PyPI" if name != spec.name else "")


def _name_on_pypi(name: str, specifiers: str) -> str:
    """The wheel's name of a conda package, some versions of which ``specifiers`` allow."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    newer, first = _RENAMED.get(name, ("", ""))
    if newer and not any(_ends_before(one, Version(first)) for one in SpecifierSet(specifiers)):
        return newer
    return PYPI_NAMES.get(name, name)


def _ends_before(specifier: Specifier, first: Version) -> bool:
    """Whether no version from ``first`` on is allowed."""
    if specifier.operator in (">=", ">", "!="):
        return False
    end = type(first)(specifier.version.removesuffix(".*"))
    return end <= first if specifier.operator == "<" else end < first


def _problem(specifiers: str) -> str | None:
    """Why PEP 440 cannot say these versions of conda's; None where it can."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        SpecifierSet(specifiers)
    except InvalidSpecifier:
        return f"its version is not one that PyPI could have ({specifiers}); name the version of the wheel"
    return None
