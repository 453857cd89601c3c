"""Smaller or faster forms of a proven ONNX model, each measured here and held to a tolerance that it states."""

from converters.optimize.choice import optimize

__all__ = ["optimize"]
