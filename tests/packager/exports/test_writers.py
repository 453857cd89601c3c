"""What is written is what the schemas of others take. That a cluster or a device would run it is not proven here."""

from __future__ import annotations

import gzip
import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from edgepack.errors import EdgepackError, IncompatibleError, UsageError
from edgepack.oci.digest import Digest
from edgepack.trees.yaml_tree import json_tree, parse_yaml
from packager.commands.main import build_cli
from packager.exports.check.compose import check_compose
from packager.exports.check.iot_edge import check_iot_edge
from packager.exports.check.kubernetes import check_kubernetes
from packager.exports.check.objects import objects_in
from packager.exports.check.podman import check_podman
from packager.exports.compose import export_compose
from packager.exports.endpoints import export_endpoint
from packager.exports.exported import Exported
from packager.exports.iot_edge import Edge, export_iot_edge, joined_options
from packager.exports.kserve import Modelcar, export_kserve
from packager.exports.kubernetes import Cluster, export_kubernetes
from packager.exports.podman import export_podman
from packager.exports.routes import Route, parse_route
from packager.exports.routing import Backend
from packager.exports.routing import Route as Outside
from packager.exports.secrets import Credentials
from packager.exports.workload import Scale, Workload, replicas_for
from packager.services import workloads
from packager.services.configuration.rules import Rules
from packager.services.configuration.values import ComputeType
from packager.services.deployed import deployed
from packager.services.endpoints.endpoint import Endpoint
from packager.services.endpoints.store import EndpointStore
from packager.workspaces.workspace import Workspace
from tests.packager.support.workloads import AMD64, everything, workload
from tests.support.typed import typist

SCHEMAS = Path(__file__).parent / "schemas"
SECRET = b'{"schema":"edgepack.keys/v1","primary":"sha256:00","secondary":"sha256:11"}'
GIVEN = Credentials({"keys.json": SECRET}, {"tls.crt": b"certificate", "tls.key": b"key"})


def schema(name: str) -> Any:
    return json.loads(gzip.decompress((SCHEMAS / f"{name}.json.gz").read_bytes()))


def hold(document: Any, known: Any) -> None:
    """Raise the first error; the schemas themselves are not checked again."""
    for error in jsonschema.Draft202012Validator(known).iter_errors(document):
        raise error


def documents(exported: Exported) -> list[dict[str, Any]]:
    texts = [text for name, text in exported.files.items() if name.endswith(".yaml")]
    found = [one for text in texts for one in yaml.safe_load_all(text)]
    return [one for one in found if one["kind"] != "Kustomization"]


def violations(exported: Exported) -> list[str]:
    return check_kubernetes(objects_in(yaml.safe_dump_all(documents(exported)), "x.yaml")).violations


