"""The comparison of the ONNX model with the original: inputs, runs, differences, the verdict."""
