"""Deployment manifests of IoT Edge: what its schemas refuse, and its routes and options, which they do not read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from edgepack.trees.yaml_tree import Node, value_of
from packager.exports.check.findings import Findings, Place, is_pinned, is_port, listed
from packager.exports.iot_edge import MODULE, joined_options
from packager.exports.routes import parse_route

_VERSIONS = {"$edgeAgent": ("1.0", "1.1"), "$edgeHub": ("1.0", "1.1", "1.2")}
_STATUS = ("running", "stopped")
_RESTART = ("never", "on-failure", "on-unhealthy", "always")
_PULL = ("on-create", "never")
_ROUTE_NAME = re.compile(r"[^.$# ]+")
_VARIABLE = re.compile(r"[^+#$\s.]+")
_AGENT = {"schemaVersion", "runtime", "systemModules", "modules"}
_HUB = {"schemaVersion", "routes", "storeAndForwardConfiguration", "mqttBroker"}
_RUNTIME = {"minDockerVersion", "loggingOptions", "registryCredentials"}
_MODULE_FIELDS = {"version", "type", "status", "restartPolicy", "settings", "env", "imagePullPolicy", "startupOrder"}
_SETTINGS = re.compile(r"image|createOptions(?:0[1-9]|[1-9][0-9])?")
_MOST_ORDER = 4_294_967_295
_MOST_TEXT = 512
_DESIRED = "properties.desired"


def check_iot_edge(node: Node, where: str) -> Findings:
    """Everything that is wrong with a manifest, whole or layered."""
    findings = Findings()
    root = Place(node, "", where)
    outer = root.child("content") if root.child("content").exists else root
    content = outer.child("modulesContent")
    if content.node.kind != "map":
        findings.wrong(content, 'is missing: a manifest is {"modulesContent": …}')
        return findings
    agent, hub = content.child("$edgeAgent"), content.child("$edgeHub")
    if _is_layered(agent) or _is_layered(hub):
        _check_layers(agent, hub, findings)
        return findings
    modules = _check_agent(agent, findings)
    _check_hub(hub, modules, findings)
    return findings


def _is_layered(part: Place) -> bool:
    return any(name.startswith(f"{_DESIRED}.") for name in part.node.fields)


def _check_layers(agent: Place, hub: Place, findings: Findings) -> None:
    for part, kind in ((agent, "modules"), (hub, "routes")):
        for name, place in part.entries():
            inner = name.removeprefix(f"{_DESIRED}.{kind}.")
            if inner == name:
                findings.wrong(place, f"is not {_DESIRED}.{kind}.NAME, which is all that a layer holds")
            elif kind == "modules":
                _check_module(place, inner, findings)
            else:
                _check_route(place, inner, None, findings)


def _check_agent(agent: Place, findings: Findings) -> set[str]:
    desired = agent.child(_DESIRED)
    if not _is_map(desired, findings):
        return set()
    _check_version(desired, "$edgeAgent", findings)
    _known(desired, _AGENT, findings)
    runtime = desired.child("runtime")
    if _is_map(runtime, findings):
        _one_of(runtime.child("type"), ("docker",), findings)
        settings = runtime.child("settings")
        if _is_map(settings, findings):
            _known(settings, _RUNTIME, findings)
        for name, login in settings.entries("registryCredentials"):
            if not _ROUTE_NAME.fullmatch(name):
                findings.wrong(login, "has a name with a dot, a space, '$' or '#'")
            for field in ("address", "username", "password"):
                if not login.child(field).exists:
                    findings.wrong(login.child(field), "is missing")
            _check_password(login.child("password"), findings)
    system = desired.child("systemModules")
    if _is_map(system, findings):
        _known(system, {"edgeAgent", "edgeHub"}, findings)
        for name in ("edgeAgent", "edgeHub"):
            if _is_map(system.child(name), findings):
                _check_settings(system.child(name, "settings"), findings, is_ours=False)
                _one_of(system.child(name, "type"), ("docker",), findings)
        _one_of(system.child("edgeHub", "status"), _STATUS, findings)
        _one_of(system.child("edgeHub", "restartPolicy"), _RESTART, findings)
    modules = desired.child("modules")
    _is_map(modules, findings)
    for name, place in modules.entries():
        _check_module(place, name, findings)
    return set(modules.node.fields)


def _check_module(module: Place, name: str, findings: Findings) -> None:
    if not MODULE.fullmatch(name):
        findings.wrong(module, f"has the name {name!r}; use letters, digits, '_' and '-'")
    if not _is_map(module, findings):
        return
    _known(module, _MODULE_FIELDS, findings)
    _one_of(module.child("type"), ("docker",), findings)
    _one_of(module.child("status"), _STATUS, findings)
    _one_of(module.child("restartPolicy"), _RESTART, findings)
    if module.child("imagePullPolicy").exists:
        _one_of(module.child("imagePullPolicy"), _PULL, findings)
    order = module.child("startupOrder")
    if order.exists and (order.number is None or not 0 <= order.number <= _MOST_ORDER):
        findings.wrong(order, f"must be a whole number from 0 to {_MOST_ORDER}")
    for variable, place in module.entries("env"):
        if not _VARIABLE.fullmatch(variable):
            findings.wrong(place, "has a name with a space, a dot, '+', '#' or '$'")
        if place.child("value").node.kind not in ("text", "number", "truth"):
            findings.wrong(place.child("value"), "must be text, a number, true or false")
    _check_settings(module.child("settings"), findings, is_ours=True)


def _check_settings(settings: Place, findings: Findings, *, is_ours: bool) -> None:
    if not _is_map(settings, findings):
        return
    image = settings.child("image")
    if not image.text.strip():
        findings.wrong(image, "is missing")
    elif is_ours and not is_pinned(image.text):
        findings.remark(
            image, f"{image.text!r} is not pinned by its digest: what runs may change without a change here"
        )
    for name, place in settings.entries():
        if not _SETTINGS.fullmatch(name):
            findings.wrong(place, "is not a known field; known are image, createOptions, createOptions01 and so on")
        elif name != "image" and place.node.kind != "text":
            findings.wrong(place, f"must be JSON written as text, is {place.node.word}")
        elif name != "image" and len(place.text) > _MOST_TEXT:
            findings.wrong(place, f"has {len(place.text)} characters; after {_MOST_TEXT} go on in createOptions01")
    pieces = [name for name, _ in settings.entries() if name != "image"]
    text = joined_options({name: place.text for name, place in settings.entries()})
    if pieces and "createOptions" not in pieces:
        findings.wrong(settings.child("createOptions"), "is missing, and later pieces are there")
    elif pieces:
        _check_options(settings.child("createOptions"), text, findings)


def _check_options(place: Place, text: str, findings: Findings) -> None:
    try:
        options: Any = json.loads(text)
    except ValueError as error:
        findings.wrong(place, f"is not JSON with the pieces after it ({error})")
        return
    if not isinstance(options, Mapping):
        findings.wrong(place, "must be a JSON object")
        return
    host = options.get("HostConfig")
    if host is not None and not isinstance(host, Mapping):
        findings.wrong(place, "has a HostConfig that is not an object")
        return
    for binding in ((host or {}).get("PortBindings") or {}).values():
        for one in binding if isinstance(binding, list) else ():
            port = str(one.get("HostPort", "")) if isinstance(one, Mapping) else ""
            if port and not is_port(port):
                findings.wrong(place, f"binds the port {port[:20]!r}, which must be from 1 to 65535")


def _check_hub(hub: Place, modules: set[str], findings: Findings) -> None:
    desired = hub.child(_DESIRED)
    if not _is_map(desired, findings):
        return
    version = _check_version(desired, "$edgeHub", findings)
    _known(desired, _HUB if version == "1.2" else _HUB - {"mqttBroker"}, findings)
    if desired.child("mqttBroker").exists and version == "1.2":
        findings.remark(desired.child("mqttBroker"), "was a preview, which later runtimes do not have")
    routes = desired.child("routes")
    _is_map(routes, findings)
    for name, place in routes.entries():
        if version == "1.0" and place.node.kind == "map":
            findings.wrong(place, "must be text in schemaVersion 1.0")
            continue
        _check_route(place, name, modules, findings)
    kept = desired.child("storeAndForwardConfiguration")
    if kept.exists:
        ttl = kept.child("timeToLiveSecs")
        if ttl.number is None or ttl.number < 0:
            findings.wrong(ttl, "must be a whole number of seconds")


def _check_route(place: Place, name: str, modules: set[str] | None, findings: Findings) -> None:
    if not _ROUTE_NAME.fullmatch(name):
        findings.wrong(place, f"has the name {name!r} with a dot, a space, '$' or '#'")
    text = place
    if place.node.kind == "map":
        _known(place, {"route", "priority", "timeToLiveSecs"}, findings)
        text = place.child("route")
        priority = place.child("priority")
        if priority.exists and (priority.number is None or not 0 <= priority.number <= 9):
            findings.wrong(priority, "must be from 0 to 9")
        ttl = place.child("timeToLiveSecs")
        if ttl.exists and (ttl.number is None or not 0 <= ttl.number <= _MOST_ORDER):
            findings.wrong(ttl, "must be a whole number of seconds")
    if text.node.kind != "text":
        findings.wrong(text, "must be text, such as FROM /messages/* INTO $upstream")
        return
    route = parse_route(text.text)
    if isinstance(route, str):
        findings.wrong(text, route)
        return
    for module in (route.source_module, route.sink_module):
        if modules is not None and module is not None and module not in modules:
            near = f"the manifest has {listed(sorted(modules))}"
            if module == route.sink_module:
                findings.wrong(text, f"leads to the module {module!r}; {near}")
            else:
                findings.remark(text, f"takes messages of the module {module!r}; {near}")


def _check_version(desired: Place, part: str, findings: Findings) -> str:
    version = desired.child("schemaVersion")
    if version.text not in _VERSIONS[part] or version.node.kind != "text":
        known = " or ".join(f'"{one}"' for one in _VERSIONS[part])
        findings.wrong(version, f"must be {known}, is {value_of(version.node)!r}")
    return version.text


def _check_password(password: Place, findings: Findings) -> None:
    """Of one that is written out nothing is shown."""
    if password.text and not password.text.startswith("$"):
        findings.remark(password, "is written out; $CONTAINER_REGISTRY_PASSWORD keeps it out of the file")


def _is_map(place: Place, findings: Findings) -> bool:
    if place.node.kind == "map":
        return True
    findings.wrong(place, "is missing" if not place.exists else f"must be an object, is {place.node.word}")
    return False


def _known(place: Place, names: set[str], findings: Findings) -> None:
    for name, inner in place.entries():
        if name not in names:
            findings.wrong(inner, f"is not a known field; known are {', '.join(sorted(names))}")


def _one_of(place: Place, words: tuple[str, ...], findings: Findings) -> None:
    if place.text not in words:
        is_there = f", is {place.text!r}" if place.exists else ", and is missing"
        findings.wrong(place, f"must be {' or '.join(words)}{is_there}")