@pytest.mark.parametrize("version", ["1.25", "1.29", "1.33", "1.37"])
def test_every_version_of_kubernetes_schema_takes_our_objects(version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    cluster = Cluster("ml", "login", Outside("churn.example", ingress_class="nginx"), credentials=GIVEN)
    exported = export_kubernetes(everything(), cluster)
    found = documents(exported)
    assert sorted(one["kind"] for one in found) == [
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "PodDisruptionBudget",
        "Secret", "Secret", "Service", "ServiceAccount",
    ]  # fmt: skip
    for document in found:
        kubernetes_validate.validate(document, version, strict=True)
    assert violations(exported) == []


def test_the_pod_is_held_to_the_restricted_profile_whatever_is_asked_for() -> None:
    """Each rule of the pod security standard, read off its page; that an admission controller agrees is not proven."""
    for made in (workload(), everything()):
        (deployment,) = [one for one in documents(export_kubernetes(made, Cluster())) if one["kind"] == "Deployment"]
        pod = deployment["spec"]["template"]["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert all({"configMap", "emptyDir", "secret"} & volume.keys() for volume in pod["volumes"])
        (container,) = pod["containers"]
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"]["type"] == "RuntimeDefault"
        assert security["readOnlyRootFilesystem"] is True
        assert "hostPort" not in container["ports"][0]
        assert pod["automountServiceAccountToken"] is False


def test_credentials_are_files_that_are_mounted_and_never_in_the_environment(tmp_path: Path) -> None:
    exported = export_kubernetes(everything(), Cluster("ml", credentials=GIVEN))
    assert exported.private == {"secret-auth.yaml", "secret-tls.yaml"}
    others = [text for name, text in exported.files.items() if name not in exported.private]
    assert not any(SECRET.decode() in text or "certificate" in text.partition("kubectl")[0] for text in others)
    exported.write(tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out/secret-auth.yaml").stat().st_mode) == 0o600
    (secret,) = [one for one in documents(exported) if one["metadata"]["name"] == "churn-auth"]
    assert secret["stringData"] == {"keys.json": SECRET.decode()}
    assert secret["immutable"] is False


def test_without_credentials_a_file_says_how_the_secrets_are_made() -> None:
    exported = export_kubernetes(everything(), Cluster("ml"))
    assert exported.private == frozenset()
    assert not any(one["kind"] == "Secret" for one in documents(exported))
    text = exported.files["SECRETS.md"]
    assert "kubectl create secret generic churn-auth --namespace ml --from-file=keys.json=keys.json" in text
    assert "kubectl create secret tls churn-tls --namespace ml --cert=chain.pem --key=key.pem" in text
    assert "SECRETS.md" not in exported.files["kustomization.yaml"]


def test_a_change_of_settings_gives_the_pods_another_configuration() -> None:
    def name(made: Workload) -> str:
        (found,) = [one for one in documents(export_kubernetes(made, Cluster())) if one["kind"] == "ConfigMap"]
        return str(found["metadata"]["name"])

    assert name(workload()) == name(workload())
    assert name(workload(env={"EDGEPACK_WORKERS": "2"})) != name(workload())


def test_replicas_are_left_to_the_autoscaler_and_one_replica_has_no_budget() -> None:
    found = {one["kind"]: one for one in documents(export_kubernetes(workload(), Cluster()))}
    assert "replicas" not in found["Deployment"]["spec"]
    scaler = found["HorizontalPodAutoscaler"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 5)
    assert scaler["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 60}
    found = {one["kind"]: one for one in documents(export_kubernetes(workload(scale=None), Cluster()))}
    assert found["Deployment"]["spec"]["replicas"] == 1
    assert not {"HorizontalPodAutoscaler", "PodDisruptionBudget"} & found.keys()


def test_an_image_for_one_processor_goes_to_nodes_that_have_it() -> None:
    (found,) = [
        one
        for one in documents(export_kubernetes(workload(platforms=(AMD64,)), Cluster()))
        if one["kind"] == "Deployment"
    ]
    assert found["spec"]["template"]["spec"]["nodeSelector"]["kubernetes.io/arch"] == "amd64"


def test_weights_divide_requests_by_a_gateway() -> None:
    outside = Outside("churn.example", "infra/web", weights=(("churn-v1", 80), ("churn-v2", 20)))
    (found,) = [
        one for one in documents(export_kubernetes(workload(), Cluster(route=outside))) if one["kind"] == "HTTPRoute"
    ]
    assert found["spec"]["parentRefs"] == [{"name": "web", "namespace": "infra"}]
    backends = found["spec"]["rules"][0]["backendRefs"]
    assert [(one["name"], one["weight"]) for one in backends] == [("churn-v1", 80), ("churn-v2", 20)]
    with pytest.raises(UsageError, match="weights need a gateway"):
        Outside("churn.example", weights=(("a", 1),))


def test_the_definition_of_gateway_api_takes_the_route_of_an_endpoint() -> None:
    """The schema of v1.6.1 alone: its rules in CEL, and that a gateway divides requests, are not proven here."""
    known, shares = schema("gateway"), {"v1": 80, "v2": 20}
    parts = {version: export_kubernetes(workload(name=f"churn-{version}"), Cluster("ml")) for version in shares}
    backends = {version: Backend(f"churn-{version}", 80, share) for version, share in shares.items()}
    for session in (None, "cookie", "header"):
        wanted = Outside("churn.example", "infra/web", session=session)  # type: ignore[arg-type]
        exported = export_endpoint("churn", parts, backends, wanted, "ml")
        route = yaml.safe_load(exported.files["route.yaml"])
        hold(route, known["experimental"])
        assert route["metadata"]["name"] == "churn"
        weights = [(one["name"], one["port"], one["weight"]) for one in route["spec"]["rules"][0]["backendRefs"]]
        assert weights == [("churn-v1", 80, 80), ("churn-v2", 80, 20)]
        if session is None:
            hold(route, known["standard"])
            assert "draws each request by chance" in exported.notes[-1]
        else:  # which the standard channel does not have yet
            with pytest.raises(jsonschema.ValidationError, match="sessionPersistence"):
                hold(route, known["standard"])
        assert violations(exported) == []
        listed = yaml.safe_load(exported.files["kustomization.yaml"])["resources"]
        assert {"route.yaml", "v1-deployment.yaml", "v2-service.yaml"} <= set(listed)
        assert set(listed) | {"kustomization.yaml"} == set(exported.files)


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("rules/0/backendRefs/0/weight", 1_000_001, "weight must be from 0 to 1000000, is 1000001"),
        ("rules/0/backendRefs/0/weight", "80", "weight must be a whole number"),
        ("rules/0/backendRefs/0/name", "churn-v9", "there is no Service 'churn-v9'; the files have"),
        ("rules/0/backendRefs/0/port", 8080, "'8080' is not a port of the Service 'churn-v1'"),
        ("rules/0/backendRefs/0/port", ..., "port is missing: a Service is reached by one of its ports"),
        ("rules/0/backendRefs/1", {"name": "churn-v1", "port": 80}, "'churn-v1' is there twice: add their weights"),
        ("rules/0/backendRefs", [], "is missing: all requests of the rule would be answered with 500"),
        ("rules/0/backendRefs", [{"name": "churn-v1", "port": 80, "weight": 0}], "have no weight together"),
        ("rules/0/backendRef", [], "backendRef is not a known field; did you mean 'backendRefs'?"),
        ("rules/0/matches/0/path/value", "score", "must begin with '/', is 'score'"),
        ("rules/0/matches/0/path/type", "Prefix", "must be Exact, PathPrefix, RegularExpression, is 'Prefix'"),
        ("rules/0/sessionPersistence", {"type": "Header", "cookieConfig": {}}, "is for the type Cookie"),
        ("hostnames/0", "10.0.0.1", "'10.0.0.1' is not the name of a host"),
        ("parentRefs/0", {}, "parentRefs[0].name is missing"),
        ("parentRefs", [{"name": "web"}, {"name": "web"}], "names the same gateway twice"),
    ],
)
def test_faults_of_a_route_are_found(path: str, value: object, text: str) -> None:
    shares = {"v1": 80, "v2": 20}
    parts = {version: export_kubernetes(workload(name=f"churn-{version}"), Cluster("ml")) for version in shares}
    backends = {version: Backend(f"churn-{version}", 80, share) for version, share in shares.items()}
    found = documents(export_endpoint("churn", parts, backends, Outside("a.example", "web"), "ml"))
    (route,) = [one for one in found if one["kind"] == "HTTPRoute"]
    at: Any = route["spec"]
    *above, last = [int(part) if part.isdecimal() else part for part in path.split("/")]
    for name in above:
        at = at[name]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    said = check_kubernetes(objects_in(yaml.safe_dump_all(found), "x.yaml")).violations
    assert any(text in one for one in said), said


def test_weights_that_no_gateway_takes_are_refused() -> None:
    for weights in ((("a", 1_000_001),), (("a", 0), ("b", 0)), tuple((f"a{at}", 1) for at in range(17))):
        with pytest.raises(UsageError):
            Outside("churn.example", "web", weights=weights)
    with pytest.raises(UsageError, match="a session needs a gateway"):
        Outside("churn.example", session="cookie")


def test_telemetry_alone_opens_a_way_out() -> None:
    def egress(made: Workload) -> Any:
        (found,) = [one for one in documents(export_kubernetes(made, Cluster())) if one["kind"] == "NetworkPolicy"]
        return found["spec"]["egress"]

    assert egress(workload()) == []
    ports = [port["port"] for rule in egress(workload(telemetry=True)) for port in rule["ports"]]
    assert sorted(ports) == [53, 53, 4318]


@pytest.mark.real("kubectl")
def test_kustomize_takes_the_folder_as_a_base(tmp_path: Path) -> None:
    """What kubectl builds of it; that a cluster admits and schedules it is not proven."""
    exported = export_kubernetes(everything(), Cluster("ml", credentials=GIVEN))
    exported.write(tmp_path / "base")
    # As every kubectl since 1.14 takes it; later ones have another word for it.
    (tmp_path / "kustomization.yaml").write_text("bases: [base]\nnamePrefix: blue-\n")
    done = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, check=True)
    built = [*yaml.safe_load_all(done.stdout)]
    assert len(built) == len(documents(exported))
    assert {one["metadata"]["namespace"] for one in built} == {"ml"}
    assert check_kubernetes(objects_in(done.stdout, "built")).violations == []


def test_the_schema_of_kserve_takes_both_of_its_manifests() -> None:
    """The custom resources' own schema, without its controller: that KServe makes pods of them is not proven."""
    known = schema("kserve")
    car = Modelcar("churn-modelcar:4", "registry.example/edge/churn-modelcar", Digest("cd" * 32), "oci+fetch")
    for made in (None, car):
        exported = export_kserve(everything(), Cluster("ml", "login"), made)
        kinds = []
        for document in documents(exported):
            if document["kind"] in known:
                hold(document, known[document["kind"]])
                kinds.append(document["kind"])
        assert kinds == (["InferenceService"] if made is None else ["ServingRuntime", "InferenceService"])
        assert violations(exported) == []
    service = documents(export_kserve(workload(), Cluster(), car))[-2]
    assert service["spec"]["predictor"]["model"]["storageUri"] == (
        f"oci+fetch://registry.example/edge/churn-modelcar@sha256:{'cd' * 32}"
    )


@pytest.mark.parametrize(("field", "value"), [("storageURI", "oci://a"), ("protocol", "v2")])
def test_the_schema_of_kserve_refuses_a_misspelled_field(field: str, value: str) -> None:
    car = Modelcar("c:4", "r.example/c", Digest("cd" * 32))
    service = next(
        one for one in documents(export_kserve(workload(), Cluster(), car)) if one["kind"] == "InferenceService"
    )
    service["spec"]["predictor"]["model"][field] = value
    with pytest.raises(jsonschema.ValidationError):
        hold(service, schema("kserve")["InferenceService"])


def edge(made: Workload, wanted: Edge) -> Any:
    return json.loads(export_iot_edge(made, wanted).files["deployment.json"])


def test_the_strict_schemas_of_iot_edge_take_the_manifest() -> None:
    known = schema("iot-edge")
    for made in (workload(), everything()):
        content = edge(made, Edge("camera", to_cloud=True))["modulesContent"]
        hold({"$edgeAgent": content["$edgeAgent"]}, known["edgeagent-1.1"])
        hold({"$edgeHub": content["$edgeHub"]}, known["edgehub-1.1"])


def test_the_module_is_held_tightly_and_its_options_are_cut_as_the_agent_joins_them() -> None:
    module = edge(everything(), Edge())["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["churn"]
    pieces = {name: text for name, text in module["settings"].items() if name != "image"}
    assert len(pieces) > 1
    assert all(len(text) <= 512 for text in pieces.values())
    host = json.loads(joined_options(module["settings"]))["HostConfig"]
    assert host["Memory"] == 512 << 20
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges"])
    assert host["PortBindings"]["5001/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "5001"}]


def test_no_credential_of_a_registry_is_in_the_manifest() -> None:
    settings = edge(workload(), Edge())["modulesContent"]["$edgeAgent"]["properties.desired"]["runtime"]["settings"]
    (login,) = settings["registryCredentials"].values()
    assert login == {
        "address": "registry.example", "username": "$CONTAINER_REGISTRY_USERNAME",
        "password": "$CONTAINER_REGISTRY_PASSWORD",
    }  # fmt: skip


def test_a_layer_holds_our_module_and_routes_alone() -> None:
    content = edge(workload(), Edge("camera", to_cloud=True, layered=True))["modulesContent"]
    assert [*content["$edgeAgent"]] == ["properties.desired.modules.churn"]
    assert sorted(content["$edgeHub"]) == [
        "properties.desired.routes.camera-to-churn", "properties.desired.routes.churn-to-cloud",
    ]  # fmt: skip
    assert check_iot_edge(parse_yaml(json.dumps({"modulesContent": content}), "x"), "x").violations == []


FAULTS = [
    ("$edgeAgent", "modules/churn/restartPolicy", "sometimes", "must be never or on-failure or on-unhealthy or always"),
    ("$edgeAgent", "modules/chu.rn", {}, "has the name 'chu.rn'; use letters, digits, '_' and '-'"),
    ("$edgeAgent", "modules/churn/startupOrder", -1, "must be a whole number from 0"),
    ("$edgeAgent", "modules/churn/env/a.b", {"value": "x"}, "has a name with a space, a dot"),
    ("$edgeAgent", "modules/churn/settings/createOptions", {"HostConfig": {}}, "must be JSON written as text"),
    ("$edgeAgent", "modules/churn/settings/createOptions", '{"a":', "is not JSON with the pieces after it"),
    ("$edgeAgent", "modules/churn/image", "x", "image is not a known field"),
    ("$edgeAgent", "schemaVersion", "9.9", 'must be "1.0" or "1.1"'),
    ("$edgeAgent", "systemModules/edgeHub", None, "is missing"),
    ("$edgeHub", "routes/a.b", "FROM /* INTO $upstream", "has the name 'a.b' with a dot"),
    ("$edgeHub", "routes/a", "ALL OF IT TO THE CLOUD", "is not FROM SOURCE [WHERE CONDITION] INTO SINK"),
    ("$edgeHub", "routes/a", {"route": "FROM /* INTO $upstream", "priority": 12}, "must be from 0 to 9"),
    ("$edgeHub", "routes/a", 'FROM /* INTO BrokeredEndpoint("/modules/other/inputs/x")', "leads to the module 'other'"),
    ("$edgeHub", "mqttBroker", {}, "is not a known field"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "path", "value", "text"), FAULTS)
def test_faults_of_an_iot_edge_manifest_are_found(part: str, path: str, value: object, text: str) -> None:
    manifest = edge(workload(), Edge("camera"))
    found = manifest["modulesContent"][part]["properties.desired"]
    *above, last = path.split("/")
    for name in above:
        found = found[name]
    found[last] = value
    violations = check_iot_edge(parse_yaml(json.dumps(manifest), "x"), "x").violations
    assert any(text in one for one in violations), violations


def test_a_password_that_is_written_out_is_remarked_and_not_shown() -> None:
    manifest = edge(workload(), Edge())
    settings = manifest["modulesContent"]["$edgeAgent"]["properties.desired"]["runtime"]["settings"]
    (login,) = settings["registryCredentials"].values()
    login["password"] = "hunter2"
    found = check_iot_edge(parse_yaml(json.dumps(manifest), "x"), "x")
    assert any("is written out" in text for text in found.remarks)
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("FROM /* INTO $upstream", Route("/*", None, None, None, None)),
        ("from /messages/* where a > 5 into $upstream", Route("/messages/*", None, "a > 5", None, None)),
        ("FROM /messages/modules/cam/outputs/* INTO BrokeredEndpoint(\"/modules/churn/inputs/amlInput\")",
         Route("/messages/modules/cam/outputs/*", "cam", None, "churn", "amlInput")),
        ("FROM /messages/modules/a/outputs/b WHERE $body.x = ')' AND (a OR b) INTO $upstream",
         Route("/messages/modules/a/outputs/b", "a", "$body.x = ')' AND (a OR b)", None, None)),
        ("FROM /messages INTO", "is not FROM SOURCE"),
        ("FROM /nowhere INTO $upstream", "has the source '/nowhere'"),
        ("FROM /* WHERE (a INTO $upstream", "a ')' missing"),
        ("FROM /* WHERE 'a INTO $upstream", "a ' that is not closed"),
        ("FROM /* INTO BrokeredEndpoint(\"/modules/a\")", "has the sink"),
        ("FROM /* INTO BrokeredEndpoint(\"/modules/a/inputs/b')", "has the sink"),
    ],
)  # fmt: skip
def test_routes_are_read(text: str, wanted: Route | str) -> None:
    found = parse_route(text)
    assert found == wanted if isinstance(wanted, Route) else isinstance(found, str) and wanted in found


@pytest.mark.parametrize("pulls", [True, False])
def test_the_schema_of_compose_takes_the_file(pulls: bool) -> None:
    for made in (workload(), everything(), workload(repository=None)):
        if made.repository is None and pulls:
            continue
        text = export_compose(made, pulls=pulls).files["compose.yaml"]
        document = yaml.safe_load(text)
        hold(document, schema("compose"))
        assert check_compose(parse_yaml(text, "x"), "x").violations == []
        (service,) = document["services"].values()
        assert service["image"].endswith(f"@sha256:{'ab' * 32}") == pulls
        assert service["ports"] == ["127.0.0.1:5001:5001"]


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("ports", ["127.0.0.1:99999:5001"], "must be from 1 to 65535, is 99999"),
        ("ports", ["five"], "'five' is not a port"),
        ("mem_limit", "256 megs", "is not an amount"),
        ("stop_grace_period", "soon", "'soon' is not a time"),
        ("restart", "sometimes", "must be no, always"),
        ("volumes", ["data:/data"], "'data' is not among the volumes"),
        ("depends_on", ["db"], "'db' is not among the services"),
        ("image", None, "is missing, and there is no build"),
    ],
)
def test_faults_of_a_compose_file_are_found(path: str, value: object, text: str) -> None:
    document = yaml.safe_load(export_compose(workload(), pulls=True).files["compose.yaml"])
    document["services"]["churn"][path] = value
    violations = check_compose(parse_yaml(yaml.safe_dump(document), "x"), "x").violations
    assert any(text in one for one in violations), violations


