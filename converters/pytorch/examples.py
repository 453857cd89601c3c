"""Example inputs for a model that does not carry any: from the user's sample, its own code, or its first layer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.options import Options
from converters.proof import sample_text, samples
from converters.proof.specs import Spec
from converters.pytorch import original as originals
from converters.pytorch import scripts
from converters.pytorch.dtypes import dtype_name
from converters.pytorch.original import Original
from edgepack.errors import ConversionError, UsageError

SAMPLE_HINT = "give --sample with a .npz file that has an array for each input, by its name"
EXAMPLES_FUNCTION = "example_inputs"


@dataclass(frozen=True)
class Parameter:
    """A parameter of ``forward``; an optional one is an input only where the sample has it."""

    name: str
    required: bool


def of_module(module: Any, source: Any, notes: tuple[str, ...], options: Options) -> Original:
    """The original that a module is, with examples from the sample, else from its own ``example_inputs()``.

    That is a method of the module, or a function beside it in ``source``. Raises ``UsageError`` where there is neither.
    """
    parameters, variadic = _forward_parameters(module)
    if options.sample is not None:
        candidates = _from_sample(parameters, options.sample, _float_dtype(module))
    else:
        function = getattr(module, EXAMPLES_FUNCTION, None) or getattr(source, EXAMPLES_FUNCTION, None)
        if function is None:
            raise UsageError(
                f"nothing says what inputs the model takes ({_listed(parameters)})",
                hint=f"{SAMPLE_HINT}, or give the module a method {EXAMPLES_FUNCTION}() that returns them",
            )
        candidates = iter([_own(function, parameters, variadic)])
    return _first_taken("module", module, parameters, candidates, notes)


def of_script(module: Any, options: Options) -> Original:
    """The original that a TorchScript archive is, with examples from the sample, else from what its first layers say.

    Raises ``UsageError``, naming the inputs whose shape is not known.
    """
    parameters = []
    for argument in module.forward.schema.arguments[1:]:
        kind = str(argument.type)
        if kind in ("Tensor", "Optional[Tensor]"):
            parameters.append(Parameter(argument.name, not argument.has_default_value() and kind == "Tensor"))
        elif not argument.has_default_value():
            raise ConversionError(
                f"the model's input {argument.name!r} is a {kind}, not a tensor",
                hint="give its forward tensors only and export it again",
            )
    notes = (scripts.TRACED_NOTE,) if scripts.is_traced(module) else ()
    if options.sample is not None:
        candidates = _from_sample(parameters, options.sample, _float_dtype(module))
    else:
        candidates = iter([_inferred(module, parameters)])
    return _first_taken("script", module, parameters, candidates, notes)


def _first_taken(
    kind: originals.Kind,
    module: Any,
    parameters: Sequence[Parameter],
    candidates: Iterator[Mapping[str, Any]],
    notes: tuple[str, ...],
) -> Original:
    """The original with the first of several readings of the sample that it takes."""
    failure: ConversionError | None = None
    for arrays in candidates:
        try:
            return originals.describe(_build(kind, module, parameters, arrays, notes))
        except ConversionError as error:
            failure = failure or error
    raise failure or ConversionError("example inputs are missing", hint=SAMPLE_HINT)


def _build(
    kind: originals.Kind,
    module: Any,
    parameters: Sequence[Parameter],
    arrays: Mapping[str, Any],
    notes: tuple[str, ...],
) -> Original:
    import torch

    tensors = {
        name: array if isinstance(array, torch.Tensor) else torch.from_numpy(array) for name, array in arrays.items()
    }
    rows = next((len(tensor) for tensor in tensors.values() if tensor.ndim), None)
    if rows == 0 or not tensors:
        raise UsageError("the example inputs have no rows", hint=SAMPLE_HINT)
    batched = {name for name, tensor in tensors.items() if tensor.ndim and len(tensor) == rows}
    size = originals.example_rows([tensor.shape for tensor in tensors.values()])
    specs = tuple(
        Spec(
            name,
            dtype_name(name, tensor.dtype),
            (None, *tensor.shape[1:]) if name in batched else tuple(tensor.shape),
        )
        for name, tensor in tensors.items()
    )
    examples = tuple(
        originals.resize(tensor.detach(), size) if name in batched else tensor.detach()
        for name, tensor in tensors.items()
    )
    order = [parameter.name for parameter in parameters]
    positional = 0
    for given, wanted in zip(tensors, order or tensors, strict=False):
        if given != wanted:
            break
        positional += 1
    return Original(
        kind=kind,
        subject=module,
        callee=module,
        specs=specs,
        examples=examples,
        version=torch.__version__.partition("+")[0],
        positional=positional,
        notes=notes,
    )


def _forward_parameters(module: Any) -> tuple[list[Parameter], bool]:
    """The parameters of ``forward``, and whether it takes any number of arguments."""
    kinds = inspect.Parameter
    parameters, variadic = [], False
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD):
            variadic = True
        else:
            parameters.append(Parameter(parameter.name, parameter.default is kinds.empty))
    return parameters, variadic


def _own(function: Any, parameters: Sequence[Parameter], variadic: bool) -> dict[str, Any]:
    """What ``example_inputs()`` returns, by the names of the parameters."""
    import numpy as np
    import torch

    try:
        given = function()
    except Exception as error:  # the user's code may raise anything
        raise ConversionError(
            f"{EXAMPLES_FUNCTION}() fails ({originals.reason(error)})", hint="let it return example inputs"
        ) from error
    if isinstance(given, torch.Tensor | np.ndarray):
        given = (given,)
    if not isinstance(given, Mapping):
        given = list(given) if isinstance(given, list | tuple) else [given]
        names = [parameter.name for parameter in parameters]
        if variadic:
            names += [f"input_{number}" for number in range(len(names), len(given))]
        if len(given) > len(names):
            raise ConversionError(
                f"{EXAMPLES_FUNCTION}() returns {len(given)} inputs, the model takes {len(names)}",
                hint="let it return one tensor for each parameter of forward",
            )
        given = dict(zip(names, given, strict=False))
    for name, value in given.items():
        if not isinstance(value, torch.Tensor | np.ndarray):
            raise ConversionError(
                f"{EXAMPLES_FUNCTION}() gives a {type(value).__name__} for {name!r}, not a tensor",
                hint="let the model take tensors only, with its settings fixed in the factory",
            )
    return {str(name): value for name, value in given.items()}


def _from_sample(parameters: Sequence[Parameter], path: Path, floats: Any) -> Iterator[Mapping[str, Any]]:
    """The readings of the sample file: typed as it says, then with whole numbers as floats, as the model has them."""
    import numpy as np

    given = samples.arrays(path)
    typed = given is not None
    if given is None:
        table = samples.read(path)
        names = {entry.name for entry in parameters}
        as_one = len(parameters) == 1 and not names & set(table.names)  # all columns are one input
        for cell in sample_text.text_cells(path):
            if as_one or cell.column in names:
                raise cell.error(path.name)
        if len(parameters) == 1 and parameters[0].name not in table.names and table.numeric:
            given = {parameters[0].name: table.matrix()}
        else:
            given = dict(zip(table.names, table.columns, strict=True))
    if len(given) == 1 and len(parameters) == 1:
        given = {parameters[0].name: next(iter(given.values()))}
    missing = [entry.name for entry in parameters if entry.required and entry.name not in given]
    if missing:
        raise UsageError(
            f"the sample lacks the model's input {missing[0]!r} (it has {', '.join(map(repr, given)) or 'none'})",
            hint=SAMPLE_HINT,
        )
    known = [entry.name for entry in parameters if entry.name in given] or list(given)
    arrays = {name: np.asarray(given[name]) for name in known}
    text = [name for name, array in arrays.items() if array.dtype.kind not in "fiub"]
    if text:
        raise UsageError(f"the sample's {text[0]!r} is not numeric", hint="PyTorch models take numbers only")

    def cast(kinds: str, target: Any) -> dict[str, Any]:
        return {
            name: array.astype(target) if array.dtype.kind in kinds and array.dtype != np.float16 else array
            for name, array in arrays.items()
        }

    as_is = {name: array.astype(floats) if array.dtype == np.float64 else array for name, array in arrays.items()}
    whole = {
        name: array.astype(np.int64) if array.dtype.kind == "f" and (array == np.floor(array)).all() else array
        for name, array in arrays.items()
    }
    # A table does not tell 1 from 1.0; most models take floats.
    yield from ((as_is, cast("fiu", floats), whole) if typed else (cast("fiu", floats), as_is, whole))


def _float_dtype(module: Any) -> Any:
    """numpy's dtype for the model's own numbers."""
    import torch

    found = next((entry.dtype for entry in module.parameters() if entry.is_floating_point()), torch.float32)
    return {torch.float64: "float64", torch.float16: "float16"}.get(found, "float32")


def _inferred(module: Any, parameters: Sequence[Parameter]) -> dict[str, Any]:
    import torch

    required = [parameter for parameter in parameters if parameter.required]
    shapes = scripts.input_shapes(module)
    unknown = [entry.name for entry in required if entry.name not in shapes]
    if unknown:
        raise UsageError(
            f"the archive does not say what shape its input {unknown[0]!r} has ({_listed(parameters)})",
            hint=SAMPLE_HINT,
        )
    dtype = getattr(torch, _float_dtype(module))
    generator = torch.Generator().manual_seed(0)
    return {entry.name: torch.randn(shapes[entry.name], generator=generator).to(dtype) for entry in required}


def _listed(parameters: Sequence[Parameter]) -> str:
    names = ", ".join(entry.name for entry in parameters if entry.required)
    return f"its forward takes {names or 'any inputs'}"
