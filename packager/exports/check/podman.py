"""What ``podman kube play`` makes of a manifest that a cluster takes: what it reads in another way, or ignores."""

from __future__ import annotations

from collections.abc import Sequence

from packager.exports.check.findings import Findings, is_pinned
from packager.exports.check.kubernetes import check_kubernetes
from packager.exports.check.objects import Manifest

# What 4.3 acts on; of others it says nothing, or refuses the file.
_KINDS = ("Pod", "Deployment", "ConfigMap", "Secret", "PersistentVolumeClaim")
_PROBES = ("startupProbe", "readinessProbe")


def check_podman(objects: Sequence[Manifest]) -> Findings:
    """Everything that is wrong for a cluster, and for Podman."""
    findings = check_kubernetes(objects)
    for manifest in objects:
        if manifest.kind not in _KINDS:
            findings.remark(manifest.root.child("kind"), f"{manifest.kind!r} is not acted on by Podman")
        for container in manifest.containers:
            probe = container.child("livenessProbe")
            if probe.child("httpGet").exists:
                findings.wrong(
                    probe.child("httpGet"), "becomes curl inside of the container, where an image without it never gets"
                    " healthy; use exec with a program of the image",
                )  # fmt: skip
            for name in _PROBES:
                if container.child(name).exists:
                    findings.remark(container.child(name), "is not acted on by Podman")
            image, pull = container.child("image"), container.child("imagePullPolicy")
            if is_pinned(image.text) and pull.text == "Always":
                findings.wrong(pull, "pulls an image that is there already; use Never, or IfNotPresent")
    return findings
