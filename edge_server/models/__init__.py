"""ONNX models: their requests and answers, and how they are loaded, run and unloaded."""
