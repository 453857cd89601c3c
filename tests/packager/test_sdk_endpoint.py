"""What ``AksEndpoint`` is told, and what of it has no meaning on this machine and on devices: pure."""

from __future__ import annotations

from typing import Any

import pytest

from edgepack.errors import UsageError
from packager.exceptions import WebserviceException
from packager.sdk.webservice.endpoint_configuration import EndpointConfiguration, Routing
from packager.services.configuration.values import Auth, ComputeType, DeviceDeployment
from packager.webservice import AksEndpoint, AksWebservice


def configuration(**given: Any) -> EndpointConfiguration:
    return AksEndpoint.deploy_configuration(version_name="v1", **given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"traffic_percentile": 130}, "traffic_percentile: 130 is not a whole number from 0 to 100"),
        ({"traffic_percentile": -1}, "-1 is not a whole number"),
        ({"traffic_percentile": 12.5}, r"12\.5 is not a whole number"),
        ({"traffic_percentile": True}, "True is not a whole number"),
        ({"version_name": None}, "version_name: is missing"),
        ({"gpu_cores": 1}, "gpu_cores: is for Kubernetes"),
        ({"autoscale_enabled": True}, "autoscale_enabled: is for Kubernetes"),
        ({"num_replicas": 3}, "num_replicas: is for Kubernetes"),
        ({"namespace": "ml"}, "namespace: is for Kubernetes"),
        ({"scoring_timeout_ms": 1000}, "scoring_timeout_ms: is for Kubernetes"),
        ({"period_seconds": 1}, "period_seconds: is for Kubernetes"),
        ({"memory_gb_limit": 1}, "memory_gb_limit: is for Kubernetes"),
        ({"auth_enabled": False, "token_auth_enabled": True}, "token_auth_enabled: is for Kubernetes"),
        ({"cpu_cores": -2}, "cpu_cores must be more than 0"),
        ({"enable_app_insights": True}, "enable_app_insights must be false"),
        ({"primary_key": "short"}, "primary_key"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_there_is_refused_by_its_name(given: dict[str, Any], told: str) -> None:
    with pytest.raises(WebserviceException, match=told):
        AksEndpoint.deploy_configuration(**{"version_name": "v1", **given})


def test_a_device_takes_what_is_said_and_asks_for_keys_unless_told_otherwise() -> None:
    given = configuration(cpu_cores=0.5, memory_gb=1, autoscale_enabled=False, num_replicas=1, collect_model_data=True)
    made = given.configuration_on(ComputeType.DEVICE).deployment
    assert made == DeviceDeployment(0.5, 1, Auth.KEY, collect_data=True)
    assert configuration(auth_enabled=False).to_configuration().deployment.auth is Auth.NONE
    keys = configuration(primary_key="k" * 32).to_configuration().keys
    assert "k" * 32 not in repr(keys)


def test_this_machine_takes_no_more_than_a_name_and_shares() -> None:
    made = configuration(traffic_percentile=20.0, auth_enabled=False, tags={"a": "b"})
    assert made.configuration_on(ComputeType.LOCAL).deployment.compute_type is ComputeType.LOCAL
    assert made.share == 20
    for name, value in (("cpu_cores", 0.5), ("auth_enabled", True), ("primary_key", "k" * 32)):
        with pytest.raises(UsageError, match=f"{name}: is for a device"):
            configuration(**{name: value}).configuration_on(ComputeType.LOCAL)


def test_its_router_takes_what_waits_and_attributes_may_be_set_until_it_is_used() -> None:
    made = configuration(replica_max_concurrent_requests=4, max_request_wait_time=700)
    assert made.routing == Routing(4, 0.7)
    assert configuration().routing == Routing()
    made.traffic_percentile = 30
    assert made.share == 30
    with pytest.raises(WebserviceException, match="has no attribute 'trafic_percentile'; did you mean"):
        made.trafic_percentile = 30
    assert issubclass(AksEndpoint, AksWebservice)
