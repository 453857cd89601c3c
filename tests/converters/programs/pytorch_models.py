"""``python pytorch_models.py OUT_DIR [NAME ...]``: write PyTorch models as users would, and ``index.json`` of them.

Run with the Python of the PyTorch environment. The index is a list of ``{"name", "path", "framework", "options",
"expect"}``; ``expect`` is ``converts`` or ``refused``, ``options`` holds ``entry``, ``sample`` and so on, with paths
relative to OUT_DIR.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_modules as modules
import torch
from torch import nn
from torch.export import Dim

SOURCE = Path(modules.__file__)
INPUTS = {
    "text": ("tokens", "mask"),
    "packed": ("tokens", "lengths"),
    "parts": ("numbers", "category"),
    "cnn": ("image",),
}
# What torch.export and the compilers of TorchScript do not take at all.
NO_EXPORT = ("branch", "loop", "packed")
NO_SCRIPT = NO_TRACE = ("choice", "packed")

Case = dict[str, Any]


def input_names(name: str) -> tuple[str, ...]:
    """The parameters of a module's ``forward``."""
    sequence = name in ("lstm", "gru", "transformer")
    return INPUTS.get(name, ("sequence",) if sequence else ("features",))


def sample(folder: Path, name: str) -> str:
    """A file of sample inputs; its path relative to the folder."""
    path = folder / f"{name}.npz"
    tensors = zip(input_names(name), modules.examples(name), strict=True)
    np.savez(path, **{key: tensor.numpy() for key, tensor in tensors})
    return path.name


def case(name: str, path: str, expect: str = "converts", **options: Any) -> Case:
    """An entry of the index."""
    return {"name": name, "path": path, "framework": "PyTorch", "options": options, "expect": expect}


def programs(folder: Path, name: str) -> list[Case]:
    """The module as an exported program."""
    if name in NO_EXPORT:
        return []
    examples = modules.examples(name)
    dynamic = tuple({0: Dim.DYNAMIC} for _ in examples)
    torch.export.save(torch.export.export(modules.make(name), examples, dynamic_shapes=dynamic), folder / f"{name}.pt2")
    return [case(f"{name} program", f"{name}.pt2")]


def scripted(folder: Path, name: str) -> list[Case]:
    """The module compiled to TorchScript."""
    if name in NO_SCRIPT:
        return []
    torch.jit.script(modules.make(name)).save(str(folder / f"{name}.script.pt"))
    return [case(f"{name} scripted", f"{name}.script.pt", sample=sample(folder, name))]


def traced(folder: Path, name: str) -> list[Case]:
    """The module traced to TorchScript."""
    if name in NO_TRACE:
        return []
    with torch.no_grad():
        module = torch.jit.trace(modules.make(name), modules.examples(name), strict=False)
    module.save(str(folder / f"{name}.trace.pt"))
    return [case(f"{name} traced", f"{name}.trace.pt", sample=sample(folder, name))]


def entries(folder: Path, name: str) -> list[Case]:
    """The module's source and its weights in one folder."""
    place = folder / f"{name}-entry"
    place.mkdir(exist_ok=True)
    shutil.copy(SOURCE, place / SOURCE.name)
    state = modules.make(name).state_dict()
    if name == "cnn":  # as a training script keeps it, from several devices
        state = {f"module.{key}": value for key, value in state.items()}
        torch.save({"epoch": 3, "model_state_dict": state}, place / "checkpoint.pth")
    elif name == "gru":
        from safetensors.torch import save_file

        save_file(state, place / "weights.safetensors")
    else:
        torch.save(state, place / "weights.pt")
    return [case(f"{name} entry", place.name, entry=f"pytorch_modules:{name}", sample=sample(folder, name))]


class Half(nn.Module):
    """float16 and int64 in, float64 out, in a tuple within a dictionary."""

    def forward(self, x: torch.Tensor, count: torch.Tensor) -> dict[str, Any]:
        wide = x.to(torch.float64)
        return {"scaled": (wide * 2, wide.sum(dim=1)), "count": count + 1}


class Scalars(nn.Module):
    """A tensor without axes in, another one out."""

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * scale, scale + 1


class Flagged(nn.Module):
    """Attention by flags, exact remainders, and arguments that are no tensors."""

    def forward(self, x: torch.Tensor, flags: torch.Tensor, mask: Any, times: int) -> tuple[torch.Tensor, ...]:
        attended = nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=flags[:, None])
        return attended * times, torch.remainder(x, -0.7), x // 0.7, flags.sum(1) // 2


class Scalar(nn.Module):
    """A tensor without axes, and nothing else."""

    def forward(self, scale: torch.Tensor) -> torch.Tensor:
        return scale * 2


class Harm:
    """A pickle of it makes a folder when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


class Bessel(nn.Module):
    """An operator that ONNX lacks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


