"""Everything but the wheels that decides the bytes of their layers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from packager.layers.compiler import Compiler, this_compiler
from packager.layers.compressors import compressor_name
from packager.wheels.trim import RULES, TrimRule
from packager.wheels.without_bytecode import WITHOUT_BYTECODE

# Increment when the same inputs give other bytes than before.
_FORMAT = 1


@dataclass(frozen=True)
class LayerSettings:
    """Everything but the wheels that decides the bytes of their layers.

    ``python`` is the image's minor version, ``interpreter`` its path there; ``bytecode`` is made by ``compiler``,
    or where there is none by this interpreter if it has the same minor version.
    """

    python: str = "3.11"
    interpreter: str = "/usr/bin/python3.11"
    prefix: str = "opt/edgepack"
    rules: tuple[TrimRule, ...] = RULES
    bytecode: bool = True
    mtime: int = 0
    compiler: Compiler | None = None

    @property
    def site_packages(self) -> str:
        """Where modules go, relative to the root of the image."""
        return f"{self.prefix.strip('/')}/lib/python{self.python}/site-packages"

    @property
    def maker(self) -> Compiler | None:
        """What makes bytecode; ``None`` where none is made."""
        return (self.compiler or this_compiler(self.python)) if self.bytecode else None

    @cached_property
    def key(self) -> str:
        """A hash over all of it."""
        parts = [
            _FORMAT,
            self.python,
            self.interpreter,
            self.prefix,
            sorted((rule.distribution, rule.paths, rule.shortens) for rule in self.rules if rule.paths),
            [self.maker.version, WITHOUT_BYTECODE] if self.maker else None,
            compressor_name(),
            self.mtime,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
