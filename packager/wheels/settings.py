"""Everything but the wheels that decides the bytes of their layers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from packager.layers.bytecode import builder_version, compiles_for
from packager.layers.compressors import compressor_name
from packager.wheels.trim import RULES, TrimRule
from packager.wheels.without_bytecode import WITHOUT_BYTECODE

# Increment when the same inputs give other bytes than before.
_FORMAT = 1


@dataclass(frozen=True)
class LayerSettings:
    """Everything but the wheels that decides the bytes of their layers.

    ``python`` is the image's minor version, ``interpreter`` its path there; ``bytecode`` is made where this interpreter
    has the same minor version.
    """

    python: str = "3.11"
    interpreter: str = "/usr/bin/python3.11"
    prefix: str = "opt/edgepack"
    rules: tuple[TrimRule, ...] = RULES
    bytecode: bool = True
    mtime: int = 0

    @property
    def site_packages(self) -> str:
        """Where modules go, relative to the root of the image."""
        return f"{self.prefix.strip('/')}/lib/python{self.python}/site-packages"

    @property
    def compiles(self) -> bool:
        """Whether bytecode is made."""
        return self.bytecode and compiles_for(self.python)

    @cached_property
    def key(self) -> str:
        """A hash over all of it."""
        parts = [
            _FORMAT,
            self.python,
            self.interpreter,
            self.prefix,
            sorted((rule.distribution, rule.paths, rule.shortens) for rule in self.rules if rule.paths),
            [builder_version(), WITHOUT_BYTECODE] if self.compiles else None,
            compressor_name(),
            self.mtime,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
