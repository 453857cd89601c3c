"""ONNX -> checked and described ONNX."""
