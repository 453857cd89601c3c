"""A workload for KServe: our whole image as the predictor, or its server as a runtime over a model in its own image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from edgepack.errors import IncompatibleError
from edgepack.oci.digest import Digest
from packager.exports.exported import Exported
from packager.exports.kubernetes import Cluster, disruption_budget, meta, network_policy, service_account, settings_map
from packager.exports.pods import container, mounts, placement, pod_annotations, pod_security
from packager.exports.secrets import secret_files
from packager.exports.workload import Workload
from packager.exports.yaml_text import yaml_text
from packager.workspaces.workspace import Workspace

# How KServe brings a model that is an image: beside the server, as a volume of it, or fetched before.
Scheme = Literal["oci", "oci+native", "oci+fetch"]
# KServe's own port, and where it mounts a model.
_PORT = 8080
MODELS = "/mnt/models"
_API = "serving.kserve.io"


@dataclass(frozen=True)
class Modelcar:
    """The image that has nothing but the model, at ``/models``: its tag here, and where it is pulled from."""

    tag: str
    repository: str
    digest: Digest
    scheme: Scheme = "oci"

    @property
    def image(self) -> str:
        """The image by its digest."""
        return f"{self.repository}@{self.digest}"


def modelcar_of(workspace: Workspace, workload: Workload, scheme: Scheme) -> Modelcar:
    """Make the image of the one model in the package; ``IncompatibleError`` for several, and without a registry."""
    from packager.exports.modelcar import modelcar_tag, write_modelcar

    if len(workload.models) != 1:
        raise IncompatibleError(
            f"serves {len(workload.models)} models, and a modelcar has one", where=workload.package,
            hint="leave out --modelcar: the whole image serves them all",
        )  # fmt: skip
    repository = workload.image.partition("@")[0]
    root = workspace.image(workload.package)
    made = write_modelcar(workspace.store, root, workload.models[0], workload.package)
    return Modelcar(modelcar_tag(workload.package), f"{repository}-modelcar", made.digest, scheme)


def export_kserve(workload: Workload, cluster: Cluster, car: Modelcar | None) -> Exported:
    """The files for ``kubectl apply -k``: with ``car`` a runtime and a service that names the model's image."""
    settings = settings_map(workload, cluster)
    files: dict[str, dict[str, Any]] = {
        "serviceaccount.yaml": service_account(workload, cluster),
        "networkpolicy.yaml": _policy(workload, cluster),
    }
    if car is None:
        files |= {"settings.yaml": settings, "inferenceservice.yaml": whole(workload, cluster, settings)}
    else:
        files["servingruntime.yaml"] = runtime(workload, cluster)
        files["inferenceservice.yaml"] = split(workload, cluster, car)
    if workload.least_replicas > 1:
        files["disruptionbudget.yaml"] = _budget(workload, cluster)
    texts = {name: yaml_text(document) for name, document in files.items()}
    made, listed, notes = secret_files(workload, cluster.credentials, cluster.namespace)
    kustomization: dict[str, Any] = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    if cluster.namespace is not None:
        kustomization["namespace"] = cluster.namespace
    kustomization["resources"] = sorted([*texts, *listed])
    if car is not None and car.scheme == "oci":
        notes.append("oci:// is a sidecar with the model, which enableModelcar of KServe's configuration allows")
    if car is not None and car.scheme == "oci+native":
        notes.append("oci+native:// mounts an image as a volume: Kubernetes 1.33 or later with that feature, which 1.35"
                     " has by default, and containerd 2 or CRI-O 1.31")  # fmt: skip
    return Exported({**texts, **made, "kustomization.yaml": yaml_text(kustomization)}, tuple(notes), frozenset(listed))


