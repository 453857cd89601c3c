"""Manifests of Kubernetes held to its schema and to the rules that a schema cannot have."""

from __future__ import annotations

from collections.abc import Sequence

from packager.exports.check.findings import Findings, Place
from packager.exports.check.objects import Manifest
from packager.exports.check.pods import check_pod
from packager.exports.check.references import check_references
from packager.exports.check.schema import check_schema
from packager.exports.names import is_key, is_label_name, is_label_value, is_name, is_path_name, is_service_name

# Kinds that are not of a namespace, and those whose names are parts of paths alone.
_STRICT = ("Namespace",)
_LOOSE = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
_STRATEGIES = {
    "Deployment": ("strategy", ("RollingUpdate", "Recreate")),
    "StatefulSet": ("updateStrategy", ("RollingUpdate", "OnDelete")),
    "DaemonSet": ("updateStrategy", ("RollingUpdate", "OnDelete")),
}  # fmt: skip
# What KServe's predictor may have besides containers: a model, or one by the field of its framework.
_PREDICTORS = (
    "model", "sklearn", "xgboost", "tensorflow", "pytorch", "triton", "onnx", "huggingface", "lightgbm", "paddle",
    "pmml", "workerSpec", "pod",
)  # fmt: skip
_MOST_ANNOTATIONS = 262_144


def check_kubernetes(objects: Sequence[Manifest]) -> Findings:
    """Everything that is wrong with the objects, which are looked at together."""
    findings = Findings()
    for manifest in objects:
        check_schema(manifest, findings)
        _check_name(manifest, findings)
        _check_meta(manifest.root, findings)
        pods = manifest.pods
        if pods is not None:
            if manifest.kind != "Pod":
                _check_meta(pods, findings)
            check_pod(pods.child("spec"), findings)
        elif (manifest.api, manifest.kind) == ("serving.kserve.io/v1beta1", "InferenceService"):
            check_predictor(manifest, findings)
        if manifest.kind in _STRATEGIES:
            _check_strategy(manifest, findings)
        check_references(manifest, objects, findings)
    _check_twice(objects, findings)
    return findings


def check_predictor(manifest: Manifest, findings: Findings) -> None:
    """What a predictor of KServe has in common with a pod."""
    predictor = manifest.root.child("spec", "predictor")
    if not predictor.exists:
        findings.wrong(predictor, "is missing")
    if predictor.child("containers").exists:
        check_pod(predictor, findings)
    elif predictor.exists and not any(predictor.child(name).exists for name in _PREDICTORS):
        findings.wrong(predictor, "must have containers, or a model")
    least, most = predictor.child("minReplicas"), predictor.child("maxReplicas")
    if least.number is not None and most.number and least.number > most.number:
        findings.wrong(least, f"is {least.number}, above the maxReplicas of {most.number}")


def _check_name(manifest: Manifest, findings: Findings) -> None:
    name = manifest.root.child("metadata", "name")
    if not name.exists:
        if not manifest.root.child("metadata", "generateName").exists:
            findings.wrong(name, "is missing")
        return
    rules = "use lowercase letters, digits, '-' and '.'"
    if manifest.kind == "Service":
        is_fine, rules = is_service_name(name.text), "use at most 63 lowercase letters, digits and '-', a letter first"
    elif manifest.kind in _STRICT:
        is_fine, rules = is_label_name(name.text), "use at most 63 lowercase letters, digits and '-'"
    elif manifest.kind in _LOOSE:
        is_fine, rules = is_path_name(name.text), "use no '/' and no '%'"
    else:
        is_fine = is_name(name.text)
    if not is_fine:
        findings.wrong(name, f"{name.text!r} is not a name that the cluster takes; {rules}")
    namespace = manifest.root.child("metadata", "namespace")
    if namespace.exists and not is_label_name(namespace.text):
        findings.wrong(namespace, f"{namespace.text!r} is not a name of a namespace")


def _check_meta(place: Place, findings: Findings) -> None:
    """Labels and annotations of an object, and of the pods of a template."""
    for kind in ("labels", "annotations"):
        for name, value in place.entries("metadata", kind):
            if not is_key(name):
                findings.wrong(value, "has a name that is not one; use [domain/]name, the name up to 63 characters")
            if kind == "labels" and value.node.is_text and not is_label_value(value.text):
                findings.wrong(
                    value, f"{value.text!r} is not a value of a label; use at most 63 letters, digits, '-', '_' and"
                    " '.', with a letter or digit at both ends",
                )  # fmt: skip
    size = sum(len(name) + len(text) for name, text in place.mapping("metadata", "annotations").items())
    if size > _MOST_ANNOTATIONS:
        findings.wrong(place.child("metadata", "annotations"), "are larger than 256 KiB together")


def _check_strategy(manifest: Manifest, findings: Findings) -> None:
    field, known = _STRATEGIES[manifest.kind]
    strategy = manifest.root.child("spec", field)
    kind = strategy.child("type")
    if kind.exists and kind.text not in known:
        findings.wrong(kind, f"must be {' or '.join(known)}, is {kind.text!r}")
    rolling = strategy.child("rollingUpdate")
    if rolling.exists and kind.exists and kind.text != "RollingUpdate" and kind.text in known:
        findings.wrong(rolling, f"is for the type RollingUpdate, not {kind.text}")
    if rolling.child("maxUnavailable").text in ("0", "0%") and rolling.child("maxSurge").text in ("0", "0%"):
        findings.wrong(rolling, "allows neither a pod more nor one less: nothing could ever change")
    replicas = manifest.root.child("spec", "replicas")
    if replicas.number is not None and replicas.number < 0:
        findings.wrong(replicas, f"must not be negative, is {replicas.text}")


def _check_twice(objects: Sequence[Manifest], findings: Findings) -> None:
    seen: set[tuple[str, str, str, str]] = set()
    for one in objects:
        group = one.api.rpartition("/")[0]
        key = (group, one.kind, one.namespace, one.name)
        if one.name and key in seen:
            findings.wrong(one.root.child("metadata", "name"), f"{one.name!r} is the name of another {one.kind} too")
        seen.add(key)
