"""How tests are spread over processes with ``pytest -n``: what shares its costly fixtures stays together."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from tests.support.sampling import WHOLE

if TYPE_CHECKING:
    import pytest
    from xdist.scheduler import LoadScopeScheduling

# What is run by one process: it shares fixtures that are made once, or Podman's locks, which are the machine's.
TOGETHER = ("tests/integration/", "tests/edge_agent/test_runtime_conformance.py", "tests/edgepack/test_archive.py")
# Of them, what has fixtures of its own and uses no Podman: in a row they would take longer than all others.
APART = tuple(
    f"tests/integration/test_{name}.py"
    for name in (
        "agent_file", "device_commands", "fleet", "fresh_machine", "image_environment", "image_memory", "image_scripts",
    )
)  # fmt: skip
# Hours of cases that share little.
MATRIX = "tests/edge_agent/test_crash_matrix.py"
# What starts programs, trains models or draws many examples, and is not a part of `make quick`: how the names of tests
# begin. The modules among them are not even imported.
LONG = (
    "tests/integration/",
    "tests/converters/test_traced_functions.py::test_a_function_in_a_module_beside",
    "tests/edge_agent/test_layers.py::test_killed_at_any_time",
    "tests/edge_agent/test_runner.py::test_a_power_cut",
    "tests/packager/test_bars.py::test_an_interrupt",
    "tests/packager/test_native_files.py::test_a_build_checks",
    "tests/packager/database/",
    "tests/test_extras.py",
    "tests/test_distribution.py",
    "tests/test_examples.py",
    "tests/test_real_parts.py",
    *(
        f"tests/converters/test_{name}"
        for name in (
            "bad_models", "boosters", "catboost", "companions", "conversion_cache", "convert_command", "environments",
            "forest", "imbalanced", "matrix", "old_series", "optimize", "pytorch", "recipes_", "recognition", "refus",
            "rows", "sample_text", "sandbox", "sklearn", "tensorflow", "ties", "torch_build", "user_modules", "widths",
        )
    ),
    *(
        f"tests/edge_agent/test_{name}"
        for name in (
            "commands", "confined", "crash_matrix", "daemon", "damage", "device_by_broker", "endpoints",
            "engine_recovery", "engine_switch", "fleet", "interpreter", "interrupted_pull", "link.py", "link_",
            "memory", "modes", "power_cuts", "pull", "resident_sources", "runtime_conformance", "runtime_details",
            "side_by_side",
            "sources_networks", "space", "storms", "supervised",
        )
    ),
    *(
        f"tests/edge_server/test_{name}"
        for name in (
            "benchmark_kit", "catalog", "collection", "data_fuzz", "docs_page", "end_to_end", "hostile_http", "http.py",
            "memory", "models", "openapi", "processes", "schemathesis", "scripts_", "security_", "shims", "start",
            "tls", "user_modules", "v2_bodies", "v2_server",
        )
    ),
    *(
        f"tests/edgepack/test_{name}"
        for name in (
            "bundle_crash", "bundle_import", "foreign", "limits", "remote_access", "remote_faults", "remote_registry",
            "serve", "store_faults", "tar_header", "unpack", "validate",
        )
    ),
    *(
        f"tests/packager/test_{name}"
        for name in (
            "base_recipe", "bases", "build", "bytecode", "compressors", "contexts", "conversion", "dates",
            "edgepack_commands", "entry_script", "environment_wheels", "export", "inference_base", "mlflow",
            "model_package", "models", "partial_images", "registries", "registry_logins", "sbom", "script_check",
            "stack", "trim_packages", "verify", "wheel_layer", "wheel_trim", "wheels",
        )
    ),
)  # fmt: skip
# What takes longest, so that no process begins with it when the others are done.
FIRST: tuple[str | tuple[str, ...], ...] = (
    TOGETHER,
    "tests/converters/test_tensorflow.py",
    "tests/converters/test_pytorch.py",
    "tests/test_extras.py",
    "tests/test_distribution.py",
    "tests/test_examples.py",
    "tests/converters/test_matrix.py",
    "tests/packager/test_base_recipe.py",
    ("tests/converters/", "tests/edge_agent/"),
)


def group(nodeid: str) -> str:
    """The tests that are run by one process: a module's, or those that must not be run at once."""
    if nodeid.startswith(MATRIX) and WHOLE:
        return "podman" if "[podman" in nodeid or "-podman" in nodeid else nodeid
    return "together" if _is_together(nodeid) else nodeid.partition("::")[0]


def _is_together(nodeid: str) -> bool:
    return nodeid.startswith(TOGETHER) and not nodeid.startswith(APART)


def takes_long(nodeid: str) -> bool:
    """Whether a test, or all of a module or folder, is left out of the quick run."""
    return nodeid.startswith(LONG)


def place(nodeid: str) -> tuple[int, int]:
    """Where a test comes in the order: what takes longest first.

    What is together begins. Converters calculate and agents wait: mixed, neither does one phase of a run take the
    processors thrice, nor does the next leave them idle.
    """
    if _is_together(nodeid):
        return 0, 0
    number = next((number for number, start in enumerate(FIRST) if nodeid.startswith(start)), len(FIRST))
    mixed = number == len(FIRST) - 1 or nodeid.startswith(APART)
    return (len(FIRST) - 1, zlib.crc32(nodeid.partition("::")[0].encode())) if mixed else (number, 0)


def scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Gives each process that is idle the next group."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    config.option.loadscopereorder = False
    return ByGroup(config, log)
