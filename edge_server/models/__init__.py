"""ONNX models: what they take and answer, how they are loaded, run and let go."""
