"""The parity report as a page for people."""

from converters.report.page import render

__all__ = ["render"]
