"""Operators of TorchScript that cannot be carried out again in Python."""

from __future__ import annotations


class UnsupportedOperatorError(NotImplementedError):
    """An archive uses ``operator``, such as ``aten::index_put_``, in a way that is not supported."""

    def __init__(self, operator: str, what: str = "is not supported") -> None:
        self.operator = operator
        super().__init__(f"the operator '{operator}' of TorchScript {what}")


def unsupported(error: BaseException) -> str | None:
    """The unsupported operator that caused ``error``, which torch may have raised from ours; ``None`` for others."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UnsupportedOperatorError):
            return cause.operator
        cause = cause.__cause__
    return None
