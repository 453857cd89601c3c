"""Size of an image, time of a build and of a rebuild, beside ``docker build`` of the same content with cached layers.

The base and the wheels are cached; what is measured is the whole command. Limits: 130 MB unpacked, 48 MB compressed,
6 s the first time, 1 s and the model's size + 64 KiB after a new 1 MB version.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

from benchmarks.lab import docker_engine, edgepack, median, seconds, write_model

AZURE_IMAGE = 1_430_000_000
ROUNDS = 5


def main() -> None:
    """Run everything and print it."""
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as name:
        folder = Path(name)
        for version in range(ROUNDS + 2):
            write_model(folder / f"model-{version}.onnx", version)
        edgepack(folder / "warm", "model", "register", "-n", "m", "-p", str(folder / "model-0.onnx"))
        edgepack(folder / "warm", "package", "build", "-m", "m", "-t", "m:1")

        first = [first_build(folder, number) for number in range(3)]
        print(f"first build, wheels and base cached   {median(first)}   {statistics.median(first) / 6:.2f} of 6 s")
        image, rebuilds, model_size = rebuild(folder)
        size, unpacked = image["size"], image["unpacked_size"]
        print(f"rebuild after a new 1 MB version      {median(rebuilds)}   {statistics.median(rebuilds):.2f} of 1 s")
        print(
            f"new blobs of a rebuild with its model {image['new_with_model']:,} bytes   "
            f"{image['new_with_model'] - model_size:,} more than the model, of 65,536"
        )
        print(f"compressed                            {size / 1e6:.1f} MB   {size / 48e6:.2f} of 48 MB")
        print(
            f"unpacked                              {unpacked / 1e6:.1f} MB   {unpacked / 130e6:.2f} of 130 MB, "
            f"1/{AZURE_IMAGE / unpacked:.0f} of 1.43 GB"
        )
        docker = docker_rebuilds(folder)
        if docker is None:
            print("docker build                          not measured: no container engine can be started")
            return
        print(f"docker build, cached, new model       {median(docker)}")
        print(f"rebuild : docker build                {statistics.median(rebuilds) / statistics.median(docker):.2f}")


def first_build(folder: Path, number: int) -> float:
    """Seconds of a build in a fresh workspace."""
    workspace = folder / f"first-{number}"
    edgepack(workspace, "model", "register", "-n", "m", "-p", str(folder / "model-0.onnx"))
    spent = seconds(lambda: edgepack(workspace, "package", "build", "-m", "m", "-t", "m:1"))
    if number:
        shutil.rmtree(workspace)
    return spent


def rebuild(folder: Path) -> tuple[dict[str, int], list[float], int]:
    """The image, seconds of each rebuild after a new version, and the size of the model."""
    workspace, spent, image = folder / "first-0", [], {}
    for version in range(1, ROUNDS + 1):
        model = folder / f"model-{version}.onnx"
        before = blobs(workspace)
        edgepack(workspace, "model", "register", "-n", "m", "-p", str(model))
        spent.append(seconds(lambda: edgepack(workspace, "package", "build", "-m", "m", "-t", "m:1")))
        image = edgepack(workspace, "package", "build", "-m", "m", "-t", "m:1")["platforms"][0]
        image["new_with_model"] = sum(size for blob, size in blobs(workspace).items() if blob not in before)
    return image, spent, model.stat().st_size


def blobs(workspace: Path) -> dict[str, int]:
    """Name and size of every blob of a workspace."""
    return {path.name: path.stat().st_size for path in (workspace / "store" / "blobs" / "sha256").iterdir()}


def docker_rebuilds(folder: Path) -> list[float] | None:
    """Seconds of ``docker build`` over the same files, of which only the model is new each time."""
    workspace = folder / "first-0"
    context = folder / "context"
    context.mkdir()
    edgepack(workspace, "package", "push", "m:1", f"docker-archive:{folder / 'image.tar'}")
    kinds = unpack_context(workspace, context)
    with docker_engine(folder) as environment:
        if environment is None:
            return None
        run = lambda *words: subprocess.run(words, env=environment, check=True, capture_output=True)  # noqa: E731
        run("docker", "import", str(context / "base.tar"), "base:1")
        lines = ["FROM base:1", *(f"ADD {kind}.tar /" for kind in kinds if kind not in ("base", "model"))]
        lines += [
            "COPY model.onnx /var/azureml-app/azureml-models/m/1/model.onnx",
            "USER 10001:10001",
            'ENTRYPOINT ["/usr/bin/python3.11", "-m", "edge_server"]',
        ]
        (context / "Dockerfile").write_text("\n".join(lines) + "\n")
        (context / ".dockerignore").write_text("base.tar\n")
        spent = []
        for version in range(ROUNDS + 1):
            shutil.copy(folder / f"model-{version}.onnx", context / "model.onnx")
            spent.append(seconds(lambda: run("docker", "build", "-q", "-t", "m:1", str(context))))
    return spent[1:]


def unpack_context(workspace: Path, context: Path) -> list[str]:
    """The plain tar of each layer, as a file of a build context; gives their names."""
    names = []
    shown = edgepack(workspace, "package", "inspect", "m:1")["platforms"][0]["layers"]
    for number, layer in enumerate(shown):
        name = layer["kind"] if layer["kind"] in ("base", "model") else f"{number}-{layer['kind']}"
        data = (workspace / "store" / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")).read_bytes()
        plain = bytearray() if layer["media_type"].endswith("gzip") else bytearray(data)
        while data and layer["media_type"].endswith("gzip"):
            unzip = zlib.decompressobj(wbits=31)
            plain += unzip.decompress(data)
            data = unzip.unused_data
        (context / f"{name}.tar").write_bytes(plain)
        assert tarfile.is_tarfile(context / f"{name}.tar")
        names.append(name)
    return names


if __name__ == "__main__":
    main()
