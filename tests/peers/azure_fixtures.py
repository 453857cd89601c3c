"""The fixtures of the tests of ``azureml-inference-server-http``, in place of their ``conftest.py``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.azure_server import Settings, TestingApp, TestingClient, application


@pytest.fixture
def config() -> Settings:
    """The settings of the next application."""
    return Settings()


@pytest.fixture
def app(config: Settings) -> Iterator[TestingApp]:
    """A server."""
    with application(config) as made:
        yield made


@pytest.fixture
def client(app: TestingApp) -> TestingClient:
    """Its client."""
    return app.test_client()


@pytest.fixture
def app_cors(config: Settings) -> Iterator[TestingApp]:
    """A server that pages of two hosts may call."""
    config.cors_origins = "www.microsoft.com,  www.bing.com"
    with application(config) as made:
        yield made
