"""TensorFlow and Keras -> ONNX."""
