"""Modules that tests of others import, and that say nothing about what is tested; and our own in place of theirs."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from edge_server.compat import azure


def module(name: str, **values: Any) -> ModuleType:
    """Make ``import name`` give a module with these values; the packages above it are made too."""
    made = sys.modules.get(name)
    if made is None:
        made = sys.modules[name] = ModuleType(name)
        made.__path__ = []
    for key, value in values.items():
        setattr(made, key, value)
    above, _, last = name.rpartition(".")
    if above:
        setattr(module(above), last, made)
    return made


def ours_as_inference_schema() -> None:
    """Our ``inference_schema`` under its own name, and what its tests need of older and of large packages."""
    azure.install()
    # The tests are written for NumPy 1 and pandas 2, which call the one otherwise and take text for a file.
    np.unicode_ = np.str_  # type: ignore[attr-defined]
    read = pd.read_json
    pd.read_json = lambda given, **more: read(io.StringIO(given) if isinstance(given, str) else given, **more)

    class NoSpark:
        def __init__(self, *arguments: Any, **more: Any) -> NoReturn:
            raise NotImplementedError("there is no Spark here")

    module("pyspark.sql.session", SparkSession=NoSpark)
    module("pyspark.sql.dataframe", DataFrame=NoSpark)
    import inference_schema.parameter_types

    spark = ModuleType("inference_schema.parameter_types.spark_parameter_type")
    spark.SparkParameterType = NoSpark  # type: ignore[attr-defined]
    sys.modules[spark.__name__] = spark
    inference_schema.parameter_types.spark_parameter_type = spark  # type: ignore[attr-defined]

    def resource_string(of: str, path: str) -> bytes:
        return (Path(str(sys.modules[of].__file__)).parent / path).read_bytes()

    module("pkg_resources", resource_string=resource_string)
