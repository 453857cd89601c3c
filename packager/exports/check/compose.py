"""Compose files: what is declared and used, amounts, ports and times; not the whole of their schema."""

from __future__ import annotations

import re

from edgepack.trees.yaml_tree import Node
from packager.exports.check.findings import NOT_PINNED, Findings, Place, is_pinned, is_port, listed

_TOP = ("version", "name", "services", "networks", "volumes", "secrets", "configs", "include", "models")
_PORT = re.compile(
    r"(?:(?:\[[0-9a-fA-F:]+\]|[0-9.]+):)?(?:(?P<host>[0-9]+(?:-[0-9]+)?)?:)?(?P<inside>[0-9]+(?:-[0-9]+)?)(?:/(?:tcp|udp))?"
)
_SIZE = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:b|k|kb|m|mb|g|gb)?", re.IGNORECASE)
_TIME = re.compile(r"(?=.)(?:[0-9.]+h)?(?:[0-9.]+m)?(?:[0-9.]+s)?(?:[0-9.]+ms)?(?:[0-9.]+us)?")
_RESTART = re.compile(r"no|always|unless-stopped|on-failure(?::[0-9]+)?")
_SIZES = ("mem_limit", "mem_reservation", "shm_size")
_TIMES = ("interval", "timeout", "start_period", "start_interval")
_LOOPBACK = ("127.", "[::1]")


def check_compose(node: Node, where: str) -> Findings:
    """Everything that is wrong with a Compose file."""
    findings = Findings()
    root = Place(node, "", where)
    for name, place in root.entries():
        if name not in _TOP and not name.startswith("x-"):
            findings.wrong(place, f"is not a known field; known are {', '.join(_TOP)}")
    services = root.child("services")
    if not services.node.fields:
        findings.wrong(services, "must name at least one service")
    declared = {name: set(root.child(name).node.fields) for name in ("volumes", "networks", "secrets", "configs")}
    for _, service in root.entries("services"):
        _check_service(service, set(services.node.fields), declared, findings)
    return findings


def _check_service(service: Place, services: set[str], declared: dict[str, set[str]], findings: Findings) -> None:
    image = service.child("image")
    if not image.text and not service.child("build").exists:
        findings.wrong(image, "is missing, and there is no build")
    elif image.text and not is_pinned(image.text) and service.child("pull_policy").text != "never":
        findings.remark(image, f"{image.text!r} {NOT_PINNED}")
    for port in service.each("ports"):
        _check_port(port, findings)
    for name in _SIZES:
        size = service.child(name)
        if size.exists and not _SIZE.fullmatch(size.text):
            findings.wrong(size, f"{size.text!r} is not an amount; write it as 512m or 1g")
    health = service.child("healthcheck")
    for place in (*(health.child(name) for name in _TIMES), service.child("stop_grace_period")):
        if place.exists and not _TIME.fullmatch(place.text):
            findings.wrong(place, f"{place.text!r} is not a time; write it as 10s or 1m30s")
    restart = service.child("restart")
    if restart.exists and restart.node.kind == "text" and not _RESTART.fullmatch(restart.text):
        findings.wrong(restart, f"must be no, always, on-failure or unless-stopped, is {restart.text!r}")
    for volume in service.each("volumes"):
        source = volume.child("source").text if volume.node.kind == "map" else volume.text.partition(":")[0]
        if ":" in volume.text and not source.startswith((".", "/", "~", "$")) and source not in declared["volumes"]:
            findings.wrong(volume, f"{source!r} is not among the volumes: {listed(sorted(declared['volumes']))}")
    for name in ("networks", "secrets", "configs"):
        for place in service.each(name):
            wanted = place.child("source").text or place.text
            if wanted and wanted not in declared[name] and wanted != "default":
                findings.wrong(place, f"{wanted!r} is not among the {name}: {listed(sorted(declared[name]))}")
    after = service.child("depends_on")
    wanted_services = [(one, one.text) for one in service.each("depends_on")]
    wanted_services += [(after.child(name), name) for name in after.node.fields]
    for place, wanted in wanted_services:
        if wanted not in services:
            findings.wrong(place, f"{wanted!r} is not among the services: {listed(sorted(services))}")


def _check_port(port: Place, findings: Findings) -> None:
    numbers = [port.child("target").text, port.child("published").text]
    if port.node.kind != "map":
        match = _PORT.fullmatch(port.text)
        if match is None:
            if "$" not in port.text:
                findings.wrong(port, f"{port.text!r} is not a port; write it as 127.0.0.1:5001:5001")
            return
        numbers = [match["inside"], match["host"] or ""]
        if match["host"] and not port.text.startswith(_LOOPBACK):
            findings.remark(port, "is open to every host that reaches this one; 127.0.0.1: before it keeps it here")
    for number in (one for text in numbers for one in text.split("-")):
        if number.isdecimal() and not is_port(number):
            findings.wrong(port, f"must be from 1 to 65535, is {number[:20]}")
