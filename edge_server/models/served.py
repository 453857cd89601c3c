"""What the inference protocols, V1 and V2, ask of the service without code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from edge_server.http.messages import Answer

if TYPE_CHECKING:
    from edge_server.models.catalog import Catalog
    from edge_server.models.running.call import ModelCall
    from edge_server.models.running.onnx_model import OnnxModel


class Models(Protocol):
    """The service without code; ``edge_server.models.service.ModelService`` is one."""

    @property
    def catalog(self) -> Catalog[Any]: ...

    def infer(
        self,
        name: str | None,
        version: int | None,
        read: Callable[[OnnxModel], ModelCall],
        *,
        size: int = 0,
        request_id: str = "",
    ) -> Answer:
        """Run the call that ``read`` makes of a request of ``size`` bytes, for the model of that name and version."""
