"""Chunk sizes and limits are in one dataclass, and those that decide the bytes of layers never change."""

from __future__ import annotations

import ast
from pathlib import Path

from edgepack.limits import LIMITS

ROOT = Path(__file__).parents[2]
# Sizes that are no limits of reading: what a document may ask for, what an image, a container or the sandbox is given,
# what a full disk has kept free, how much of an upload is one request, what the supervisor of a service reads at once,
# which imports nothing of edgepack's, what the searches for traces and credentials and the comparison of answers are
# made of, the width of a line, how many categories a table may have, and what is worth a bar on a terminal. Of the
# agent: what it may use of disk, memory and network, what it is told of them, and pieces in which it reads.
OTHER_SIZES = {
    "converters/boosters/counters.py",
    "converters/conversion.py",
    "converters/package/cache.py",
    "converters/proof/comparison.py",
    "converters/proof/exploration.py",
    "converters/proof/sample_file.py",
    "converters/sandbox/launch.py",
    "converters/sklearn/attempts.py",
    "converters/sklearn/recipes/text_hashes.py",
    "converters/source/recognition.py",
    "converters/source/traces.py",
    "edgepack/state/desired.py",
    "edgepack/oci/remote/upload.py",
    "edgepack/oci/remote/transport.py",
    "packager/commands/model_convert.py",
    "packager/environments/conda.py",
    "packager/exports/quantities.py",
    "packager/services/targets/device.py",
    "packager/images/plan.py",
    "packager/layers/compressors.py",
    "packager/layers/needles.py",
    "packager/models/files.py",
    "edge_agent/commands/options.py",
    "edge_agent/config/configuration.py",
    "edge_agent/daemon/jobs.py",
    "edge_agent/daemon/report.py",
    "edge_agent/link/inlet.py",
    "edge_agent/link/outbox.py",
    "edge_agent/reconcile/outlook.py",
    "edge_agent/runtimes/runtime_spec.py",
    "edge_agent/runtimes/supervisor/forward.py",
    "edge_agent/runtimes/supervisor/main.py",
    "edge_agent/state/file.py",
    "edge_agent/sources/meter.py",
    "edge_agent/sources/pace.py",
    "edge_agent/sources/registries.py",
    "edge_agent/sources/sources.py",
    "edge_agent/state/reserve.py",
    "edgepack/deltas/apply.py",
    "edgepack/deltas/make.py",
    "edgepack/deltas/members.py",
    "edgepack/deltas/segments.py",
    "edgepack/deltas/format.py",
    "edgepack/deltas/tensors.py",
    "edgepack/oci/checkpoint.py",
    "packager/agent_file/archive.py",
}


def test_what_decides_the_bytes_of_layers_never_changes() -> None:
    assert LIMITS.compressor_piece_bytes == LIMITS.gzip_member_bytes == 1 << 20


def test_chunk_sizes_and_limits_are_in_one_place() -> None:
    found = {
        str(path.relative_to(ROOT))
        for room in ("edgepack", "packager", "converters", "edge_agent")
        for path in (ROOT / room).rglob("*.py")
        if "<<" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.LShift)
        and isinstance(node.right, ast.Constant)
        and node.right.value in (10, 14, 16, 18, 20, 30, 40)
    }

    assert found == {"edgepack/limits.py", *OTHER_SIZES}
