"""Rules of routes of the Gateway API that its schema does not have: shares, services and ports that are there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from packager.exports.check.findings import Findings, Place, listed
from packager.exports.check.objects import Manifest
from packager.exports.names import is_label_name, is_name

_KINDS_OF_PATH = ("Exact", "PathPrefix", "RegularExpression")
_NUMBERS = re.compile(r"[0-9.]+")


def check_route(manifest: Manifest, objects: Sequence[Manifest], findings: Findings) -> None:
    """An ``HTTPRoute``: where it hangs, for which hosts, and to which services it leads."""
    spec = manifest.root.child("spec")
    if not spec.child("parentRefs").node.items:
        findings.remark(spec.child("parentRefs"), "is missing: the route hangs on no gateway")
    _check_parents(spec, findings)
    for host in spec.each("hostnames"):
        bare = host.text.removeprefix("*.")
        if not is_name(bare) or _NUMBERS.fullmatch(bare):
            findings.wrong(host, f"{host.text!r} is not the name of a host, perhaps with '*.' before it")
    for rule in spec.each("rules"):
        _check_rule(manifest, rule, objects, findings)


def _check_parents(spec: Place, findings: Findings) -> None:
    seen: set[tuple[str, ...]] = set()
    for parent in spec.each("parentRefs"):
        key = tuple(parent.child(name).text for name in ("group", "kind", "namespace", "name", "sectionName", "port"))
        if key in seen:
            findings.wrong(parent, "names the same gateway twice; say which listeners by sectionName")
        seen.add(key)
        if parent.child("namespace").exists and not is_label_name(parent.child("namespace").text):
            findings.wrong(parent.child("namespace"), "is not a name of a namespace")


def _check_rule(manifest: Manifest, rule: Place, objects: Sequence[Manifest], findings: Findings) -> None:
    for match in rule.each("matches"):
        path = match.child("path")
        kind, value = path.child("type"), path.child("value")
        if kind.exists and kind.text not in _KINDS_OF_PATH:
            findings.wrong(kind, f"must be {', '.join(_KINDS_OF_PATH)}, is {kind.text!r}")
        if value.exists and kind.text != "RegularExpression" and not value.text.startswith("/"):
            findings.wrong(value, f"must begin with '/', is {value.text!r}")
    backends = [*rule.each("backendRefs")]
    redirects = any(one.child("type").text == "RequestRedirect" for one in rule.each("filters"))
    if not backends and not redirects:
        findings.wrong(rule.child("backendRefs"), "is missing: all requests of the rule would be answered with 500")
    if backends and redirects:
        findings.wrong(rule.child("backendRefs"), "are given beside a redirect, which sends no request on")
    weights, seen = [], set[tuple[str, ...]]()
    for backend in backends:
        weight = backend.child("weight")
        weights.append(1 if weight.number is None else weight.number)
        if weight.number is not None and not 0 <= weight.number <= 1_000_000:
            findings.wrong(weight, f"must be from 0 to 1000000, is {weight.text}")
        key = tuple(backend.child(name).text for name in ("group", "kind", "namespace", "name", "port"))
        if key in seen:
            findings.wrong(backend.child("name"), f"{backend.child('name').text!r} is there twice: add their weights")
        seen.add(key)
        _check_service(manifest, backend, objects, findings)
    if weights and not any(weights):
        findings.wrong(rule.child("backendRefs"), "have no weight together: all requests would be answered with 500")
    _check_session(rule.child("sessionPersistence"), findings)


def _check_service(manifest: Manifest, backend: Place, objects: Sequence[Manifest], findings: Findings) -> None:
    """What a rule leads to, where that is a ``Service``."""
    if backend.child("kind").text not in ("", "Service") or backend.child("group").text:
        return
    namespace, port = backend.child("namespace"), backend.child("port")
    if not port.exists:
        findings.wrong(port, "is missing: a Service is reached by one of its ports")
    there = namespace.text or manifest.namespace
    if there != manifest.namespace:
        findings.remark(namespace, f"{there!r} is another namespace, which must allow that by a ReferenceGrant")
    check_backend(backend.child("name"), port, [one for one in objects if one.namespace == there], findings)


def _check_session(session: Place, findings: Findings) -> None:
    if not session.exists:
        return
    findings.remark(session, "is of the experimental channel of Gateway API: the cluster must have it, and its gateway")
    cookie = session.child("cookieConfig")
    if cookie.exists and session.child("type").text == "Header":
        findings.wrong(cookie, "is for the type Cookie")
    if cookie.child("lifetimeType").text == "Permanent" and not session.child("absoluteTimeout").exists:
        findings.wrong(session.child("absoluteTimeout"), "is missing, which a cookie that is Permanent needs")


def check_backend(name: Place, port: Place, near: Sequence[Manifest], findings: Findings) -> None:
    """The service ``name`` must be there, and have ``port``."""
    services = [one for one in near if one.kind == "Service"]
    found = [one for one in services if one.name == name.text]
    if not found and name.text:
        missing(name, f"there is no Service {name.text!r}", services, findings)
    for service in found:
        ports = [*service.root.each("spec", "ports")]
        known = [one.child("name" if port.node.kind == "text" else "port").text for one in ports]
        if port.text and port.text not in known:
            findings.wrong(port, f"{port.text!r} is not a port of the Service {name.text!r}: {listed(known)}")


def missing(place: Place, text: str, others: Sequence[Manifest], findings: Findings) -> None:
    """A violation where the files have others of that kind, which one was meant to be; else the cluster may have it."""
    if others:
        names = listed(sorted({one.name for one in others}))
        findings.wrong(place, f"{text}; the files have {names}")
    else:
        findings.remark(place, f"{text} among the files: the cluster must have it")