def test_a_pod_for_podman_asks_nothing_that_podman_reads_in_another_way() -> None:
    text = export_podman(everything(), GIVEN, pulls=False).files["pod.yaml"]
    found = check_podman(objects_in(text, "pod.yaml"))
    assert found.violations == []
    assert not any("not acted on" in remark for remark in found.remarks)
    container = yaml.safe_load(text)["spec"]["containers"][0]
    assert container["ports"][0]["hostIP"] == "127.0.0.1"
    # It joins the words and gives them to a shell.
    assert not any(set(word) & set(" '\"();$&|<>*?") for word in container["livenessProbe"]["exec"]["command"])


def test_an_image_that_no_registry_has_is_refused_where_it_must_be_pulled() -> None:
    for export in (
        lambda: export_kubernetes(workload(repository=None), Cluster()),
        lambda: export_iot_edge(workload(repository=None), Edge()),
    ):
        with pytest.raises(IncompatibleError, match="edgepack package push churn:4 REGISTRY"):
            export()


def test_files_that_are_there_are_kept_unless_they_are_to_be_replaced(tmp_path: Path) -> None:
    exported = Exported({"a.yaml": "a: 1\n"})
    exported.write(tmp_path)
    exported.write(tmp_path)  # the same again
    with pytest.raises(UsageError, match=r"holds another a\.yaml"):
        Exported({"a.yaml": "a: 2\n"}).write(tmp_path)
    Exported({"a.yaml": "a: 2\n"}).write(tmp_path, replace=True)
    assert (tmp_path / "a.yaml").read_text() == "a: 2\n"


