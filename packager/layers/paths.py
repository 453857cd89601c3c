"""Where things lie in an image, relative to its root."""

from __future__ import annotations

PREFIX = "opt/edgepack"
SERVER_ROOT = f"{PREFIX}/server"
CONFIG_PATH = f"{PREFIX}/service.json"
# Azure's images have code and models here, and entry scripts look for them here.
APP_ROOT = "var/azureml-app"
MODELS_ROOT = f"{APP_ROOT}/azureml-models"
# Numeric, so that a platform that forbids root can tell without reading /etc/passwd.
USER = "10001:10001"


def model_dir(name: str, version: int) -> str:
    """Where version ``version`` of model ``name`` lies."""
    return f"{MODELS_ROOT}/{name}/{version}"


def site_packages(python_version: str) -> str:
    """Where wheels are installed for Python ``python_version`` (such as ``3.11``)."""
    return f"{PREFIX}/lib/python{python_version}/site-packages"
