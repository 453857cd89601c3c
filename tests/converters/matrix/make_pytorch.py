"""``python make_pytorch.py OUT_DIR``: the modules of ``pytorch_modules.py`` in every form that they are saved in.

Runs in PyTorch's own environment. Writes ``index.json`` as ``tensorflow_models.py`` does, and ``answers.npz``.
"""

from __future__ import annotations

import inspect
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

PROGRAMS = Path(__file__).resolve().parent.parent / "programs"
sys.path.insert(0, str(PROGRAMS))


def main(arguments: list[str]) -> int:
    """Write the models."""
    import pytorch_modules

    out, index = Path(arguments[0]), []
    for name in pytorch_modules.MODULES:
        for form in ("exported", "scripted", "traced", "entry"):
            folder = out / f"{name}-{form}"
            folder.mkdir(parents=True, exist_ok=True)
            saved = _save(name, form, folder)
            if saved is None:
                continue
            path, options = saved
            np.savez(folder / "answers.npz", **_answers(name, form, path))
            index.append(
                {
                    "name": f"{name}-{form}" + (", with a sample" if "sample" in options else ""),
                    "folder": f"{name}-{form}",
                    "path": str(path.relative_to(out)),
                    "framework": "PyTorch",
                    "options": options,
                    "expect": "converts",
                    "reason": "",
                }
            )
    (out / "index.json").write_text(json.dumps(index, indent=1))
    return 0


def _save(name: str, form: str, folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The file, and what the converter has to be told; None where PyTorch itself cannot save it so."""
    import pytorch_modules
    import torch

    module, examples = pytorch_modules.make(name), pytorch_modules.examples(name)
    try:
        if form == "exported":
            shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in examples)
            torch.export.save(torch.export.export(module, examples, dynamic_shapes=shapes), folder / "model.pt2")
            return folder / "model.pt2", {}
        if form in ("scripted", "traced"):
            made = torch.jit.script(module) if form == "scripted" else torch.jit.trace(module, examples, strict=False)
            made.save(str(folder / "model.pt"))
            # An archive does not say what shape its inputs have; a sample does.
            names = inspect.signature(module.forward).parameters
            arrays = {input_name: example.numpy() for input_name, example in zip(names, examples, strict=False)}
            np.savez(folder / "sample.npz", **arrays)
            return folder / "model.pt", {"sample": f"{folder.name}/sample.npz"}
    except Exception as error:  # noqa: BLE001 - PyTorch's own refusals have many classes
        sys.stderr.write(f"{name} cannot be {form}: {str(error).splitlines()[0][:120]}\n")
        return None
    torch.save(module.state_dict(), folder / "weights.pt")
    source = (PROGRAMS / "pytorch_modules.py").read_text()
    (folder / "network.py").write_text(f"{source}\n\ndef example_inputs():\n    return examples({name!r})\n")
    shutil.copy(PROGRAMS / "pytorch_modules.py", folder / "pytorch_modules.py")
    return folder / "weights.pt", {"entry": f"network:{name}"}


def _answers(name: str, form: str, path: Path) -> dict[str, Any]:
    """What the saved model answers: a trace is judged by itself, not by the module that it was made of."""
    import pytorch_modules
    import torch

    examples = pytorch_modules.examples(name)
    module: Any = pytorch_modules.make(name)
    if form == "exported":
        module = torch.export.load(path).module()
    elif form in ("scripted", "traced"):
        module = torch.jit.load(str(path))
    arrays: dict[str, Any] = {}
    for number, rows in enumerate((8, 1, pytorch_modules.BATCH)):
        generator = torch.Generator().manual_seed(number)
        feeds = [_draw(example, rows, generator) for example in examples]
        try:
            with torch.no_grad():
                answer = module(*feeds)
        except Exception:  # noqa: BLE001, S112 - a trace may take the one number of rows that it has seen
            continue
        parts = (
            answer
            if isinstance(answer, dict)
            else {
                f"output_{place}": part
                for place, part in enumerate(answer if isinstance(answer, tuple | list) else [answer])
            }
        )
        arrays |= {f"{number}/in/{place}": feed.numpy() for place, feed in enumerate(feeds)}
        arrays |= {f"{number}/out/{key}": part.numpy() for key, part in parts.items()}
    return arrays


def _draw(example: Any, rows: int, generator: Any) -> Any:
    import torch

    shape = (rows, *example.shape[1:])
    if example.dtype == torch.bool:
        return torch.rand(shape, generator=generator) < 0.7
    if example.dtype in (torch.int64, torch.int32):
        return torch.randint(0, int(example.max()) + 1, shape, generator=generator).to(example.dtype)
    return torch.randn(shape, generator=generator).to(example.dtype)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
