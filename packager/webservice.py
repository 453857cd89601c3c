"""Services, as ``azureml.core.webservice`` has them."""

from __future__ import annotations

from packager.sdk.webservice.kinds import AciWebservice, AksWebservice, LocalWebservice, Webservice

__all__ = ["AciWebservice", "AksWebservice", "LocalWebservice", "Webservice"]
