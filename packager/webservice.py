"""Services, as ``azureml.core.webservice`` has them."""

from __future__ import annotations

from packager.sdk.webservice.kinds import AciWebservice, AksEndpoint, AksWebservice, LocalWebservice, Webservice

__all__ = ["AciWebservice", "AksEndpoint", "AksWebservice", "LocalWebservice", "Webservice"]
