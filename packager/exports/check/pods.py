"""Rules of pods that their schema cannot have: ports, probes, amounts, mounts, users, images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from packager.exports.check.findings import Findings, Place, is_pinned, listed
from packager.exports.names import is_label_name, is_port_name
from packager.exports.quantities import parse_quantity

_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_WAYS = ("httpGet", "tcpSocket", "grpc", "exec")
_PULLS = ("Always", "IfNotPresent", "Never")
_RESTARTS = ("Always", "OnFailure", "Never")
_IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:/\[\]-]*(@sha256:[0-9a-f]{64})?")
_REFERENCE = "use letters, digits and '-', in lower case, at most 63"


def check_pod(spec: Place, findings: Findings) -> None:
    """Hold the spec of a pod to the rules."""
    containers = [*spec.each("containers")]
    before = [*spec.each("initContainers")]
    if not containers and spec.child("containers").exists:
        findings.wrong(spec.child("containers"), "must not be empty")
    _unique(((one.child("name"), one.child("name").text) for one in (*before, *containers)), "container", findings)
    volumes = [(one.child("name"), one.child("name").text) for one in spec.each("volumes")]
    _unique(volumes, "volume", findings)
    for place, name in volumes:
        if name and not is_label_name(name):
            findings.wrong(place, f"{name!r} is not a name of a volume; {_REFERENCE}")
    for volume in spec.each("volumes"):
        _check_volume(volume, findings)
    restart = spec.child("restartPolicy")
    if restart.exists and restart.text not in _RESTARTS:
        findings.wrong(restart, f"must be {', '.join(_RESTARTS)}, is {restart.text!r}")
    for container in (*before, *containers):
        check_container(container, spec, {name for _, name in volumes}, findings)
    _check_ports_of_all(containers, findings)


def check_container(container: Place, spec: Place, volumes: set[str], findings: Findings) -> None:
    """One container of the pod ``spec``, which has these ``volumes``."""
    name = container.child("name")
    if name.exists and not is_label_name(name.text):
        findings.wrong(name, f"{name.text!r} is not a name of a container; {_REFERENCE}")
    _check_image(container.child("image"), findings)
    pull = container.child("imagePullPolicy")
    if pull.exists and pull.text not in _PULLS:
        findings.wrong(pull, f"must be {', '.join(_PULLS)}, is {pull.text!r}")
    ports = _check_ports(container, findings)
    for probe in _PROBES:
        _check_probe(container.child(probe), ports, findings)
    for hook in ("postStart", "preStop"):
        _check_port(container.child("lifecycle", hook, "httpGet", "port"), ports, findings)
    _check_resources(container.child("resources"), findings)
    _check_user(container, spec, findings)
    seen: set[str] = set()
    for mount in container.each("volumeMounts"):
        wanted = mount.child("name")
        if wanted.text and wanted.text not in volumes:
            findings.wrong(wanted, f"{wanted.text!r} is not among the pod's volumes: {listed(sorted(volumes))}")
        path = mount.child("mountPath")
        if path.text in seen:
            findings.wrong(path, f"{path.text!r} is mounted twice")
        seen.add(path.text)
        if path.exists and ":" in path.text:
            findings.wrong(path, "must not hold a colon")
    _unique(((one.child("name"), one.child("name").text) for one in container.each("env")), "variable", findings,
            is_violation=False)  # fmt: skip


def _check_image(image: Place, findings: Findings) -> None:
    if not image.exists or not image.text.strip():
        findings.wrong(image, "is missing: the container has no image")
    elif not _IMAGE.fullmatch(image.text):
        findings.wrong(image, f"{image.text!r} is not a reference of an image")
    elif not is_pinned(image.text):
        findings.remark(
            image, f"{image.text!r} is not pinned by its digest: what runs may change without a change here"
        )


def _check_ports(container: Place, findings: Findings) -> dict[str, int | None]:
    """The container's ports by name; unnamed ones by their number."""
    found: dict[str, int | None] = {}
    names = []
    for port in container.each("ports"):
        for field in ("containerPort", "hostPort"):
            _check_number(port.child(field), findings)
        name = port.child("name")
        if name.exists:
            names.append((name, name.text))
            if not is_port_name(name.text):
                findings.wrong(
                    name, f"{name.text!r} is not a name of a port; use at most 15 lowercase letters, digits and '-',"
                    " with a letter",
                )  # fmt: skip
        found[name.text or f"#{len(found)}"] = port.child("containerPort").number
    _unique(names, "port", findings)
    return found


