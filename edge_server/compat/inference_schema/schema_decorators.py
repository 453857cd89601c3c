"""The two decorators of a script's ``run``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import _registry
from .errors import InvalidInput
from .parameter_types.abstract_parameter_type import AbstractParameterType
from .parameter_types.standard_py_parameter_type import StandardPythonParameterType

_CONVERTERS = "__edgepack_converters__"
_ENTRY = "__edgepack_entry__"
Function = Callable[..., Any]


@dataclass
class _Parameter:
    """How one argument is converted: by its name, or by its ``position`` when it came so (-1: it never does)."""

    name: str
    position: int
    kind: AbstractParameterType
    may_lack: bool
    default: Any

    def convert(self, value: Any) -> Any:
        """Convert a value that has not the sample's type yet; InvalidInput names the parameter."""
        kind = self.kind
        if value is self.default or (value is None and self.may_lack):
            return value  # a caller may hand over the function's own default
        if isinstance(value, kind.sample_data_type) and not isinstance(kind, StandardPythonParameterType):
            return value
        try:
            return kind.deserialize_input(value)
        except ValueError as error:
            raise InvalidInput(f"{self.name}: {error}") from None


@dataclass
class _Converters:
    """What the wrapper of a function converts; further decorators add to it instead of wrapping it again."""

    wrapper: Function | None = None
    parameters: list[_Parameter] = field(default_factory=list)

    def apply(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Convert ``kwargs`` in place and return the converted ``args``."""
        given = len(args)
        for parameter in self.parameters:
            if parameter.name in kwargs:
                kwargs[parameter.name] = parameter.convert(kwargs[parameter.name])
            elif 0 <= (position := parameter.position) < given:
                args = (*args[:position], parameter.convert(args[position]), *args[position + 1 :])
            elif not parameter.may_lack:
                raise InvalidInput(f"{parameter.name} is missing")
        return args


def input_schema(
    param_name: str, param_type: AbstractParameterType, convert_to_provided_type: bool = True, optional: bool = False
) -> Callable[[Function], Function]:
    """Describe the parameter ``param_name`` by a sample, and convert what comes to the sample's type.

    An ``optional`` one, or one with a default, may be missing. Raises ValueError when the function has no such
    parameter, TypeError when ``param_type`` is not a parameter type.
    """
    if not isinstance(param_type, AbstractParameterType):
        raise TypeError(f"input_schema of {param_name!r}: param_type must be a parameter type, not {param_type!r:.60}")
    schema = param_type.input_to_swagger()

    def decorate(func: Function) -> Function:
        parameters = inspect.signature(func).parameters
        takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        if param_name not in parameters and not takes_any:
            raise ValueError(f"input_schema names {param_name!r}, which is not a parameter of {func.__name__}()")
        entry = _entry(func)
        # Of several decorators the lowest runs first; the description has the function's own order.
        known = {**(entry.input_schema or {"properties": {}, "example": {}})}
        properties = {**known["properties"], param_name: {k: v for k, v in schema.items() if k != "example"}}
        example = {**known["example"], param_name: schema.get("example")}
        order = [name for name in parameters if name in properties] + [n for n in properties if n not in parameters]
        entry.input_schema = {
            "type": "object",
            "properties": {name: properties[name] for name in order},
            "example": {name: example[name] for name in order},
        }
        entry.narrow(param_type.supported_versions())
        if not convert_to_provided_type:
            return func
        default = parameters[param_name].default if param_name in parameters else inspect.Parameter.empty
        has_default = default is not inspect.Parameter.empty
        position = list(parameters).index(param_name) if param_name in parameters else -1
        wrapper, converters = _wrapped(func)
        converters.parameters.append(_Parameter(param_name, position, param_type, optional or has_default, default))
        return wrapper

    return decorate


def output_schema(output_type: AbstractParameterType) -> Callable[[Function], Function]:
    """Describe what the function returns by a sample; TypeError when it is not a parameter type."""
    if not isinstance(output_type, AbstractParameterType):
        raise TypeError(f"output_schema: output_type must be a parameter type, not {output_type!r:.60}")
    schema = output_type.input_to_swagger()

    def decorate(func: Function) -> Function:
        entry = _entry(func)
        entry.output_schema = schema
        entry.narrow(output_type.supported_versions())
        return func

    return decorate


def _entry(func: Function) -> _registry.Entry:
    """The function's entry; a fresh one for a function defined anew under a name that is known already."""
    inner = inspect.unwrap(func)
    key = _registry.key_of(func)
    known: _registry.Entry | None = _registry.ENTRIES.get(key)
    own: object = getattr(inner, _ENTRY, None)
    if known is not None and own is known:
        return known
    fresh = _registry.ENTRIES[key] = _registry.Entry()
    setattr(inner, _ENTRY, fresh)
    return fresh


def _wrapped(func: Function) -> tuple[Function, _Converters]:
    """The wrapper that converts before it calls, made once for each function, and what it converts."""
    found = getattr(func, _CONVERTERS, None)
    # functools.wraps copies attributes, so that another decorator's wrapper seems to have ours.
    if isinstance(found, _Converters) and found.wrapper is func:
        return func, found
    converters = _Converters()

    if inspect.iscoroutinefunction(func):

        @functools.wraps(func)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            args = converters.apply(args, kwargs)
            return await func(*args, **kwargs)

    else:

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            args = converters.apply(args, kwargs)
            return func(*args, **kwargs)

    wrapper.__signature__ = inspect.signature(func)  # type: ignore[attr-defined]
    converters.wrapper = wrapper
    setattr(wrapper, _CONVERTERS, converters)
    return wrapper, converters
