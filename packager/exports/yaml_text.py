"""Documents as YAML, always with the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def yaml_text(*documents: Mapping[str, Any], comment: Sequence[str] = ()) -> str:
    """The documents one after the other, their fields in the order given, below a ``comment``."""
    import yaml

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        """Lists are indented below their field, as people write them, and no value becomes an alias."""

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            del indentless
            super().increase_indent(flow, False)

        def ignore_aliases(self, data: Any) -> bool:
            del data
            return True

    head = "".join(f"# {line}".rstrip() + "\n" for line in comment)
    parts = [
        yaml.dump(one, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1_000_000, default_flow_style=False)
        for one in documents
    ]
    return head + "---\n".join(parts)
