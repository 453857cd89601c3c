"""What wheels are asked for: requirements and constraints as pip takes them, and where to look for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from packager.wheels.indexes import Indexes


@dataclass(frozen=True)
class Asked:
    """What is to be solved: ``requirements`` and ``constraints`` as pip takes them, and the ``indexes`` to look in.

    ``names`` are those that the user asks for himself, ``conda`` those of them that come from conda's packages, and
    ``hashes`` the SHA-256 (hex) that files of a package may have. ``variables`` are what the packages need in the
    image's environment. ``notes`` say what was left out or is called
    otherwise.
    """

    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    indexes: Indexes = field(default_factory=Indexes)
    notes: tuple[str, ...] = ()
    conda: frozenset[str] = frozenset()
    hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