def test_a_configuration_of_azure_decides_replicas_probes_and_amounts() -> None:
    def asked(**document: Any) -> Workload:
        tree = json_tree(document, "deploymentconfig.json")
        return deployed(workload(scale=None), Rules(tree).configuration("deploymentconfig.json").deployment)

    found = asked(
        computeType="AKS",
        autoScaler={"autoscaleEnabled": True, "minReplicas": 2, "maxReplicas": 4, "targetUtilization": 50},
        containerResourceRequirements={"cpu": 0.5, "memoryInGB": 1.5, "cpuLimit": 2},
        scoringTimeoutMs=90_000,
        maxConcurrentRequestsPerContainer=3,
        maxQueueWaitMs=250,
        gpuCores=1,
        dataCollection={"storageEnabled": True},
    )
    assert found.scale == Scale(2, 4, 50, 1)
    assert (found.resources.cpus, found.resources.memory_bytes, found.resources.cpu_limit) == (0.5, 1536 << 20, 2)
    # Azure's own defaults: a key is asked for, and a container has 310 seconds.
    assert (found.auth, found.probe.start_seconds, found.collects) == ("key", 310, True)
    assert (found.settings["EDGEPACK_WORKERS"], found.settings["EDGEPACK_QUEUE_MS"]) == ("3", "250")
    assert (found.end_seconds, found.settings["EDGEPACK_GRACE_SECONDS"]) == (5 + 90 + 5, "90")
    written = documents(export_kubernetes(found, Cluster()))
    container = next(one for one in written if one["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] == 310
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert violations(export_kubernetes(found, Cluster())) == []
    fixed = asked(computeType="aks", autoScaler={"autoscaleEnabled": False}, numReplicas=3, authEnabled=False)
    assert (fixed.replicas, fixed.scale, fixed.auth) == (3, None, "none")
    assert asked(computeType="ACI").auth == "none"
    assert asked(computeType="local", port=8000).host_port == 8000


@pytest.mark.parametrize(
    ("rate", "seconds", "percent", "concurrency", "wanted"),
    [(100, 0.1, 70, 1, 15), (10, 0.1, 70, 1, 2), (1, 0.01, 70, 1, 1), (200, 0.05, 50, 4, 5)],
)
def test_replicas_follow_from_the_load_as_azure_computes_it(
    rate: float, seconds: float, percent: int, concurrency: int, wanted: int
) -> None:
    assert replicas_for(rate, seconds, percent=percent, concurrency=concurrency) == wanted


def test_a_user_by_name_is_refused() -> None:
    from packager.exports.workload import numeric_user

    assert numeric_user("10001:10002", "x") == (10001, 10002)
    for text in ("", "root", "0", "0:0", "app:app"):
        with pytest.raises(EdgepackError, match="take numbers other than 0 alone"):
            numeric_user(text, "x")


def test_the_command_writes_an_endpoint_with_the_shares_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = Workspace(tmp_path / "ws")
    place.keys.create("factory")
    one = Endpoint("churn", ComputeType.LOCAL, None, 6789, {"v1": 0, "v2": 20}, "v1")
    EndpointStore(place.root).put(one)
    # How services become workloads is tested with the images that they need.
    monkeypatch.setattr(workloads, "find_workload", lambda _, service, *__: workload(name=service, auth="key"))
    edgepack = typist(build_cli, "edgepack", monkeypatch, capfd)
    words = ("churn", "-o", tmp_path / "out", "--workspace", place.root, "--output", "json")
    done = edgepack("export", "kubernetes", *words)
    assert (done.code, "n endpoint needs --host and --gateway" in done.err) == (2, True), done.err
    outside = ("--host", "churn.example", "--gateway", "infra/web")
    done = edgepack("export", "kubernetes", *words, *outside, "--weight", "a=1")
    assert (done.code, "leave out --weight" in done.err) == (2, True)
    assert not (tmp_path / "out").exists()
    done = edgepack("export", "kubernetes", *words, *outside, "--namespace", "ml", "--replicas", "2")
    assert done.code == 0, done.err
    assert (json.loads(done.out)["endpoint"], json.loads(done.out)["versions"]) == ("churn", ["v1", "v2"])
    route = yaml.safe_load((tmp_path / "out/route.yaml").read_text())
    weights = {ref["name"]: ref["weight"] for ref in route["spec"]["rules"][0]["backendRefs"]}
    assert weights == {"churn-v1": 80, "churn-v2": 20}
    for version in ("v1", "v2"):
        assert yaml.safe_load((tmp_path / f"out/{version}-deployment.yaml").read_text())["spec"]["replicas"] == 2
    assert "churn-v2-auth" in (tmp_path / "out/v2-SECRETS.md").read_text()
    assert edgepack("export", "kubernetes", "--check", tmp_path / "out").code == 0
    done = edgepack("export", "compose", *words)
    assert (done.code, "is an endpoint, which only edgepack export kubernetes writes" in done.err) == (2, True)
