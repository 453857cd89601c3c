"""All classes of services; each is known by the kind of its target once it is imported."""

from __future__ import annotations

from packager.sdk.webservice.aci import AciWebservice
from packager.sdk.webservice.aks import AksWebservice
from packager.sdk.webservice.endpoint import AksEndpoint
from packager.sdk.webservice.local import LocalWebservice
from packager.sdk.webservice.service import Webservice

__all__ = ["AciWebservice", "AksEndpoint", "AksWebservice", "LocalWebservice", "Webservice"]