def others(folder: Path) -> list[Case]:
    """Forms that are good, unusual or bad in some way of their own."""
    made = []
    mlp, (features,) = modules.make("mlp"), modules.examples("mlp")
    torch.export.save(torch.export.export(mlp, (features,)), folder / "static.pt2")
    made.append(case("static program", "static.pt2"))
    lengths = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    program = torch.export.export(modules.make("text"), modules.examples("text"), dynamic_shapes=(lengths, lengths))
    torch.export.save(program, folder / "lengths.pt2")
    made.append(case("program of any length", "lengths.pt2"))
    x, count = torch.randn(3, 4).half(), torch.arange(3)
    dynamic = {"x": {0: Dim.DYNAMIC}, "count": {0: Dim.DYNAMIC}}
    torch.export.save(torch.export.export(Half(), (x, count), dynamic_shapes=dynamic), folder / "half.pt2")
    made.append(case("program of mixed dtypes", "half.pt2"))
    rows = {0: Dim("rows", min=2, max=8)}
    flagged = (torch.randn(3, 12, 4), torch.ones(3, 12, dtype=torch.bool), None, 2)
    program = torch.export.export(Flagged(), flagged, dynamic_shapes=(rows, rows, None, None))
    torch.export.save(program, folder / "flagged.pt2")
    made.append(case("program of flags and remainders", "flagged.pt2"))
    complex_, bfloat = torch.randn(3, 4, dtype=torch.complex64), torch.randn(3, 4, dtype=torch.bfloat16)
    for number, example in enumerate((complex_, bfloat)):
        torch.export.save(torch.export.export(nn.Identity(), (example,)), folder / f"type{number}.pt2")
        made.append(case(f"program of {example.dtype}", f"type{number}.pt2", "refused"))
    scale = torch.tensor(1.5)
    program = torch.export.export(Scalars(), (torch.randn(3, 4), scale), dynamic_shapes=({0: Dim.DYNAMIC}, None))
    torch.export.save(program, folder / "scalars.pt2")
    made.append(case("program of scalars", "scalars.pt2"))
    torch.jit.script(Scalar()).save(str(folder / "scalar.pt"))
    np.savez(folder / "scalar.npz", scale=scale.numpy())
    made.append(case("archive of a scalar", "scalar.pt", sample="scalar.npz"))
    program = torch.export.export(Bessel(), (features,), dynamic_shapes=({0: Dim.DYNAMIC},))
    torch.export.save(program, folder / "operator.pt2")
    made.append(case("operator without ONNX form", "operator.pt2", "refused"))
    torch.jit.script(mlp).save(str(folder / "widths.pt"))
    made.append(case("archive that tells its shape", "widths.pt"))
    torch.jit.script(modules.make("lstm")).save(str(folder / "shapeless.pt"))
    made.append(case("archive without a sample", "shapeless.pt", "refused"))
    torch.save(mlp.state_dict(), folder / "state.pt")
    made.append(case("state dict", "state.pt", "refused"))
    torch.save(mlp, folder / "whole.pt")
    made.append(case("pickled module", "whole.pt", "refused"))
    shutil.copy(SOURCE, folder / SOURCE.name)
    made.append(case("pickled module allowed", "whole.pt", allow_unsafe=True, sample=sample(folder, "mlp")))
    torch.save(Harm(folder / "was-run"), folder / "harm.pt")
    made.append(case("pickle that runs code", "harm.pt", "refused"))
    (wrong,) = entries(folder, "loop")
    made.append(wrong | {"name": "entry without its function", "expect": "refused"})
    made.append(wrong | {"name": "weights of another module", "expect": "refused"})
    made[-2]["options"] = wrong["options"] | {"entry": "pytorch_modules:nothing"}
    made[-1]["options"] = wrong["options"] | {"entry": "pytorch_modules:mlp"}
    data = (folder / "static.pt2").read_bytes()
    (folder / "cut.pt2").write_bytes(data[: len(data) // 2])
    made.append(case("cut program", "cut.pt2", "refused"))
    newer(folder / "static.pt2", folder / "newer.pt2")
    made.append(case("program of a newer torch", "newer.pt2", "refused"))
    return made


def newer(source: Path, target: Path) -> None:
    """A copy of a program that says that a later torch has written it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("models/model.json"):
                document = json.loads(data)
                document["schema_version"]["major"] += 1
                document["torch_version"] = "9.9.0"
                data = json.dumps(document).encode()
            new.writestr(name, data)


WRITERS: tuple[Callable[[Path, str], list[Case]], ...] = (programs, scripted, traced, entries)


def main(arguments: list[str]) -> None:
    """Write the cases, or only those whose names are given (``mlp``, ``others``, or an entry's full name)."""
    folder, only = Path(arguments[0]), arguments[1:]
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    index: list[Case] = []
    for name in modules.MODULES:
        for writer in WRITERS:
            kind = {"programs": "program", "entries": "entry"}.get(writer.__name__, writer.__name__)
            if not only or name in only or f"{name} {kind}" in only:
                index += writer(folder, name)
    if not only or "others" in only:
        index += others(folder)
    (folder / "index.json").write_text(json.dumps(index, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
