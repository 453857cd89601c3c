"""scikit-learn -> ONNX."""
