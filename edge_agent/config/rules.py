"""What the schema of a configuration cannot say, or not in words that help; no secret is ever shown.

A password, a token or a private key in the file is refused, wherever it is: the file is copied, backed up and shown.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from edgepack.trees.schema import Schema, SchemaCheck
from edgepack.trees.yaml_tree import NULL, Node, is_true

SCHEMA_FILE = Path(__file__).with_name("edge-agent.schema.json")
PATHS = (
    "state_dir", "ca_file", "certificate_file", "key_file", "password_file", "credentials_file", "lock_file", "folder",
)  # fmt: skip
"""The fields that hold a path; relative ones count from the folder of the file."""
# Files that must be there when the agent starts, and those of them that nobody else may read.
_FILES = ("ca_file", "certificate_file", "key_file", "password_file")
_SECRET_FILES = ("key_file", "password_file")
_KINDS = ("registry", "folder", "neighbour")
_ADDRESSES = ("url", "registry", "neighbour")
_SECRET = re.compile(
    r"pass(word|wd|phrase)?|pwd|secret|(auth|access|api|bearer|identity)?token|(access|api|private|secret)key"
)
_LOGIN = re.compile(r"^([a-z]+://)?.*@")
_BROKER_WAY = "write it alone into a file of mode 0600, and give the file's path as broker.password_file"
_SOURCE_WAY = "run docker login on the device, or give a credentials_file (Docker's config.json) or a credential_helper"
_SEXAGESIMAL = re.compile(r"[0-9]{1,2}:[0-9]{2}")


@cache
def schema() -> Schema:
    """The JSON Schema of a configuration."""
    found: Schema = json.loads(SCHEMA_FILE.read_text("utf-8"))
    return found


def without_secrets(node: Node, path: str = "") -> tuple[Node, list[str]]:
    """``node`` without the secrets that are in it, and a violation for each of them, which does not show it."""
    found: list[str] = []
    fields, items = {}, []
    for key, value in node.fields.items():
        place = f"{path}.{key[:80]}" if path else key[:80]
        if value.kind in ("text", "number") and _SECRET.fullmatch(_plain(key)):
            found.append(value.at(f"{place}: a secret is not kept in this file; {_way_out(path)}"))
            continue
        if key in _ADDRESSES and value.kind == "text" and "@" in value.text:
            what = "holds a user name or a password" if ":" in value.text.split("@")[0] else "holds a user name"
            user = "" if path.startswith("sources") else "give the user as broker.user; "
            found.append(value.at(f"{place} {what}, which is not kept there; {user}{_way_out(path)}"))
            fields[key] = replace(value, text=_LOGIN.sub(r"\1", value.text))
            continue
        fields[key], inner = without_secrets(value, place)
        found += inner
    for at, item in enumerate(node.items):
        clean, inner = without_secrets(item, f"{path}[{at}]")
        items.append(clean)
        found += inner
    if node.kind == "text" and "PRIVATE KEY" in node.text:
        found.append(node.at(f"{path}: holds a private key; keep it in a file of mode 0600, and give the file's path"))
        return replace(node, text="-"), found
    if node.kind == "number" and _SEXAGESIMAL.fullmatch(node.text):  # YAML 1.1 reads 22:00 as a number
        return replace(node, kind="text"), found
    return replace(node, fields=fields, items=tuple(items)), found


def _plain(key: str) -> str:
    return re.sub("[^a-z]", "", key.lower())


def _way_out(path: str) -> str:
    return _SOURCE_WAY if path.startswith("sources") else _BROKER_WAY


@dataclass(frozen=True)
class Rules:
    """Holds ``tree``, which was in a file in ``folder``, to the schema and the rules."""

    tree: Node
    folder: Path

    def violations(self) -> list[str]:
        """Everything that is wrong; the files that are named are looked for and not read."""
        tree, found = without_secrets(self.tree)
        found += SchemaCheck(schema(), patterns=True).violations(tree)
        if tree.kind != "map":
            return found
        found += self._broker(_child(tree, "broker"))
        for at, source in enumerate(_child(tree, "sources").items):
            found += self._source(source, f"sources[{at}]")
        share = _child(_child(tree, "share"), "address")
        if share.kind == "text" and not _is_address(share.text):
            found.append(share.at(f"share.address must be an IP address such as 0.0.0.0, is {share.text[:80]!r}"))
        return found

    def _broker(self, broker: Node) -> Iterator[str]:
        if broker.kind != "map":
            return
        url = _child(broker, "url")
        if url.kind == "text" and url.text.startswith(("mqtt:", "unix:")):
            for key in ("ca_file", "certificate_file", "key_file"):
                if key in broker.fields:
                    yield broker.fields[key].at(f"broker.{key} is for TLS: give it with an mqtts:// address")
        for key, needed in (("password_file", "user"), ("key_file", "certificate_file")):
            if key in broker.fields and needed not in broker.fields:
                yield broker.fields[key].at(f"broker.{key} is given without broker.{needed}")
        yield from self._files(broker, "broker")

    def _source(self, source: Node, path: str) -> Iterator[str]:
        if source.kind != "map":
            return
        kinds = [key for key in _KINDS if key in source.fields]
        if len(kinds) != 1:
            yield source.at(f"{path} must have one of {', '.join(_KINDS)}{', and has several' if kinds else ''}")
        for key, *fitting in (
            ("credential_helper", "registry"), ("credentials_file", "registry"), ("plain_http", "registry"),
            ("ca_file", "registry", "neighbour"),
        ):  # fmt: skip
            if key in source.fields and len(kinds) == 1 and kinds[0] not in fitting:
                yield source.fields[key].at(f"{path}.{key} is for a {' or a '.join(fitting)}, and not for a {kinds[0]}")
        if {"credential_helper", "credentials_file"} <= source.fields.keys():
            yield source.at(f"{path} has a credential_helper and a credentials_file; leave out one of the two")
        if "ca_file" in source.fields and is_true(_child(source, "plain_http")):
            yield source.fields["ca_file"].at(f"{path}.ca_file is for TLS, which plain_http says that it has not")
        yield from self._files(source, path)

    def _files(self, node: Node, path: str) -> Iterator[str]:
        for key in _FILES:
            said = _child(node, key)
            if said.kind != "text" or not said.text or "\0" in said.text:
                continue
            file = whole(self.folder, said.text)
            # Of a password that was written where its file is meant, nothing is shown.
            shown = "what it names" if key in _SECRET_FILES else str(file)
            try:
                mode = file.stat().st_mode if file.is_file() else None
            except OSError as error:
                yield said.at(f"{path}.{key}: {shown} cannot be read ({error.strerror})")
                continue
            if mode is None:
                way = "; it is the path of a file, not the secret itself" if key in _SECRET_FILES else ""
                yield said.at(f"{path}.{key}: {shown} is not a file{way}")
            elif key in _SECRET_FILES and mode & 0o007:
                yield said.at(f"{path}.{key}: every user may read {file}; run: chmod o-rwx {file}")


def whole(folder: Path, text: str) -> Path:
    """The path in a configuration that is in ``folder``."""
    return folder / os.path.expanduser(text)  # noqa: PTH111 - never fails


def _child(node: Node, key: str) -> Node:
    return node.fields.get(key, NULL)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
