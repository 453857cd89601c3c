"""A workload as a pod for ``podman kube play``, which reads manifests of Kubernetes in its own way.

Podman 4.3 turns an HTTP probe into ``curl`` inside of the container and a port's name into port 0, follows only the
probe of liveness, and pulls a digest that it has: hence a probe that is a program, and no pull.
"""

from __future__ import annotations

from typing import Any

from packager.exports.exported import Exported
from packager.exports.pods import container, labels, mounts, pod_security
from packager.exports.secrets import Credentials, secret_files
from packager.exports.workload import Workload
from packager.exports.yaml_text import yaml_text


def export_podman(workload: Workload, credentials: Credentials, *, pulls: bool) -> Exported:
    """``pod.yaml``, with what it needs beside it; ``pulls`` says that the image is in a registry."""
    made, listed, notes = secret_files(workload, credentials, None)
    documents = "pod.yaml"
    how = [
        *([] if pulls else [f"Load the image first: edgepack package push {workload.package} oci-archive:image.tar",
                            "                       podman load --input image.tar"]),
        f"Run it:    podman kube play {documents}",
        f"Remove it: podman kube down {documents}",
    ]  # fmt: skip
    files = {documents: yaml_text(pod(workload, pulls=pulls), comment=how), **made}
    if listed:
        notes = [f"{notes[0]}; play {' and '.join(listed)} before the pod", *notes[1:]]
    return Exported(files, tuple(notes), frozenset(listed))


def pod(workload: Workload, *, pulls: bool) -> dict[str, Any]:
    """One pod, whose port is on this machine's loopback address alone."""
    here = workload.loaded
    made = container(here, settings=None)
    for name in ("startupProbe", "readinessProbe", "lifecycle"):  # which Podman does not follow
        del made[name]
    probe = made.pop("livenessProbe")
    del probe["httpGet"]
    made["livenessProbe"] = {
        "exec": {"command": health_command(here)},
        "initialDelaySeconds": 5,
        **probe,
    }
    made["imagePullPolicy"] = "IfNotPresent" if pulls else "Never"
    made["ports"] = [
        {"containerPort": here.port, "hostPort": here.host_port or here.port, "hostIP": "127.0.0.1", "protocol": "TCP"}
    ]
    for amounts in made["resources"].values():
        amounts.pop("ephemeral-storage", None)
    volumes, _ = mounts(here)
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": here.end_seconds,
        "restartPolicy": "Always",
        "securityContext": pod_security(here),
        "containers": [{"name": "scoring", **made}],
        "volumes": volumes,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": here.name, "labels": labels(here)},
        "spec": spec,
    }


def health_command(workload: Workload) -> list[str]:
    """Ask the server inside of the container whether it lives.

    Podman 4.3 joins the words with spaces and gives them to a shell, so none may mean anything to one.
    """
    return [workload.python, "-m", "edge_server.probe", str(workload.port)]
