"""A configuration as a JSON object in the form of its file, with whole paths: what ``edge-agent run`` hands on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from edge_agent.config.configuration import (
    Bandwidth,
    BandwidthWindow,
    Broker,
    Configuration,
    FolderSource,
    NeighbourSource,
    Power,
    RegistrySource,
    Runtime,
    Share,
    Source,
    Updates,
    host_name,
)  # fmt: skip
from edge_agent.config.windows import DAYS, Window, clock_minutes, clock_text
from edgepack.documents import Fields, raise_all

SCHEMA = "edgepack.agent/v1"


def to_json(configuration: Configuration) -> dict[str, Any]:
    """``configuration`` with every field, defaults included."""
    one, updates = configuration, configuration.updates
    found: dict[str, Any] = _without_none(
        {
            "schema": SCHEMA,
            "device": one.device,
            "groups": list(one.groups),
            "state_dir": str(one.state_dir),
            "runtime": one.runtime,
            "broker": None if one.broker is None else _broker_json(one.broker),
            "inbox": [str(folder) for folder in one.inbox_folders],
            "sources": [_source_json(source) for source in one.sources],
            "bandwidth": {
                "bytes_per_second": one.bandwidth.bytes_per_second,
                "windows": [
                    {**_window_json(each.window), "bytes_per_second": each.bytes_per_second}
                    for each in one.bandwidth.windows
                ],
            },
            "updates": {
                "windows": [_window_json(window) for window in updates.windows],
                "lock_file": _text(updates.lock_file),
                "power": updates.power,
                "free_memory_bytes": updates.free_memory_bytes,
            },
            "allow_unsigned_documents": one.allow_unsigned_documents,
            "allow_unsigned_images": one.allow_unsigned_images,
            "share": None if one.share is None else {"address": one.share.address, "port": one.share.port},
            "disk": {"floor_bytes": one.floor_bytes},
            "report": {"interval_seconds": one.report_seconds},
        }
    )
    return found


def _broker_json(broker: Broker) -> dict[str, Any]:
    return {
        "url": broker.url,
        "ca_file": _text(broker.ca_file),
        "certificate_file": _text(broker.certificate_file),
        "key_file": _text(broker.key_file),
        "user": broker.user,
        "password_file": _text(broker.password_file),
        "keepalive_seconds": broker.keepalive_seconds,
    }


def _source_json(source: Source) -> dict[str, Any]:
    if isinstance(source, FolderSource):
        return {"folder": str(source.folder)}
    if isinstance(source, NeighbourSource):
        return {"neighbour": source.url, "ca_file": _text(source.ca_file)}
    return {
        "registry": source.name,
        "credential_helper": source.credential_helper,
        "credentials_file": _text(source.credentials_file),
        "ca_file": _text(source.ca_file),
        "plain_http": source.plain_http,
    }


def _window_json(window: Window) -> dict[str, Any]:
    days = [DAYS[day] for day in window.days]
    return {"days": days, "from": clock_text(window.start), "to": clock_text(window.end)}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def from_json(value: Mapping[str, Any], where: object = "configuration") -> Configuration:
    """The configuration in ``value``, which is of the form that the schema has; raises ``InvalidDocumentError``.

    Every field may be missing. What people write is held to the schema by ``read``; here only types are.
    """
    violations: list[str] = []
    fields, default = Fields(value, "", violations), Configuration(device="")
    fields.take("$schema", str)
    fields.take("schema", str)
    bandwidth, updates = fields.child("bandwidth"), fields.child("updates")
    disk, report = fields.child("disk"), fields.child("report")
    inbox = fields.take("inbox", list)
    found = Configuration(
        device=fields.take("device", str) or host_name(),
        groups=tuple(fields.take("groups", list) or ()),
        state_dir=_path(fields, "state_dir") or default.state_dir,
        runtime=cast(Runtime, fields.take("runtime", str) or default.runtime),
        broker=_broker(fields.child("broker")) if value.get("broker") is not None else None,
        inbox=None if inbox is None else tuple(Path(folder) for folder in inbox),
        sources=tuple(_source(each) for each in fields.each("sources", required=False)),
        bandwidth=Bandwidth(
            bandwidth.take("bytes_per_second", int),
            tuple(
                BandwidthWindow(_window(each), each.take("bytes_per_second", int))
                for each in bandwidth.each("windows", required=False)
            ),
        ),
        updates=_updates(updates),
        allow_unsigned_documents=fields.take("allow_unsigned_documents", bool) or False,
        allow_unsigned_images=fields.take("allow_unsigned_images", bool) or False,
        share=_share(fields.child("share")) if value.get("share") is not None else None,
        floor_bytes=disk.take("floor_bytes", int, default.floor_bytes) or 0,
        report_seconds=report.take("interval_seconds", int) or default.report_seconds,
    )
    for one in (bandwidth, updates, disk, report, fields):
        one.finish()
    raise_all(where, violations)
    return found


def _broker(fields: Fields) -> Broker:
    at = Broker.at(fields.take("url", str, required=True) or "unix://")
    found = Broker(
        at.host, at.port, at.tls, at.socket,
        _path(fields, "ca_file"), _path(fields, "certificate_file"), _path(fields, "key_file"),
        fields.take("user", str), _path(fields, "password_file"),
        fields.take("keepalive_seconds", int) or at.keepalive_seconds,
    )  # fmt: skip
    fields.finish()
    return found


def _source(fields: Fields) -> Source:
    folder, neighbour = _path(fields, "folder"), fields.take("neighbour", str)
    ca_file, registry = _path(fields, "ca_file"), fields.take("registry", str) or ""
    helper, file = fields.take("credential_helper", str), _path(fields, "credentials_file")
    plain_http = fields.take("plain_http", bool) or False
    fields.finish()
    if folder is not None:
        return FolderSource(folder)
    if neighbour is not None:
        return NeighbourSource(neighbour.rstrip("/"), ca_file)
    host, _, prefix = registry.strip("/").partition("/")
    return RegistrySource(host, prefix, helper, file, ca_file, plain_http)


def _updates(fields: Fields) -> Updates:
    default = Updates()
    windows = fields.each("windows", required=False)
    return Updates(
        tuple(_window(each) for each in windows),
        _path(fields, "lock_file"),
        cast(Power, fields.take("power", str) or default.power),
        fields.take("free_memory_bytes", int, default.free_memory_bytes) or 0,
    )


def _window(fields: Fields) -> Window:
    days = fields.take("days", list) or list(DAYS)
    start, end = fields.take("from", str, "00:00") or "", fields.take("to", str, "24:00") or ""
    fields.take("bytes_per_second", int)
    fields.finish()
    return Window(clock_minutes(start), clock_minutes(end), tuple(sorted({DAYS.index(day) for day in days})))


def _share(fields: Fields) -> Share:
    default = Share()
    found = Share(fields.take("address", str) or default.address, fields.take("port", int, default.port) or 0)
    fields.finish()
    return found


def _path(fields: Fields, key: str) -> Path | None:
    text = fields.take(key, str)
    return None if text is None else Path(text)
