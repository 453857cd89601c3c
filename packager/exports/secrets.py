"""The credentials of a service in a cluster: as a ``Secret`` when they are asked for, else how to make one."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from packager.exports.pods import labels
from packager.exports.workload import AUTH_FILES, Workload
from packager.exports.yaml_text import yaml_text

PLACEHOLDER = "SECRETS.md"


@dataclass(frozen=True)
class Credentials:
    """Files that prove who may ask, and the certificate's; without them the export says how they are made."""

    auth: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    tls: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def secret_files(
    workload: Workload, credentials: Credentials, namespace: str | None
) -> tuple[dict[str, str], list[str], list[str]]:
    """Files of secrets by name; which of them are objects and hold credentials; and what to say of them."""
    made: dict[str, str] = {}
    missing: list[str] = []
    for kind, wanted, given in (("auth", workload.auth != "none", credentials.auth),
                                ("tls", workload.tls, credentials.tls)):  # fmt: skip
        if wanted and given:
            made[f"secret-{kind}.yaml"] = yaml_text(_secret(workload, kind, given, namespace))
        elif wanted:
            missing.append(kind)
    listed = list(made)
    notes = []
    if listed:
        notes.append(f"{' and '.join(listed)} hold credentials: keep them out of version control")
    if missing:
        made[PLACEHOLDER] = _how_to(workload, missing, namespace)
        notes.append(f"the pods wait for secrets that are not in these files; {PLACEHOLDER} says how to make them")
    return made, listed, notes


def secret_objects(workload: Workload, credentials: Credentials, namespace: str | None) -> list[dict[str, Any]]:
    """The secrets whose content is given, as objects."""
    given = {"auth": credentials.auth, "tls": credentials.tls}
    return [_secret(workload, kind, given[kind], namespace) for kind, _ in workload.mounted if given[kind]]


def _secret(workload: Workload, kind: str, files: Mapping[str, bytes], namespace: str | None) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": f"{workload.name}-{kind}"}
    if namespace is not None:
        meta["namespace"] = namespace
    meta["labels"] = labels(workload)
    found: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": meta}
    found["type"] = "kubernetes.io/tls" if kind == "tls" else "Opaque"
    found["immutable"] = False  # so that keys can be replaced without new pods
    if kind == "tls":
        return {**found, "data": {name: base64.b64encode(data).decode() for name, data in sorted(files.items())}}
    return {**found, "stringData": {name: data.decode() for name, data in sorted(files.items())}}


def _how_to(workload: Workload, missing: Iterable[str], namespace: str | None) -> str:
    place = "" if namespace is None else f" --namespace {namespace}"
    lines = [f"# Secrets of {workload.name}", "", "The pods start when these secrets are in the cluster.", ""]
    for kind in missing:
        name = f"{workload.name}-{kind}"
        if kind == "tls":
            lines += [
                "The certificate with its chain, and its key:", "",
                f"    kubectl create secret tls {name}{place} --cert=chain.pem --key=key.pem", "",
            ]  # fmt: skip
            continue
        file = AUTH_FILES[workload.auth]
        how = "has the digests of two keys" if workload.auth == "key" else "has the public key of its tokens"
        lines += [
            f"Who may ask: `{file}` {how}; with `--with-secrets` the export writes the secret itself.", "",
            f"    kubectl create secret generic {name}{place} --from-file={file}={file}", "",
            "Replace it later without new pods; the server reads the file again when it changes:", "",
            f"    kubectl create secret generic {name}{place} --from-file={file}={file} --dry-run=client -o yaml |"
            " kubectl apply -f -", "",
        ]  # fmt: skip
    return "\n".join(lines)