def whole(workload: Workload, cluster: Cluster, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Our image as the predictor: the model is in it."""
    volumes, _ = mounts(workload)
    made = container(workload, settings=settings["metadata"]["name"])
    predictor = {**_scale(workload), **_pod(workload, cluster), "volumes": volumes}
    predictor["containers"] = [{"name": "kserve-container", **_numbered(made)}]
    return _service(workload, cluster, predictor)


def split(workload: Workload, cluster: Cluster, car: Modelcar) -> dict[str, Any]:
    """The model's image, served by the runtime."""
    model = {
        "modelFormat": {"name": "onnx"},
        "protocolVersion": "v2",
        "runtime": runtime_name(workload),
        "storageUri": f"{car.scheme}://{car.image}",
    }
    return _service(workload, cluster, {**_scale(workload), **_pod(workload, cluster), "model": model})


def runtime_name(workload: Workload) -> str:
    """Of the runtime that this workload brings along."""
    return f"edgepack-onnx-{workload.name}"


def runtime(workload: Workload, cluster: Cluster) -> dict[str, Any]:
    """The server of our image, without its models, over a folder that KServe mounts."""
    made = container(replace(workload, port=_PORT, env=dict(workload.env)), settings=None)
    command = [workload.python, "-m", "edge_server", "--model", MODELS, "--model-name", "{{.Name}}"]
    command += ["--host", "0.0.0.0", "--port", str(_PORT)]  # noqa: S104 - the pod's own address
    volumes, _ = mounts(workload)
    pod = _pod(workload, cluster)
    for name in (
        "serviceAccountName", "terminationGracePeriodSeconds", "automountServiceAccountToken", "securityContext",
    ):  # fmt: skip
        pod.pop(name, None)  # which a runtime does not have: the service gives them
    return {
        "apiVersion": f"{_API}/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": meta(workload, cluster, runtime_name(workload)),
        "spec": {
            "annotations": pod_annotations(replace(workload, port=_PORT)),
            "supportedModelFormats": [{"name": "onnx", "version": "1", "autoSelect": False}],
            "protocolVersions": ["v2"],
            "multiModel": False,
            **pod,
            "volumes": volumes,
            "containers": [{"name": "kserve-container", "command": command, **_numbered(made)}],
        },
    }


def _service(workload: Workload, cluster: Cluster, predictor: Mapping[str, Any]) -> dict[str, Any]:
    head = meta(workload, cluster)
    head["annotations"] = {"serving.kserve.io/deploymentMode": "Standard", **pod_annotations(workload)}
    return {
        "apiVersion": f"{_API}/v1beta1",
        "kind": "InferenceService",
        "metadata": head,
        "spec": {"predictor": dict(predictor)},
    }


def _scale(workload: Workload) -> dict[str, Any]:
    if workload.scale is None:
        return {"minReplicas": workload.replicas, "maxReplicas": workload.replicas}
    scale = workload.scale
    return {
        "minReplicas": scale.least,
        "maxReplicas": scale.most,
        "scaleMetric": "cpu",
        "scaleTarget": scale.percent,
    }


def _pod(workload: Workload, cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = {
        "serviceAccountName": workload.name,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": workload.end_seconds,
        "securityContext": pod_security(workload),
        **placement(workload),
    }
    if cluster.pull_secret is not None:
        found["imagePullSecrets"] = [{"name": cluster.pull_secret}]
    return found


def _numbered(made: dict[str, Any]) -> dict[str, Any]:
    """The container with the port's name that KServe gives it, and the resources that it asks for."""
    return {**made, "ports": [{**port, "name": "http1"} for port in made["ports"]], **_probes(made)}


def _probes(made: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        found[name] = {**made[name], "httpGet": {**made[name]["httpGet"], "port": "http1"}}
    return found


def _selected(workload: Workload) -> dict[str, str]:
    """What KServe labels the pods with."""
    return {"serving.kserve.io/inferenceservice": workload.name}


def _policy(workload: Workload, cluster: Cluster) -> dict[str, Any]:
    found = network_policy(workload, cluster)
    found["spec"]["podSelector"] = {"matchLabels": _selected(workload)}
    found["spec"]["ingress"] = [{}]  # KServe decides by which port of its own requests come
    return found


def _budget(workload: Workload, cluster: Cluster) -> dict[str, Any]:
    found = disruption_budget(workload, cluster)
    found["spec"]["selector"] = {"matchLabels": _selected(workload)}
    return found