def _check_ports_of_all(containers: Iterable[Place], findings: Findings) -> None:
    """Containers of a pod share an address: no port twice, by name or number."""
    names: dict[str, str] = {}
    numbers: dict[tuple[int, str], str] = {}
    for container in containers:
        mine = container.child("name").text
        for port in container.each("ports"):
            name, number = port.child("name").text, port.child("containerPort").number
            if name and names.setdefault(name, mine) != mine:
                findings.wrong(port.child("name"), f"{name!r} is a port of the container {names[name]!r} too")
            protocol = port.child("protocol").text or "TCP"
            if number is not None and numbers.setdefault((number, protocol), mine) != mine:
                findings.wrong(port.child("containerPort"), f"{number} is a port of {numbers[number, protocol]!r} too")


def _check_number(port: Place, findings: Findings) -> None:
    if port.number is not None and not 0 < port.number < 65536:
        findings.wrong(port, f"must be from 1 to 65535, is {port.number}")


def _check_port(port: Place, ports: dict[str, int | None], findings: Findings) -> None:
    _check_number(port, findings)
    if port.node.kind == "text" and port.text not in ports:
        named = [name for name in ports if not name.startswith("#")]
        findings.wrong(port, f"{port.text!r} is not a port of the container; named are {listed(named)}")


def _check_probe(probe: Place, ports: dict[str, int | None], findings: Findings) -> None:
    if probe.node.kind != "map":
        return
    ways = [one for one in _WAYS if probe.child(one).exists]
    if len(ways) != 1:
        findings.wrong(probe, f"must have one of {', '.join(_WAYS)}, has {listed(ways)}")
    for way in ways:
        _check_port(probe.child(way, "port"), ports, findings)
    path = probe.child("httpGet", "path")
    if path.exists and not path.text.startswith("/"):
        findings.wrong(path, f"must begin with '/', is {path.text!r}")
    for name in ("periodSeconds", "timeoutSeconds", "successThreshold", "failureThreshold"):
        number = probe.child(name)
        if number.number is not None and number.number < 1:
            findings.wrong(number, f"must be at least 1, is {number.number}")
    delay = probe.child("initialDelaySeconds")
    if delay.number is not None and delay.number < 0:
        findings.wrong(delay, f"must not be negative, is {delay.number}")
    successes = probe.child("successThreshold")
    if not probe.path.endswith("readinessProbe") and successes.number not in (None, 1):
        findings.wrong(successes, f"must be 1 for this probe, is {successes.text}")


def _check_resources(resources: Place, findings: Findings) -> None:
    amounts = {"requests": dict(_amounts(resources, "requests", findings)),
               "limits": dict(_amounts(resources, "limits", findings))}  # fmt: skip
    for name, (place, least) in amounts["requests"].items():
        if name in amounts["limits"] and amounts["limits"][name][1] < least:  # type: ignore[operator]
            limit = amounts["limits"][name][0]
            findings.wrong(limit, f"{limit.text} is below the {place.text} of the request")


def _amounts(resources: Place, name: str, findings: Findings) -> Iterator[tuple[str, tuple[Place, object]]]:
    for resource, place in resources.entries(name):
        if place.node.kind in ("text", "number"):
            amount = check_quantity(place, findings)
            if amount is not None:
                yield resource, (place, amount)


def check_quantity(place: Place, findings: Findings) -> object | None:
    """The amount at ``place``; a violation where it is not one, or is negative."""
    amount = parse_quantity(place.text)
    if amount is None:
        findings.wrong(place, f"{place.text!r} is not an amount; write it as 500m, 0.5, 256Mi or 1Gi")
    elif amount < 0:
        findings.wrong(place, f"must not be negative, is {place.text}")
        return None
    return amount


def _check_volume(volume: Place, findings: Findings) -> None:
    size = volume.child("emptyDir", "sizeLimit")
    if size.node.kind in ("text", "number"):
        check_quantity(size, findings)
    sources = [name for name in volume.node.fields if name != "name"]
    if len(sources) > 1:
        findings.wrong(volume, f"must have one source, has {listed(sources)}")
    for kind in ("secret", "configMap"):
        mode = volume.child(kind, "defaultMode")
        if mode.number is not None and not 0 <= mode.number <= 0o777:
            findings.wrong(mode, f"must be from 0 to 0777, is {mode.text}")


def _check_user(container: Place, spec: Place, findings: Findings) -> None:
    def said(name: str) -> Place:
        own = container.child("securityContext", name)
        return own if own.exists else spec.child("securityContext", name)

    user = said("runAsUser")
    if said("runAsNonRoot").is_true and user.number == 0:
        findings.wrong(user, "is 0, which is root, and runAsNonRoot forbids it: the container would not start")
    own = container.child("securityContext")
    if own.child("privileged").is_true and own.child("allowPrivilegeEscalation").text == "false":
        findings.wrong(own.child("allowPrivilegeEscalation"), "cannot be false for a privileged container")


def _unique(names: Iterable[tuple[Place, str]], what: str, findings: Findings, *, is_violation: bool = True) -> None:
    seen: set[str] = set()
    for place, name in names:
        if name and name in seen:
            (findings.wrong if is_violation else findings.remark)(place, f"{name!r} is the name of another {what} too")
        seen.add(name)
