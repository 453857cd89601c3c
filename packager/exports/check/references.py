"""Rules of one object about another: selectors find pods, ports are there, autoscalers have something to scale.

Of what is not among the files there is only a remark: a cluster may have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from packager.exports.check.findings import Findings, Place, listed
from packager.exports.check.objects import SELECTING, Manifest
from packager.exports.check.routes import check_backend, check_route, missing

_SCALED = ("Deployment", "ReplicaSet", "StatefulSet", "ReplicationController")
_KINDS = ("secret", "configMap")


def check_references(manifest: Manifest, objects: Sequence[Manifest], findings: Findings) -> None:
    """What ``manifest`` says of the other objects of its namespace."""
    near = [one for one in objects if one.namespace == manifest.namespace]
    if manifest.kind in SELECTING:
        _check_own_selector(manifest, findings)
    match manifest.kind:
        case "Service":
            _check_service(manifest, near, findings)
        case "HorizontalPodAutoscaler":
            _check_target(manifest, near, findings)
        case "PodDisruptionBudget":
            _check_budget(manifest, near, findings)
        case "NetworkPolicy":
            _check_policy(manifest, near, findings)
        case "Ingress":
            _check_ingress(manifest, near, findings)
        case "HTTPRoute":
            check_route(manifest, objects, findings)
    _check_settings(manifest, near, findings)


def _check_own_selector(manifest: Manifest, findings: Findings) -> None:
    """The pods of a template must be those that are counted."""
    selector = manifest.root.child("spec", "selector", "matchLabels")
    labels = manifest.pod_labels
    for name, place in selector.entries():
        if labels.get(name) != place.text:
            has = f"have {labels[name]!r}" if name in labels else "do not have it"
            findings.wrong(place, f"is {place.text!r}, and the labels of spec.template {has}: no pod is ever found")


def _check_service(manifest: Manifest, near: Sequence[Manifest], findings: Findings) -> None:
    selector = manifest.root.child("spec", "selector")
    pods = _selected(selector.mapping(), near)
    names: set[str] = set()
    for port in manifest.root.each("spec", "ports"):
        name = port.child("name")
        if name.text in names and name.exists:
            findings.wrong(name, f"{name.text!r} is the name of another port too")
        names.add(name.text)
        for field in ("port", "nodePort", "targetPort"):
            number = port.child(field)
            if number.number is not None and not 0 < number.number < 65536:
                findings.wrong(number, f"must be from 1 to 65535, is {number.text}")
        target = port.child("targetPort")
        _check_target_port(target if target.exists else port.child("port"), pods, findings)
    if len(names) < len(manifest.root.child("spec", "ports").node.items) and "" in names:
        findings.wrong(manifest.root.child("spec", "ports"), "must all have names when there are several")
    if selector.exists and not pods:
        missing(selector, "finds no pod", _pods(near), findings)


def _check_target_port(target: Place, pods: Sequence[Manifest], findings: Findings) -> None:
    if not pods or not target.text or (target.number is not None and not 0 < target.number < 65536):
        return
    ports = [port for one in pods for container in one.containers for port in container.each("ports")]
    if target.node.kind == "text":
        found = [port.child("name").text for port in ports]
        if target.text not in found:
            findings.wrong(target, f"{target.text!r} is not the name of a port of the pods: {listed(found)}")
    elif ports and target.number not in [port.child("containerPort").number for port in ports]:
        numbers = ", ".join(port.child("containerPort").text for port in ports)
        # Allowed: what a container declares is for people and for names.
        findings.remark(target, f"{target.text} is not a port that the pods declare: {numbers}")


def _check_target(manifest: Manifest, near: Sequence[Manifest], findings: Findings) -> None:
    spec = manifest.root.child("spec")
    least, most = spec.child("minReplicas"), spec.child("maxReplicas")
    if least.number is not None and most.number is not None and least.number > most.number:
        findings.wrong(least, f"is {least.number}, above the maxReplicas of {most.number}")
    for place in (least, most):
        if place.number is not None and place.number < 1:
            findings.wrong(place, f"must be at least 1, is {place.text}")
    target = spec.child("scaleTargetRef")
    kind, name = target.child("kind").text, target.child("name")
    found = [one for one in near if one.kind == kind and one.name == name.text]
    if not found and name.text:
        others = [one for one in near if one.kind in _SCALED]
        missing(name, f"there is no {kind} {name.text!r} to scale", others, findings)
    for one in found:
        for metric in spec.each("metrics"):
            resource = metric.child("resource")
            if resource.child("target", "type").text == "Utilization":
                _check_utilization(resource.child("name"), one, findings)


def _check_utilization(resource: Place, target: Manifest, findings: Findings) -> None:
    """Percent of what the containers ask for; of nothing there are none."""
    for container in target.root.child("spec", "template", "spec").each("containers"):
        asked = {**container.mapping("resources", "limits"), **container.mapping("resources", "requests")}
        if resource.text not in asked:
            findings.wrong(
                resource, f"{resource.text!r} is not asked for by the container {container.child('name').text!r},"
                " so that there is no percentage of it",
            )  # fmt: skip


def _check_budget(manifest: Manifest, near: Sequence[Manifest], findings: Findings) -> None:
    spec = manifest.root.child("spec")
    if spec.child("minAvailable").exists and spec.child("maxUnavailable").exists:
        findings.wrong(spec.child("minAvailable"), "and maxUnavailable exclude each other")
    _check_selects(spec.child("selector", "matchLabels"), near, findings)


def _check_policy(manifest: Manifest, near: Sequence[Manifest], findings: Findings) -> None:
    spec = manifest.root.child("spec")
    selector = spec.child("podSelector", "matchLabels")
    _check_selects(selector, near, findings)
    pods = _selected(selector.mapping(), near) if selector.exists else []
    for rule in spec.each("ingress"):
        for port in rule.each("ports"):
            place = port.child("port")
            if place.number is not None and not 0 < place.number < 65536:
                findings.wrong(place, f"must be from 1 to 65535, is {place.text}")
            elif not port.child("endPort").exists:
                _check_target_port(place, pods, findings)


def _check_selects(selector: Place, near: Sequence[Manifest], findings: Findings) -> None:
    if selector.exists and not _selected(selector.mapping(), near):
        missing(selector, "finds no pod", _pods(near), findings)


def _check_ingress(manifest: Manifest, near: Sequence[Manifest], findings: Findings) -> None:
    for rule in manifest.root.each("spec", "rules"):
        for path in rule.each("http", "paths"):
            service = path.child("backend", "service")
            number, name = service.child("port", "number"), service.child("port", "name")
            check_backend(service.child("name"), number if number.exists else name, near, findings)


def _check_settings(manifest: Manifest, near: Sequence[Manifest], findings: Findings) -> None:
    """Secrets and ConfigMaps that pods name, with the keys that they name."""
    pods = manifest.pods
    if pods is None:
        return
    spec = pods.child("spec")
    for volume in spec.each("volumes"):
        for kind, field in (("Secret", "secretName"), ("ConfigMap", "name")):
            source = volume.child(_KINDS[kind == "ConfigMap"])
            if source.exists and not source.child("optional").is_true:
                keys = [item.child("key") for item in source.each("items")]
                _check_keys(kind, source.child(field), keys, near, findings)
    for container in manifest.containers:
        for source in container.each("envFrom"):
            for kind in ("Secret", "ConfigMap"):
                place = source.child(f"{_KINDS[kind == 'ConfigMap']}Ref")
                if place.exists and not place.child("optional").is_true:
                    _check_keys(kind, place.child("name"), [], near, findings)
        for variable in container.each("env"):
            for kind in ("Secret", "ConfigMap"):
                place = variable.child("valueFrom", f"{_KINDS[kind == 'ConfigMap']}KeyRef")
                if place.exists and not place.child("optional").is_true:
                    _check_keys(kind, place.child("name"), [place.child("key")], near, findings)


def _check_keys(kind: str, name: Place, keys: Sequence[Place], near: Sequence[Manifest], findings: Findings) -> None:
    found = [one for one in near if one.kind == kind and one.name == name.text]
    if not found and name.text:
        findings.remark(name, f"the {kind} {name.text!r} is not among the files: the cluster must have it")
    for one in found:
        has = {name for field in ("data", "stringData", "binaryData") for name in one.root.mapping(field)}
        for key in keys:
            if key.text not in has:
                findings.wrong(key, f"{key.text!r} is not in the {kind} {one.name!r}: {listed(sorted(has))}")


def _pods(near: Sequence[Manifest]) -> list[Manifest]:
    return [one for one in near if one.pods is not None]


def _selected(selector: Mapping[str, str], near: Sequence[Manifest]) -> list[Manifest]:
    return [one for one in _pods(near) if selector and selector.items() <= one.pod_labels.items()]
