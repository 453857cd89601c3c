"""The modules of ours that scripts for Azure import, and where each name in them comes from."""

from __future__ import annotations

SERVICES = "azureml.contrib.services"
MONITORING = "azureml.monitoring"
NEW_MONITORING = "azureml.ai.monitoring"
SERVER = "azureml_inference_server_http"
CORE_MODEL = "azureml.core.model"
JOBLIB = "sklearn.externals.joblib"
SCHEMA = "inference_schema"
SPARK = "inference_schema.parameter_types.spark_parameter_type"
NO_SPARK = (
    "edgepack's inference_schema has no type for Spark; install inference-schema and pyspark, and set "
    "EDGEPACK_INFERENCE_SCHEMA=installed"
)

_MODEL = "edge_server.compat.azure_model"
_RUN = "edge_server.compat.azure_run:Run"
_REQUEST = "edge_server.scripts.raw_requests:AMLRequest"
_RESPONSE = "edge_server.scripts.raw_responses:AMLResponse"
_RAWHTTP = "edge_server.scripts.rawhttp:rawhttp"
_COLLECTOR = "edge_server.collection.collector:ModelDataCollector"
_NEW = "edge_server.collection.named_collector"
_ERRORS = {name: f"{_MODEL}:{name}" for name in ("ModelNotFoundException", "WebserviceException")}

# Modules of ours: what each name in them is. Those of ALWAYS win over installed ones.
OURS: dict[str, dict[str, str]] = {
    "azureml": {},
    "azureml.core": {"Model": f"{_MODEL}:Model", "Run": _RUN},
    CORE_MODEL: {"Model": f"{_MODEL}:Model", **_ERRORS},
    "azureml.core.run": {"Run": _RUN},
    "azureml.exceptions": {"AzureMLException": f"{_MODEL}:AzureMLException", **_ERRORS},
    "azureml.contrib": {},
    SERVICES: {},
    f"{SERVICES}.aml_request": {"AMLRequest": _REQUEST, "rawhttp": _RAWHTTP},
    f"{SERVICES}.aml_response": {"AMLResponse": _RESPONSE},
    SERVER: {},
    f"{SERVER}.api": {},
    f"{SERVER}.api.aml_request": {"AMLRequest": _REQUEST, "rawhttp": _RAWHTTP},
    f"{SERVER}.api.aml_response": {"AMLResponse": _RESPONSE},
    MONITORING: {"ModelDataCollector": _COLLECTOR},
    f"{MONITORING}.modeldatacollector": {"ModelDataCollector": _COLLECTOR},
    "azureml.ai": {},
    NEW_MONITORING: {"Collector": f"{_NEW}:Collector"},
    f"{NEW_MONITORING}.collector": {"Collector": f"{_NEW}:Collector"},
    f"{NEW_MONITORING}.context": {
        name: f"{_NEW}:{name}" for name in ("BasicCorrelationContext", "CorrelationContext", "get_context")
    },
    "azureml.train": {},
    "azureml.train.automl": {},
}
WHOLE = (SERVICES, MONITORING, NEW_MONITORING, SERVER)
ALWAYS = frozenset(name for name in OURS if f"{name}.".startswith(tuple(f"{whole}." for whole in WHOLE)))
INSTALL = {"azureml.train.automl": "azureml-train-automl-runtime", "azureml.train": "azureml-train-core"}
