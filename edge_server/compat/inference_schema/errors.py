"""The error for values of a request that do not fit."""

from __future__ import annotations


class InvalidInput(ValueError):  # noqa: N818 - it is about a request, not about the script
    """A value does not fit the sample; the message names the parameter, the row and the column, as far as known."""
