"""Amounts as Kubernetes writes them: ``250m`` of a processor, ``512Mi`` of memory."""

from __future__ import annotations

import math
import re
from decimal import Decimal

MIB, GIB = 1 << 20, 1 << 30
# What resource.MustParse of Kubernetes takes; the server's own words for it end with this expression.
_FORM = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9, "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15, "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30, "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50, "Ei": Decimal(2) ** 60,
}  # fmt: skip
_EXPONENT = re.compile(r"[eE][-+]?[0-9]{1,3}")


def cores(amount: float) -> str:
    """Processors, to the thousandth; never none."""
    thousandths = max(1, round(amount * 1000))
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def megabytes(size: int) -> str:
    """Bytes as whole mebibytes, at least as many."""
    return f"{math.ceil(size / MIB)}Mi"


def parse_quantity(text: str) -> Decimal | None:
    """What a quantity amounts to, ``None`` for a text that is not one."""
    match = _FORM.fullmatch(text)
    if match is None or not _NUMBER.fullmatch(match[1]):
        return None
    number, suffix = Decimal(match[1]), match[2]
    if suffix in _SUFFIXES:
        return number * _SUFFIXES[suffix]
    return number * Decimal(f"1{suffix}") if _EXPONENT.fullmatch(suffix) else None
