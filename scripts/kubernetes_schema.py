"""Write the Kubernetes schema that ``edgepack export --check`` uses, out of the package kubernetes-validate.

Of its schemas of one version, those of the kinds that people write, without descriptions, lists and status.
Run it to take a newer version: ``.venv/bin/python scripts/kubernetes_schema.py 1.34``.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INTO = ROOT / "packager" / "exports" / "check" / "kubernetes.schema.json.gz"
# Kinds of these versions, which stay; what is only asked of a server and never kept is left out.
STABLE = re.compile(r"v[0-9]+")
ASKED = re.compile(r".*(?:List|Review|Status|Options|Binding|Scale|Eviction|TokenRequest|Event|WatchEvent|APIGroup)")
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_KEPT = ("type", "required", "enum", "items", "properties", "additionalProperties", "$ref", "oneOf")


def main() -> None:
    """Write the file, always with the same bytes."""
    version = sys.argv[1]
    spec = find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        sys.exit("install kubernetes-validate first")
    source = Path(spec.origin).parent / "kubernetes-json-schema" / f"v{version}.0-local" / "_definitions.json"
    definitions = json.loads(source.read_text())["$defs"]
    kinds: dict[str, str] = {}
    for name, one in definitions.items():
        for gvk in one.get("x-kubernetes-group-version-kind", ()):
            api = "/".join(filter(None, (gvk["group"], gvk["version"])))
            if STABLE.fullmatch(gvk["version"]) and is_kept(gvk["kind"], one):
                kinds[f"{api}/{gvk['kind']}"] = name
    kept: dict[str, Any] = {}
    waiting = list(kinds.values())
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = pruned(definitions[name], waiting)
    short = {name: f"d{at}" for at, name in enumerate(sorted(kept))}
    document = {
        "version": version,
        "kinds": {kind: {"$ref": f"#/definitions/{short[name]}"} for kind, name in sorted(kinds.items())},
        "definitions": {short[name]: renamed(one, short) for name, one in sorted(kept.items())},
    }
    data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    INTO.parent.mkdir(parents=True, exist_ok=True)
    INTO.write_bytes(gzip.compress(data, 9, mtime=0))
    print(f"{INTO.relative_to(ROOT)}: {len(kinds)} kinds, {len(kept)} definitions, {INTO.stat().st_size} bytes")


def is_kept(kind: str, schema: dict[str, Any]) -> bool:
    """Whether people write objects of this kind; roles are bound by kinds that are called so too."""
    return kind.endswith("RoleBinding") or ("metadata" in schema.get("properties", {}) and not ASKED.fullmatch(kind))


def pruned(schema: dict[str, Any], waiting: list[str]) -> dict[str, Any]:
    """What is checked of ``schema``; the definitions that it names are added to ``waiting``."""
    found: dict[str, Any] = {}
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/$defs/")[2]
        if name.endswith(("util.intstr.IntOrString", "api.resource.Quantity")):
            return {"type": ["string", "integer" if name.endswith("IntOrString") else "number"]}
        if name.startswith(_META) and name.endswith((".Time", ".MicroTime")):
            return {"type": ["string", "null"]}
        waiting.append(name)
        return {"$ref": name}
    if "oneOf" in schema:
        return {"type": [one["type"] for one in schema["oneOf"]]}
    for key in ("type", "required", "enum"):
        if key in schema:
            found[key] = schema[key]
    # A field that is empty is one that is not there, to the server; not in a list.
    if "properties" in schema:
        found["properties"] = {
            name: pruned(one, waiting) for name, one in schema["properties"].items() if name != "status"
        }
        found["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = pruned(schema["additionalProperties"], waiting)
    if "items" in schema:
        found["items"] = pruned(schema["items"], waiting)
    return found


def renamed(schema: Any, short: dict[str, str]) -> Any:
    """``schema`` with the short names of definitions."""
    if isinstance(schema, list):
        return [renamed(one, short) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: f"#/definitions/{short[one]}" if key == "$ref" and isinstance(one, str) else renamed(one, short)
        for key, one in schema.items()
    }


if __name__ == "__main__":
    main()
