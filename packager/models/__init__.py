"""The model registry: what was registered, its files as layers, its conversion to ONNX."""
